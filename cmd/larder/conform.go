package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/cacheprogtest"
	"github.com/larder-build/larder/internal/cli"
)

// conformOptions are the flags of "larder conform".
type conformOptions struct {
	run    string // patterns
	env    list
	short  bool
	limit  time.Duration
	strict bool
	list   bool
	asJSON bool
	junit  string // file
}

// A list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

func conformCommand() cli.Command {
	return cli.Command{
		Name:  "conform",
		Args:  "-- PROG [ARG...]",
		Short: "check whether a cache program keeps the rules of GOCACHEPROG",
		Long: `PROG, any cache program, is started anew for each check. {dir} in its arguments
and in -env is replaced by a directory that is empty when a check begins; GOCACHE
names another. A program that has another store is checked on that.

The exit code is 0 if nothing failed, 1 if something did, 2 for wrong usage.
A warning is for what is allowed but unwise. docs/conform.md has all the rules.

For example:
  larder conform -- larder
  larder conform -short -junit conform.xml -- ./prog -cache-dir={dir}`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			var o conformOptions
			fs.StringVar(&o.run, "run", "*", "only the checks whose names match one of these `patterns`, as put-*,miss")
			fs.Var(&o.env, "env", "add `NAME=VALUE` to the program's environment; may be repeated")
			fs.BoolVar(&o.short, "short", false, "leave out the checks with large bodies, which put 800 MB")
			fs.DurationVar(&o.limit, "limit", cacheprogtest.DefaultLimit, "`time` for each check; 30 times as much for those with large bodies")
			fs.BoolVar(&o.strict, "strict", false, "have warnings count as failures in the exit code")
			fs.BoolVar(&o.list, "list", false, "print the checks with their rules, and run none")
			fs.BoolVar(&o.asJSON, "json", false, "print JSON")
			fs.StringVar(&o.junit, "junit", "", "write a report in JUnit's XML to `file` as well")
			return func(ctx context.Context, args []string) error {
				match, err := matcher(o.run)
				if err != nil {
					return &cli.UsageError{What: "-run: " + err.Error()}
				}
				if o.list {
					if err := cli.NoArgs(args); err != nil {
						return err
					}
					return listRules(os.Stdout, match, o.asJSON)
				}
				if len(args) == 0 {
					return &cli.HintError{Err: &cli.UsageError{What: "no program to check"}, Hint: "for example: larder conform -- larder"}
				}
				return conform(ctx, o, match, args)
			}
		},
	}
}

// matcher matches names by patterns of package path with commas between them. (Not by regular expressions: the helper, which is
// this same program, is not to link them.)
func matcher(patterns string) (func(name string) bool, error) {
	list := strings.Split(patterns, ",")
	for _, p := range list {
		if _, err := path.Match(p, ""); err != nil {
			return nil, fmt.Errorf("%q: %w", p, err)
		}
	}
	return func(name string) bool {
		for _, p := range list {
			if ok, _ := path.Match(p, name); ok {
				return true
			}
		}
		return false
	}, nil
}

func listRules(w io.Writer, match func(string) bool, asJSON bool) error {
	rules := []cacheprogtest.Rule{}
	for _, r := range cacheprogtest.Rules() {
		if match(r.Name) {
			rules = append(rules, r)
		}
	}
	if asJSON {
		return encode(w, rules)
	}
	for _, r := range rules {
		fmt.Fprintf(w, "%s\n  %s\n  %s\n", r.Name, r.Rule, r.Source)
	}
	return nil
}

func encode(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

func conform(ctx context.Context, o conformOptions, match func(string) bool, args []string) error {
	command, err := cacheprog.JoinCommand(args)
	if err != nil {
		return &cli.UsageError{What: "the go command cannot be told this program: " + err.Error()}
	}
	options := cacheprogtest.Options{Command: command, Env: o.env, Match: match, Short: o.short, Limit: o.limit}
	if !o.asJSON {
		options.Done = func(r cacheprogtest.Result) { printResult(os.Stdout, r) }
	}
	report, err := cacheprogtest.Check(ctx, options)
	if err != nil {
		return err
	}
	if len(report.Results) == 0 {
		return &cli.HintError{Err: &cli.UsageError{What: fmt.Sprintf("-run: no check matches %q", o.run)}, Hint: `run "larder conform -list" for their names`}
	}
	if o.asJSON {
		err = encode(os.Stdout, report)
	} else {
		printCounts(os.Stdout, report)
	}
	if err == nil && o.junit != "" {
		err = writeJUnit(o.junit, report)
	}
	if err != nil {
		return err
	}
	if report.Count(cacheprogtest.Fail) > 0 || o.strict && report.Count(cacheprogtest.Warning) > 0 {
		return &cli.ExitError{Code: cli.ExitFail}
	}
	return nil
}

// printResult prints a line for a result, and for one that is not good its rule, the rule's source, and what was seen.
func printResult(w io.Writer, r cacheprogtest.Result) {
	switch r.Verdict {
	case cacheprogtest.Pass:
		fmt.Fprintf(w, "pass     %s (%.2f s)\n", r.Name, r.Seconds)
	case cacheprogtest.Skipped:
		fmt.Fprintf(w, "skipped  %s: %s\n", r.Name, r.Detail)
	default:
		mark := "warning"
		if r.Verdict == cacheprogtest.Fail {
			mark = "FAIL   "
		}
		fmt.Fprintf(w, "%s  %s (%.2f s)\n         seen:   %s\n         rule:   %s\n         source: %s\n", mark, r.Name, r.Seconds, r.Detail, r.Rule.Rule, r.Source)
	}
}

func printCounts(w io.Writer, r cacheprogtest.Report) {
	fmt.Fprintf(w, "%d passed, %d failed, %d warnings, %d skipped\n",
		r.Count(cacheprogtest.Pass), r.Count(cacheprogtest.Fail), r.Count(cacheprogtest.Warning), r.Count(cacheprogtest.Skipped))
}
