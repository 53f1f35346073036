package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/explain"
	"github.com/larder-build/larder/internal/gocommand"
)

func explainCommand() cli.Command {
	return cli.Command{
		Name:  "explain",
		Args:  "-- go COMMAND [ARG...]",
		Short: "run a go command with the cache on, then say why it missed",
		Long: `Runs go build, install, run, test, vet or list as "larder run" does, and then
once more without building, running or testing anything, for the go command to say
what went into its action IDs. That is compared with what the last commands that
were explained used: which file, flag, variable, dependency or version changed, in
which package, and what missed because of it. docs/explain.md tells all of it.

To compare two machines or checkouts, -save on one and -against on the other. A
recording holds paths, flags and hashes, but no values of variables that tests read.

What is said goes to standard error; the exit code is the go command's own.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			e := explaining{flags: config.AddFlags(fs)}
			fs.BoolVar(&e.verbose, "v", false, "list all packages, and all that missed because of them")
			fs.BoolVar(&e.json, "json", false, "print one line of JSON")
			fs.StringVar(&e.save, "save", "", "write what was used to this `file`, for -against")
			fs.StringVar(&e.against, "against", "", "compare with this `file` of -save, instead of with the past")
			return func(ctx context.Context, args []string) error {
				command, err := gocommand.Parse(args)
				if err != nil {
					return &cli.HintError{Err: &cli.UsageError{What: err.Error()}, Hint: "for example: larder explain -- go build ./..."}
				}
				return e.run(ctx, command, args)
			}
		},
	}
}

type explaining struct {
	flags         *config.Flags
	verbose, json bool
	save, against string
}

func (e explaining) run(ctx context.Context, command gocommand.Command, args []string) error {
	var before []*explain.Recording
	if e.against != "" {
		r, err := explain.ReadRecording(e.against)
		if err != nil {
			return err
		}
		before = append(before, r)
	}
	scratch, err := os.MkdirTemp("", "larder-explain-")
	if err != nil {
		return fmt.Errorf("make a directory for the trace: %w", err)
	}
	defer os.RemoveAll(scratch)

	log := filepath.Join(scratch, "accesses")
	ran, err := runWith(ctx, e.flags, args, config.AccessLogVariable+"="+log)
	if err != nil {
		return err
	}
	if ran.without {
		return ran.exit()
	}
	if !e.json && !ran.uncounted {
		writeRun(ran.total, ran.took, false)
	}
	flushRun(ctx, e.flags, ran.before)

	question, recording, err := e.question(ctx, command, args, scratch)
	if err == nil {
		question.Accesses, err = readAccesses(log)
	}
	if err != nil {
		sayLine(fmt.Sprintf("explain: %v; there is nothing to explain", err))
		return ran.exit()
	}
	history := explain.OpenHistory(commandConfig(e.flags).Dir)
	if ran.code != 0 {
		recording.Fail(question.Accesses)
	}
	if question.Before = before; e.against == "" {
		question.Before = history.Load()
	}
	question.Against = e.against != ""
	answer := explain.Explain(question)
	if err := errors.Join(e.keep(history, recording)...); err != nil {
		sayLine(fmt.Sprintf("explain: %v; the next one cannot compare with this", err))
	}
	if e.json {
		if err := json.NewEncoder(os.Stderr).Encode(answer); err != nil {
			return err
		}
	} else {
		answer.Write(os.Stderr, explain.Style{Prefix: "larder: ", All: e.verbose, Against: e.against, First: len(question.Before) == 0})
	}
	return ran.exit()
}

// keep writes the recording to where it was asked for, and to the history.
func (e explaining) keep(history explain.History, r *explain.Recording) (errs []error) {
	if e.save != "" {
		errs = append(errs, r.Write(e.save))
	}
	return append(errs, history.Add(r))
}

// question runs the command for its trace, and makes of it what is to be explained.
func (e explaining) question(ctx context.Context, command gocommand.Command, args []string, scratch string) (explain.Question, *explain.Recording, error) {
	var q explain.Question
	pretend := pretendNothing
	if command.Pretends() {
		pretend = pretendTests
	}
	trace, err := traceCommand(ctx, e.flags, command, scratch, pretend)
	if _, gaveUp := os.Stat(filepath.Join(scratch, traceFile+gaveUpEnding)); err == nil && pretend != pretendNothing && gaveUp == nil {
		trace, err = traceCommand(ctx, e.flags, command, scratch, pretendNothing)
	}
	if err != nil {
		return q, nil, err
	}
	if trace.GoVersion == "" {
		return q, nil, errors.New("the go command has told nothing of its hashes")
	}
	if trace.Cut {
		sayLine("explain: the trace is too large to be kept whole; what is said about the last packages may be missing")
	}
	dir, _ := os.Getwd()
	r := &explain.Recording{Time: time.Now(), Dir: dir, Command: args, GoVersion: trace.GoVersion, Actions: trace.Actions}
	q.Now, q.Kinds, q.Disabled = r, trace.Kinds, trace.Disabled
	return q, r, nil
}

// traceFile is the trace's name in the scratch directory.
const traceFile = "trace"

// What the helper claims to have of a go command that is run for its trace: values of
// config.PretendVariable.
const (
	pretendNothing = ""
	pretendTests   = "tests" // all tests' results
	pretendKnown   = "known" // these, and it gives up if anything is to be compiled
)

// traceCommand runs a command for its trace. It may fail: what matters is what it says.
func traceCommand(ctx context.Context, flags *config.Flags, command gocommand.Command, scratch, pretend string) (*explain.Trace, error) {
	args := command.Traced(pretend != pretendNothing, filepath.Join(scratch, "written"))
	name := filepath.Join(scratch, traceFile)
	out, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	prog, err := ownCommand(flags)
	if err != nil {
		return nil, err
	}
	debug := "gocachehash=1,gocachetest=1"
	if own := os.Getenv("GODEBUG"); own != "" {
		debug = own + "," + debug
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = out // a file: what is written is there when the helper is asked
	cmd.Env = append(os.Environ(), "GOCACHEPROG="+prog, "GODEBUG="+debug, config.TraceVariable+"="+name, config.PretendVariable+"="+pretend)
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return nil, err
	}
	if _, err := out.Seek(0, 0); err != nil {
		return nil, err
	}
	return explain.ReadTrace(out)
}
