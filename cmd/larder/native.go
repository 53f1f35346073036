package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/gocommand"
	"github.com/larder-build/larder/internal/helper"
	"github.com/larder-build/larder/internal/native"
	"github.com/larder-build/larder/internal/session"
)

// Native mode: go commands run without a helper, between a pull and a push. The
// remote's trouble is never theirs: pull and push say it and end well, since a step
// about the cache must not fail a job.

// A nativeBuild is a go command that runs natively.
type nativeBuild struct {
	gocommand.Command
	dir   string // where it is run
	store string // its GOCACHE
	prog  string // its GOCACHEPROG: "" if it does run natively
	tools string // the directory of its tools
	kind  helper.Kind
}

// findBuild asks the go command what a session of this command would see.
func findBuild(ctx context.Context, command gocommand.Command, dir string) (nativeBuild, error) {
	b := nativeBuild{Command: command, dir: dir}
	in := command.Dir(dir)
	env, err := goEnv(ctx, command.Args[0], in, append([]string{"GOCACHE", "GOCACHEPROG", "GOTOOLDIR"}, helper.KindVariables()...)...)
	if err != nil {
		return b, fmt.Errorf("run %s env: %w", command.Args[0], err)
	}
	b.store, b.prog, b.tools = env["GOCACHE"], env["GOCACHEPROG"], env["GOTOOLDIR"]
	if b.store == "" || b.store == "off" {
		return b, errors.New("the go command has no GOCACHE")
	}
	b.kind = helper.KindOf(command.Args, in, func(name string) string {
		if value := env[name]; value != "" {
			return value
		}
		return os.Getenv(name) // a variable of another architecture
	})
	return b, nil
}

// A nativeRun is what pull and push begin with.
type nativeRun struct {
	what   string // "pull" or "push"
	cfg    config.Config
	remote session.Remote
	place  session.Place
	dir    string
	begun  time.Time
}

// newNativeRun returns what pull and push begin with. It is not ok if there is
// nothing to be done, which it has said then.
func newNativeRun(what string, flags *config.Flags) (run nativeRun, ok bool, err error) {
	run = nativeRun{what: what, begun: time.Now()}
	cfg, problems := config.Load(flags, os.Environ())
	for _, p := range problems {
		sayLine(p.String())
	}
	run.cfg = cfg
	if run.dir, err = os.Getwd(); err != nil {
		return run, false, err
	}
	if run.remote, ok = remoteOf(cfg); !ok {
		why := "no remote is set: set LARDER_REMOTE to the team's server, such as https://larder.example.com:7070"
		if cfg.Remote != "" {
			why = "the remote is off (LARDER_MODE=off)"
		}
		run.say(why)
		return run, false, nil
	}
	if run.place, err = session.FindPlace(); err != nil {
		run.say(err.Error())
		return run, false, nil
	}
	return run, true, nil
}

func (r nativeRun) say(line string) { sayLine(r.what + ": " + line) }

// marks are those of a store.
func (r nativeRun) marks(store string) native.Marks {
	return native.OpenMarks(r.place, store, r.remote, r.begun)
}

// builds are the go commands that were named, or else those that were pulled or
// pushed before in this directory. A UsageError says that there are none.
func (r nativeRun) builds(ctx context.Context, named []gocommand.Command) (builds []nativeBuild, err error) {
	if len(named) == 0 {
		found := r.marks(goCache()).In(r.dir)
		for _, key := range slices.Sorted(maps.Keys(found)) {
			if command, err := gocommand.Parse(found[key].Args); err == nil {
				named = append(named, command)
			}
		}
		slices.SortStableFunc(named, func(a, b gocommand.Command) int { return strings.Compare(a.String(), b.String()) })
	}
	if len(named) == 0 {
		return nil, noCommand(r.what, errors.New("no go command is named, and none was here before"))
	}
	for _, command := range named {
		b, err := findBuild(ctx, command, r.dir)
		if err != nil {
			r.say(fmt.Sprintf("%v: %v", command, err))
			continue
		}
		builds = append(builds, b)
	}
	return builds, nil
}

func noCommand(what string, err error) error {
	return &cli.HintError{Err: &cli.UsageError{What: err.Error()}, Hint: fmt.Sprintf("for example: larder %s -- go build ./...", what)}
}

// nativeCommand is the frame of pull and push.
func nativeCommand(c cli.Command, setup func(fs *flag.FlagSet, flags *config.Flags) func(ctx context.Context, run nativeRun, named []gocommand.Command) error) cli.Command {
	c.Args = "[-- go COMMAND [ARG...]]"
	c.Setup = func(fs *flag.FlagSet) cli.Run {
		flags := config.AddFlags(fs)
		do := setup(fs, flags)
		return func(ctx context.Context, args []string) error {
			var named []gocommand.Command
			if len(args) > 0 {
				command, err := gocommand.Parse(args)
				if err != nil {
					return noCommand(c.Name, err)
				}
				named = append(named, command)
			}
			run, ok, err := newNativeRun(c.Name, flags)
			if !ok {
				return err
			}
			return do(ctx, run, named)
		}
	}
	return c
}
