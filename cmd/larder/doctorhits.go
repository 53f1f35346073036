package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/doctor"
	"github.com/larder-build/larder/internal/gocommand"
	"github.com/larder-build/larder/internal/session"
)

// checkHits looks for what costs hits in the checkout in the working directory, for a
// go command as the arguments say.
func checkHits(ctx context.Context, flags *config.Flags, cfg config.Config, goEnv map[string]string, args []string) []cli.Finding {
	const check, remedy = "hits", "see to the directory for temporary files"
	scratch, err := os.MkdirTemp("", "larder-doctor-")
	if err != nil {
		return []cli.Finding{cli.Bad(check, remedy, "make a directory for the go command's trace: %v", err)}
	}
	defer os.RemoveAll(scratch)
	prog, err := ownCommand(flags)
	if err != nil {
		return []cli.Finding{cli.Bad(check, "", "%v", err)}
	}
	// The helper only answers from the store: what is asked here is nothing to count, to
	// keep, to upload or to trim for.
	unused := filepath.Join(scratch, "unused")
	if err := os.WriteFile(unused, nil, 0o600); err != nil {
		return []cli.Finding{cli.Bad(check, remedy, "make a file for the go command's trace: %v", err)}
	}
	environ := append(os.Environ(), "GOCACHEPROG="+prog, config.TraceVariable+"="+unused, config.PretendVariable+"="+pretendKnown)
	c := doctor.Look(ctx, goEnv, environ)
	c.Command = args[1:]
	c.Sharing = sharing(cfg)
	var remote session.Remote
	remote, c.Remote = remoteOf(cfg)
	c.Alike = remote.Alike
	if len(c.Packages) > 0 {
		lookAtTests(ctx, flags, c, args, scratch)
	}
	return doctor.Examine(ctx, c)
}

// sharing says in words who else uses what is built here; "" is nobody.
func sharing(cfg config.Config) string {
	if remote, ok := remoteOf(cfg); ok {
		return "the cache at " + remote.URL
	}
	if ci := os.Getenv("CI"); ci != "" && ci != "false" && ci != "0" {
		return "this is CI"
	}
	return ""
}

// traceLimit is how long the go command may take to say what tests read, which a
// person waits for. On 2 CPUs that had other work it said so of 170 packages a second.
const traceLimit = 4 * time.Second

// lookAtTests adds what tests read, from a run of the go command that compiles, links
// and runs nothing.
func lookAtTests(ctx context.Context, flags *config.Flags, c *doctor.Checkout, args []string, scratch string) {
	command, err := gocommand.Parse(args)
	switch {
	case err != nil || !command.Pretends():
		c.Seen = fmt.Sprintf("not looked at: go %s runs no tests", args[1])
		return
	case c.Uncached():
		c.Seen = "not looked at: the go command does not use test results"
		return
	}
	// vet does not decide about a test's result.
	command, err = gocommand.Parse(slices.Insert(slices.Clone(args), 2, "-vet=off"))
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, traceLimit)
	defer cancel()
	trace, err := traceCommand(ctx, flags, command, scratch, pretendKnown)
	if err != nil {
		c.Seen = fmt.Sprintf("what tests read is not known: %v", err)
		return
	}
	_, err = os.Stat(filepath.Join(scratch, traceFile+gaveUpEnding))
	c.AddTests(trace.Actions, err != nil && ctx.Err() == nil)
}
