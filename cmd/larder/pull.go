package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/gocommand"
	"github.com/larder-build/larder/internal/native"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/store"
)

// pullLimit is how long a pull may take without the flag: most builds take less, so
// whoever waits for longer would have built meanwhile.
const pullLimit = 2 * time.Minute

func pullCommand() cli.Command {
	return nativeCommand(cli.Command{
		Name:  "pull",
		Short: "bring what a go command is expected to use into GOCACHE, to run it without a helper",
		Long: `What the last "go COMMAND" of this kind used, wherever it ran, and this machine
lacks, comes into the go command's own cache directory. The go command then runs
natively, with GOCACHEPROG unset, and "larder push" uploads what it made. For
several commands pull several times; without a command, all those are pulled again
that were named in this directory before. docs/native.md tells all of it.

A remote that is down, slow or wrong costs one line on stderr, and hits. The exit
code is 0 then too: the step must not fail a job. It is 2 for wrong usage only.`,
	}, func(fs *flag.FlagSet, _ *config.Flags) func(context.Context, nativeRun, []gocommand.Command) error {
		limit := fs.Duration("limit", pullLimit, "end after this `duration`, with what has come until then")
		older := fs.Bool("older", false, "also bring what only older builds of the kind used: other branches, perhaps")
		asJSON := fs.Bool("json", false, "print JSON, a line for each go command")
		return func(ctx context.Context, run nativeRun, named []gocommand.Command) error {
			limited, cancel := context.WithTimeout(ctx, *limit)
			defer cancel()
			builds, err := run.builds(ctx, named)
			for _, b := range builds {
				p := run.pull(limited, b, *older)
				if err := ctx.Err(); err != nil {
					return err // Ctrl-C
				}
				p.write(*asJSON)
			}
			return err
		}
	})
}

// A pulled is what a pull of one go command has brought.
type pulled struct {
	Command string  `json:"command"`
	Entries int64   `json:"entries"`
	Bytes   int64   `json:"bytes"` // as sent
	Planned int64   `json:"planned"`
	Seconds float64 `json:"seconds"`
	Problem string  `json:"problem,omitempty"`
}

func (p pulled) write(asJSON bool) {
	switch {
	case asJSON:
		json.NewEncoder(os.Stdout).Encode(p)
	case p.Entries > 0:
		fmt.Printf("pulled %s, %s, in %s for %s\n", countEntries(p.Entries), config.FormatSize(p.Bytes), seconds(p.Seconds), p.Command)
	case p.Problem == "":
		fmt.Printf("nothing to pull for %s: the server knows of nothing that is not here\n", p.Command)
	}
}

func countEntries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// pull pulls for one go command, and says what has gone wrong.
func (r nativeRun) pull(ctx context.Context, b nativeBuild, older bool) pulled {
	begin := time.Now()
	if b.prog != "" {
		r.say("GOCACHEPROG is set (" + b.prog + "), so go commands do not run natively; what is pulled is of use to them all the same")
	}
	s := store.Open(store.Options{Dir: b.store})
	defer s.Close()
	had := make(map[entry.ActionID]bool)
	s.Actions(ctx, func(id entry.ActionID) bool { had[id] = true; return true })

	report, said, err := r.fetch(ctx, b, older)
	p := pulled{
		Command: b.String(), Entries: report.Prefetched, Bytes: report.FetchedBytes, Planned: report.Planned,
		Seconds: time.Since(begin).Seconds(), Problem: pullProblem(report, err),
	}
	if p.Problem != "" && !said {
		r.say(p.Problem + "; the build makes the rest itself")
	}

	came := make(map[entry.ActionID]time.Time)
	s.Actions(context.Background(), func(id entry.ActionID) bool {
		if !had[id] {
			if o, err := s.Get(id); err == nil {
				came[id] = o.Time
			}
		}
		return true
	})
	known := err == nil && report.Problem+report.Breaker == "" // what came and was refused is to be put anew
	mark := native.Mark{Begun: begin, Known: known, Dir: r.dir, Args: b.Args}
	if err := r.marks(b.store).Set(b.kind.Key(), mark, came); err != nil {
		r.say(err.Error() + "; a push may upload more than is needed")
	}
	return p
}

// pullProblem is why not all has come, "" if it has.
func pullProblem(report session.Report, err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("the limit of time (-limit) is over when %d of %s have come", report.Prefetched, countEntries(report.Planned))
	case err != nil:
		return err.Error()
	case report.Problem != "":
		return report.Problem
	case report.Breaker != "":
		return report.Breaker
	case report.Errors > 0:
		return fmt.Sprintf("%s could not be used", countEntries(report.Errors))
	}
	return ""
}

// fetch has the agent bring in what the build is expected to use, and shows how it
// gets on. said reports whether the agent has said something to the user.
func (r nativeRun) fetch(ctx context.Context, b nativeBuild, older bool) (report session.Report, said bool, err error) {
	var lines atomic.Int64
	hello := session.Hello{
		Version: cli.Version(), Store: b.store, Remote: r.remote,
		Manifest: b.kind.Key(), Project: b.kind.Module, Command: b.kind.Command(), Private: !r.cfg.Report,
		Pull: true, Older: older,
	}
	c, err := session.Connect(ctx, r.place, &session.Starter{Place: r.place, Larderd: r.cfg.Larderd}, hello, func(line string) {
		lines.Add(1)
		sayLine(line)
	})
	if err != nil {
		return report, false, err
	}
	defer c.Close()
	bar := cli.NewProgress(os.Stderr, "pull")
	defer bar.End()
	const steps = math.MaxInt16 // a bar counts in int, which may be of 32 bits
	report, err = c.Pull(ctx, func(p session.Report) {
		if p.PlannedBytes > 0 {
			bar.Set(int(steps*float64(p.FetchedBytes)/float64(p.PlannedBytes)), steps)
		}
	})
	return report, lines.Load() > 0, err
}
