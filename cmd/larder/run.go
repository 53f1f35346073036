package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/stats"
)

// What a shell answers for a command that it cannot start, or find.
const (
	exitCannotStart = 126
	exitNotFound    = 127
)

func runCommand() cli.Command {
	return cli.Command{
		Name:  "run",
		Args:  "-- CMD [ARG...]",
		Short: "run a command with the cache on, then say what the cache did",
		Long: `Every go command that CMD starts, itself included, uses Larder: run sets
GOCACHEPROG for it to this very program with the flags given here, and so does
golangci-lint (GOLANGCI_LINT_CACHEPROG, if that is not set). The summary
goes to standard error, and in GitHub Actions to the step's page too; the exit
code is CMD's own.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			flags := config.AddFlags(fs)
			asJSON := fs.Bool("json", false, "print the summary as one line of JSON")
			metrics := fs.String("metrics", "", "also write it to `FILE` as OpenMetrics text, such as a metrics report of GitLab")
			return func(ctx context.Context, args []string) error {
				if len(args) == 0 {
					return &cli.HintError{Err: &cli.UsageError{What: "no command to run"}, Hint: "for example: larder run -- go build ./..."}
				}
				return run(ctx, flags, args, *asJSON, *metrics)
			}
		},
	}
}

func run(ctx context.Context, flags *config.Flags, args []string, asJSON bool, metricsFile string) error {
	ran, err := runWith(ctx, flags, args)
	if err != nil {
		return err
	}
	writeRun(ran.total, ran.took, asJSON)
	reportRun(args, ran.total, ran.took, metricsFile)
	flushRun(ctx, flags, ran.before)
	return ran.exit()
}

// golangciVariable is what golangci-lint has instead of GOCACHEPROG, for its own results
// (internal/go/cache/default_gcil.go in v2.15.0). Staticcheck uses GOCACHEPROG.
const golangciVariable = "GOLANGCI_LINT_CACHEPROG"

// A ran is a command that has been run with the cache on.
type ran struct {
	code  int // the command's exit code
	took  time.Duration
	total stats.Total // of its sessions

	before session.Report // of the agent, when the command began
}

// exit is the error that ends this program as the command ended.
func (r ran) exit() error {
	if r.code != 0 {
		return &cli.ExitError{Code: r.code}
	}
	return nil
}

// runWith runs a command with the cache on, and more in its environment.
func runWith(ctx context.Context, flags *config.Flags, args []string, env ...string) (ran, error) {
	log, err := os.CreateTemp("", "larder-run-*.jsonl")
	if err != nil {
		return ran{}, fmt.Errorf("make a file for the run's sessions: %w", err)
	}
	log.Close()
	defer os.Remove(log.Name())
	prog, err := ownCommand(flags)
	if err != nil {
		return ran{}, err
	}

	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(append(os.Environ(), "GOCACHEPROG="+prog, config.RunLogVariable+"="+log.Name()), env...)
	if _, set := os.LookupEnv(golangciVariable); !set {
		cmd.Env = append(cmd.Env, golangciVariable+"="+prog)
	}
	r := ran{before: uploadsSoFar(ctx, flags)}
	begin := time.Now()
	if r.code, err = wait(cmd); err != nil {
		return r, err
	}
	r.took = time.Since(begin)
	sessions, err := stats.ReadFile(log.Name())
	if err != nil {
		return r, fmt.Errorf("read the run's sessions: %w", err)
	}
	for _, s := range sessions {
		r.total.Add(s)
	}
	return r, nil
}

// ownCommand is the GOCACHEPROG that starts this program with the given flags.
func ownCommand(flags *config.Flags) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's own file: %w", err)
	}
	prog, err := cacheprog.JoinCommand(append([]string{self}, flags.Args()...))
	if err != nil {
		return "", fmt.Errorf("write GOCACHEPROG: %w", err)
	}
	return prog, nil
}

// wait runs cmd to its end and returns its exit code. Signals that ask this
// program to end are passed on, and the summary is still printed.
func wait(cmd *exec.Cmd) (code int, err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		signal.Stop(signals)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return 0, &cli.ExitError{Code: exitNotFound, Err: fmt.Errorf("%s: command not found", cmd.Path)}
		}
		return 0, &cli.ExitError{Code: exitCannotStart, Err: err}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			// At a terminal, Ctrl-C has reached the command already.
			if s != os.Interrupt || !cli.IsTerminal(os.Stdin) {
				cmd.Process.Signal(s)
			}
		case err := <-ended:
			signal.Stop(signals)
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 0, &cli.ExitError{Code: exitCannotStart, Err: err}
			}
			return exitCode(cmd.ProcessState), nil
		}
	}
}

// exitCode is the code that a shell would show: 128 and the signal's number for
// a process that a signal ended.
func exitCode(s *os.ProcessState) int {
	if status, ok := s.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return s.ExitCode()
}

// runFlushLimit bounds what uploading may add to a run: a CI job's machine is gone
// after it, and somebody waits for the job.
const runFlushLimit = 2 * time.Minute

// flushRun waits until what the run has made is uploaded, and says what was, since
// before, and what is left.
func flushRun(ctx context.Context, flags *config.Flags, before session.Report) {
	cfg, ok := uploading(flags)
	if !ok {
		return
	}
	report, err := flush(ctx, cfg, runFlushLimit, &before, sayLine)
	if err != nil {
		fmt.Fprintf(os.Stderr, "larder: %v\n", err)
	} else if report.Uploaded > 0 {
		fmt.Fprintf(os.Stderr, "larder: %s\n", uploadSummary(report))
	}
}

func writeRun(total stats.Total, took time.Duration, asJSON bool) {
	if asJSON {
		json.NewEncoder(os.Stderr).Encode(struct {
			stats.Total
			TookSeconds float64 `json:"took_seconds"`
		}{total, took.Seconds()})
		return
	}
	if total.Sessions == 0 {
		fmt.Fprintf(os.Stderr, "larder: no go command used the cache; Larder needs Go 1.24 or later (larder doctor says more)\n")
		return
	}
	writeSummary(os.Stderr, "larder: ", total)
	fmt.Fprintf(os.Stderr, "larder: the command took %s\n", seconds(took.Seconds()))
}
