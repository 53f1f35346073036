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
	"path/filepath"
	"syscall"
	"time"

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
code is CMD's own. CMD is run whatever Larder cannot set up: then one line says
what is missing, the summary or the cache.`,
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
	if !ran.without && !ran.uncounted {
		writeRun(ran.total, ran.took, asJSON)
		reportRun(args, ran.total, ran.took, metricsFile)
	}
	if !ran.without {
		flushRun(ctx, flags, ran.before)
	}
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

	without   bool           // it could not be given the cache
	uncounted bool           // its sessions could not be gathered
	before    session.Report // of the agent, when the command began
}

// exit is the error that ends this program as the command ended.
func (r ran) exit() error {
	if r.code != 0 {
		return &cli.ExitError{Code: r.code}
	}
	return nil
}

// runWith runs a command with the cache on, and more in its environment. What Larder
// cannot set up for it costs the cache or the summary, and is said in one line; the
// error is that the command cannot be started, or how it ended.
func runWith(ctx context.Context, flags *config.Flags, args []string, env ...string) (ran, error) {
	// A line to a stderr that nobody reads any more must not end this program before
	// its command. (Ignored, the signal would be ignored by the command too.)
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)

	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	prog, err := ownCommand(flags)
	if err != nil {
		sayLine(err.Error() + "; the command runs without the cache")
		code, err := wait(cmd)
		return ran{code: code, without: true}, err
	}
	log, err := makeRunLog(flags)
	if err != nil {
		sayLine(err.Error() + "; there will be no summary")
	} else {
		defer os.Remove(log)
	}
	cmd.Env = append(append(os.Environ(), "GOCACHEPROG="+prog, config.RunLogVariable+"="+log), env...)
	if _, set := os.LookupEnv(golangciVariable); !set {
		cmd.Env = append(cmd.Env, golangciVariable+"="+prog)
	}
	r := ran{before: uploadsSoFar(ctx, flags), uncounted: log == ""}
	begin := time.Now()
	if r.code, err = wait(cmd); err != nil {
		return r, err
	}
	r.took = time.Since(begin)
	if r.uncounted {
		return r, nil
	}
	sessions, err := stats.ReadFile(log)
	if err != nil {
		sayLine(fmt.Sprintf("read the run's sessions: %v; there is no summary", err))
		r.uncounted = true
	}
	for _, s := range sessions {
		r.total.Add(s)
	}
	return r, nil
}

// makeRunLog makes the file in which the run's sessions are gathered: in the directory
// for temporary files, or, where that is of no use, in Larder's own or the user's
// cache directory, if they are there.
func makeRunLog(flags *config.Flags) (path string, err error) {
	const pattern = "larder-run-*.jsonl"
	tmp, err := filepath.Abs(os.TempDir()) // helpers may have another working directory
	if err != nil {
		tmp = os.TempDir()
	}
	log, err := os.CreateTemp(tmp, pattern)
	if err != nil {
		cfg, _ := config.Load(flags, goEnviron()) // the helpers say what is wrong with it
		own := filepath.Join(cfg.Dir, "larder")
		os.Mkdir(own, 0o777) // a store that is not there is not made for this
		places := []string{own}
		if cache, err := os.UserCacheDir(); err == nil {
			places = append(places, cache)
		}
		for _, dir := range places {
			var otherErr error
			if log, otherErr = os.CreateTemp(dir, pattern); otherErr == nil {
				err = nil
				break
			}
		}
	}
	if err != nil {
		return "", fmt.Errorf("make a file for the run's sessions: %w", err)
	}
	log.Close()
	return log.Name(), nil
}

// wait runs cmd to its end and returns its exit code. Signals that ask this
// program to end are passed on, and the summary is still printed.
func wait(cmd *exec.Cmd) (code int, err error) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // under nohup the command ignores it too
		signal.Notify(signals, syscall.SIGHUP)
	}
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
			if cmd.ProcessState == nil {
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
