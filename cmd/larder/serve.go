package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/helper"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/stats"
	"github.com/larder-build/larder/internal/store"
)

// serve is the helper: one go command's session, from the capabilities to what
// is done after the go command has gone. It returns the exit code.
func serve(args []string) int {
	in, out, err := cacheprog.Stdio()
	if err != nil {
		fmt.Fprintf(os.Stderr, "larder: take over standard output: %v\n", err)
		return 1
	}
	// The go command blocks until it has these, so they go before all else.
	if _, err := out.Write(cacheprog.Capabilities((*helper.Session)(nil))); err != nil {
		return 1 // nobody is there
	}
	// Ctrl-C reaches the whole process group. The go command then winds up, for
	// which it needs its cache; it ends the session itself. And a line to a
	// stderr that nobody reads any more must not end the program.
	signal.Ignore(os.Interrupt, syscall.SIGPIPE)

	completeEnviron()
	cfg, problems := loadConfig(args)
	if trace := os.Getenv(config.TraceVariable); trace != "" {
		return serveTrace(in, out, cfg, trace)
	}
	for _, p := range problems {
		fmt.Fprintf(os.Stderr, "larder: %v\n", p)
	}
	options := store.Options{Dir: cfg.Dir}
	s := store.Open(options)
	parts := helper.Options{Store: s, Costs: stats.OpenCosts(cfg.Dir)}
	kind := sync.OnceValue(helper.FindKind)
	addRemote(&parts, cfg, kind)
	accesses := noteAccesses(&parts)
	helping := helper.New(parts)
	ctx := context.Background()
	relax := answerPromptly()
	err = cacheprog.Serve(ctx, in, out, helping, &cacheprog.ServeOptions{CapabilitiesSent: true})
	relax()
	if err != nil && !errors.Is(err, syscall.EPIPE) {
		fmt.Fprintf(os.Stderr, "larder: %v; the session is over\n", err)
	}
	fallback, _ := s.Fallback()
	record := helping.Finish()
	if fallback != "" {
		fmt.Fprintf(os.Stderr, "larder: %s cannot be written (%s); this session's outputs went to %s and are not kept; run \"larder doctor\"\n", cfg.Dir, record.Fallback, fallback)
	}
	recordSession(cfg, record, helping)
	accesses()
	duty := store.TrimDuty(options, limits(cfg), record.PutBytes)
	tell := reporter(cfg, record, kind)
	if helping.Asked() {
		tell() // before who waits for the go command may flush
	}

	// The go command waits for the end of our output, and whoever started it
	// may wait for the end of its error output. What follows is not theirs. Nor
	// does it make files in the store, which may be what is removed next.
	out.Close()
	cacheprog.Detach()
	session.DropInherited()
	yieldToOthers()
	if !helping.Asked() {
		tell()
	}
	if cfg.Stats || os.Getenv(config.RunLogVariable) != "" {
		helping.Learn()
	}
	duty.Do(ctx)
	if err != nil {
		return 1
	}
	return 0
}

// environLimit is how long "go env" may take, which is 10 ms.
const environLimit = 5 * time.Second

// completeEnviron sets what the go command sets for its children (cmd/go/main.go,
// invoke), if another program has started the helper: a linter that keeps its own
// results through a cache program (golangci-lint, staticcheck). Without it what "go env
// -w" has set would not count, GOCACHE above all. If there is no go command, the
// environment stays as it is.
func completeEnviron() {
	if os.Getenv("GOCACHE") != "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), environLimit)
	defer cancel()
	values, err := goEnv(ctx, "go", "", append([]string{"GOCACHE"}, helper.KindVariables()...)...)
	if err != nil {
		return
	}
	for name, value := range values {
		os.Setenv(name, value)
	}
}

// loadConfig reads the settings, with the helper's flags. A wrong flag is one
// more problem, not an end.
func loadConfig(args []string) (config.Config, []config.Problem) {
	fs := flag.NewFlagSet("larder", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	flags := config.AddFlags(fs)
	err := fs.Parse(args)
	cfg, problems := config.Load(flags, os.Environ())
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err != nil {
		problems = append(problems, config.Problem{Setting: "flags", Source: "GOCACHEPROG", What: err.Error(), Instead: "ignoring it and what follows it"})
	}
	return cfg, problems
}

func limits(cfg config.Config) store.Limits {
	return store.Limits{MaxAge: cfg.MaxAge, MaxSize: cfg.MaxSize}
}

// addRemote gives a session its way to the remote, if there is one.
func addRemote(parts *helper.Options, cfg config.Config, kind func() helper.Kind) {
	remote, ok := remoteOf(cfg)
	if !ok {
		return
	}
	place, err := session.FindPlace()
	if err != nil {
		sayLine(err.Error() + "; this build goes on without the remote")
		return
	}
	parts.Link = &helper.Link{
		Place:   place,
		Starter: session.Starter{Place: place, Larderd: cfg.Larderd},
		Say:     sayLine,
		Hello: func() session.Hello {
			return session.Hello{
				Version: cli.Version(), Store: cfg.Dir, Remote: remote, Executables: cfg.Dir == os.Getenv("GOCACHE"),
				Manifest: kind().Key(), Project: kind().Module, Command: kind().Command(),
				Traceparent: traceparent(), Private: !cfg.Report,
			}
		},
		Outputs: func() []string { return kind().Outputs() },
	}
	if !remote.ReadOnly {
		parts.Job = &session.Job{Remote: remote, Store: cfg.Dir}
	}
}

// traceparentVariable is in which CI tools tell commands of the span that they are
// run in (opentelemetry.io/docs/specs/otel/context/env-carriers).
const traceparentVariable = "TRACEPARENT"

// traceparent is the span that this go command is run in; "" is none. What is far
// longer than one is none.
func traceparent() string {
	const most = 200
	if value := os.Getenv(traceparentVariable); len(value) <= most {
		return value
	}
	return ""
}

func sayLine(line string) { fmt.Fprintf(os.Stderr, "larder: %s\n", line) }

// remoteOf is the remote of the settings, if one is to be used.
func remoteOf(cfg config.Config) (session.Remote, bool) {
	if cfg.Remote == "" || cfg.Mode == config.Off {
		return session.Remote{}, false
	}
	return session.Remote{
		URL: cfg.Remote, TokenFile: cfg.TokenFile, CAFile: cfg.CAFile, ClientCert: cfg.ClientCert, ClientKey: cfg.ClientKey,
		ReadOnly: cfg.Mode == config.ReadOnly, Alike: alikeLabel(cfg.Alike),
	}, true
}

// reporter returns what tells the remote about the session. It finds out at once
// what cannot be found out once the go command has gone. A session in which
// nothing was asked for is not worth telling.
func reporter(cfg config.Config, s stats.Session, kind func() helper.Kind) (tell func()) {
	remote, ok := remoteOf(cfg)
	place, err := session.FindPlace()
	if !ok || err != nil || !cfg.Report || s.Gets+s.Puts == 0 {
		return func() {}
	}
	k := kind()
	return func() {
		machine, _ := os.Hostname()
		place.Leave(session.Notice{Remote: remote, Report: stats.Report{ // what cannot be written is dropped
			ID: stats.NewID(), Start: s.Start, Seconds: s.Seconds,
			Machine: stats.Clip(machine), Project: stats.Clip(k.Module), Command: stats.Clip(k.Command()),
			Go: stats.Clip(os.Getenv("GOVERSION")), Target: stats.Clip(os.Getenv("GOOS") + "/" + os.Getenv("GOARCH")),
			Version: stats.Clip(cli.Version()),
			Counts:  s.Counts, Breaker: stats.Clip(s.Breaker), Fallback: stats.Clip(s.Fallback),
		}})
	}
}

// recordSession adds the session to the store's log and, under "larder run", to
// the run's. What cannot be written is dropped: it is only about the build.
func recordSession(cfg config.Config, s stats.Session, helping *helper.Session) {
	s.Dir, _ = os.Getwd()
	s.Version = cli.Version()
	if path := os.Getenv(config.RunLogVariable); path != "" {
		stats.Append(path, s)
	}
	if cfg.Stats {
		log := stats.OpenLog(cfg.Dir)
		log.Add(s)
		built, more := helping.Built()
		log.AddBuilt(stats.Built{Start: s.Start, Dir: s.Dir, Entries: built, More: more})
	}
}
