package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/touch"
)

func touchCommand() cli.Command {
	return cli.Command{
		Name:  "touch",
		Args:  "[DIR]",
		Short: "make the times of a checkout's files tell their content, so that test results are shared",
		Long: `The go command takes a test's result from the cache only if the files that the
test reads have the times that they had. A fresh checkout's have not. Touch sets
the times of all that git tracks in the checkout that DIR (the working directory
by default) is in, to times between 1986 and 2020 that path and content decide.
It is for CI, right after the checkout; docs/touch.md says what it means for
tools that compare times. The exit code is 1 if a time could not be set.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			var o touchOptions
			fs.BoolVar(&o.dryRun, "n", false, "change nothing, only say what would be done")
			fs.BoolVar(&o.verbose, "v", false, "print each path whose time is set, with the time")
			fs.BoolVar(&o.json, "json", false, "print JSON")
			return func(ctx context.Context, args []string) error {
				if len(args) > 1 {
					return cli.NoArgs(args[1:])
				}
				dir := "."
				if len(args) == 1 {
					dir = args[0]
				}
				return touchCheckout(ctx, dir, o)
			}
		},
	}
}

type touchOptions struct{ dryRun, verbose, json bool }

func touchCheckout(ctx context.Context, dir string, o touchOptions) error {
	begin := time.Now()
	root, tracked, err := touch.Find(ctx, dir)
	if err != nil {
		return &cli.HintError{Err: err, Hint: "larder touch works in a checkout of a git repository; a DIR can be named"}
	}
	report, err := touch.Checkout(ctx, root, tracked, o.dryRun)
	if err != nil {
		return err
	}
	if len(report.Set) > 0 && !o.dryRun {
		if err := touch.Refresh(ctx, root); err != nil {
			sayLine(fmt.Sprintf("%v; the times are set, but the next git status will read every file", err))
		}
	}
	if o.json {
		if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
			return err
		}
	} else {
		writeTouched(report, time.Since(begin), o)
	}
	for _, what := range report.Failed {
		sayLine("touch: " + what)
	}
	if len(report.Failed) > 0 {
		return &cli.ExitError{Code: cli.ExitFail}
	}
	return nil
}

func writeTouched(r touch.Report, took time.Duration, o touchOptions) {
	if o.verbose {
		for _, c := range r.Set {
			fmt.Printf("%s  %s\n", c.Time.Format("2006-01-02T15:04:05.000000Z"), c.Path)
		}
	}
	did := "set"
	if o.dryRun {
		did = "would set"
	}
	fmt.Printf("%s %s in %s (files: %d, links: %d, directories: %d); %d were right already", did,
		count(int64(len(r.Set)), "time"), r.Root, r.Count(touch.File), r.Count(touch.Link), r.Count(touch.Directory), r.Right)
	if r.Absent > 0 {
		fmt.Printf("; %d tracked are not there", r.Absent)
	}
	fmt.Printf(" (%s)\n", seconds(took.Seconds()))
}
