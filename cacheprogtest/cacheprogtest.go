// Package cacheprogtest checks whether a program keeps the rules of GOCACHEPROG. It drives any cache program, in any language, as
// the go command does, and as it might.
//
// A test of a cache program is
//
//	func TestConformance(t *testing.T) {
//		cacheprogtest.Run(t, cacheprogtest.Options{Command: "./prog -dir={dir}", Short: testing.Short()})
//	}
//
// and "larder conform -- ./prog -dir={dir}" is the same as a command.
//
// # Promise
//
// Each check holds one rule. It starts the program anew, on a store of its own where the program can be told one, and tolerates
// breaches of the other rules as far as it can: one fault of a program is one check that fails. A program that hangs, dies or
// writes nonsense fails checks; it does not stop the suite, whose own time is bounded: each check has a limit.
//
// That a check fails when its rule is broken, and no other check does, is held by this package's own tests, with a program that
// breaks one rule at a time.
//
// # Verdicts
//
// [Fail] is for what breaks a go command, or gives it wrong bytes, or takes a path from it; [Warning] for what is only unwise: it
// costs hits, time or memory, or breaks other programs than the go command; [Skipped] for what cannot be seen with this program.
//
// # Trust
//
// The program runs with all rights of its caller, and files that it names are read.
package cacheprogtest

import (
	"context"
	"io"
	"time"
)

// A Verdict is a check's outcome.
type Verdict string

const (
	Pass    = Verdict("pass")    // the rule was kept
	Fail    = Verdict("fail")    // the rule was broken
	Warning = Verdict("warning") // what was seen is allowed, but unwise
	Skipped = Verdict("skipped") // nothing can be said
)

// DefaultLimit is how long a check may take: several times what any but the large ones take on a busy machine with a program
// that works, and twice what the go command waits before it complains of a slow start (cmd/go/internal/cache/prog.go,
// startCacheProg).
const DefaultLimit = 10 * time.Second

// Options say what to check, and how. One of Command and Connect is needed.
type Options struct {
	// Command starts the program, with its arguments split as the go command splits GOCACHEPROG (see [cacheprog.SplitCommand]).
	// Then {dir} in an argument is replaced by a directory that is empty when a check begins, for the program's store.
	Command string

	// Env is added to the environment of the program, each as NAME=VALUE, in which {dir} is replaced as well. GOCACHE names
	// another empty directory, as the go command sets GOCACHE for its cache program (cmd/go/main.go, invoke).
	Env []string

	// Connect stands for Command where there is no process: it connects to a new session of a program on the store in dir, and
	// is called again for each further session, perhaps while others are open. Closing requests tells the session that there are
	// no more; closing answers must end a read of it. Checks that need a process are skipped.
	Connect func(ctx context.Context, dir string) (answers io.ReadCloser, requests io.WriteCloser, err error)

	// Match chooses checks by their names; nil is for all.
	Match func(name string) bool

	// Short leaves out the checks with large bodies, which put 800 MB.
	Short bool

	// Limit is how long each check may take; zero is for [DefaultLimit]. The large ones have 30 times as much.
	Limit time.Duration

	// Done is told of each result as soon as there is one.
	Done func(Result)

	sizes sizes // zero, but in this package's own tests
}

// sizes are what makes checks slow.
type sizes struct {
	big    int64 // of a body that is more than pipes and buffers hold, so that when half of it is written some has been read
	large  int64 // of the largest body
	memory int64 // of the body that is put while memory is watched

	// clock is how far a hit's time may be from the put's, for stores that keep seconds and clocks of file systems; what is
	// to be told from the put's time comes twice as much later.
	clock time.Duration
}

// A Rule is what one check holds.
type Rule struct {
	Name   string `json:"name"`   // kebab-case, stable
	Rule   string `json:"rule"`   // one sentence
	Source string `json:"source"` // file and function in the Go tree, or in another program that is named
}

// A Result is what came of one check.
type Result struct {
	Rule
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail,omitempty"` // what was seen; empty for Pass
	Seconds float64 `json:"seconds"`
}

// A Report is what came of all checks that were chosen.
type Report struct {
	Program string   `json:"program"` // its command; "connection" if there is none
	Results []Result `json:"results"` // in the order of Rules
}

// Count returns how many results have a verdict.
func (r Report) Count(v Verdict) int {
	n := 0
	for _, result := range r.Results {
		if result.Verdict == v {
			n++
		}
	}
	return n
}

// Rules returns the rules of all checks, in the order in which they run.
func Rules() []Rule {
	rules := make([]Rule, 0, len(checks))
	for _, c := range checks {
		rules = append(rules, c.Rule)
	}
	return rules
}

// Check runs the checks, one after another, to the end or until ctx ends. Its error is about the options only, or ctx's.
func Check(ctx context.Context, o Options) (Report, error) {
	report := Report{Program: o.Command, Results: []Result{}}
	if o.Connect != nil {
		report.Program = "connection"
	}
	s, err := newSuite(o)
	if err != nil {
		return report, err
	}
	for _, c := range checks {
		if o.Match != nil && !o.Match(c.Name) {
			continue
		}
		result := s.run(ctx, c)
		if ctx.Err() != nil {
			return report, context.Cause(ctx)
		}
		report.Results = append(report.Results, result)
		if o.Done != nil {
			o.Done(result)
		}
	}
	return report, nil
}

// A Tester is what [Run] needs of a [testing.T], so that a program that only calls [Check] does not link package testing.
type Tester[T any] interface {
	Helper()
	Context() context.Context
	Run(name string, f func(t T)) bool
	Errorf(format string, args ...any)
	Logf(format string, args ...any)
	Skip(args ...any)
	Fatal(args ...any)
}

// Run runs each check as a subtest of t, which is a *[testing.T]. Warnings are logged.
func Run[T Tester[T]](t T, o Options) {
	t.Helper()
	s, err := newSuite(o)
	if err != nil {
		t.Fatal(err)
		return
	}
	for _, c := range checks {
		if o.Match != nil && !o.Match(c.Name) {
			continue
		}
		t.Run(c.Name, func(t T) {
			r := s.run(t.Context(), c)
			if o.Done != nil {
				o.Done(r)
			}
			switch r.Verdict {
			case Fail:
				t.Errorf("%s\n\trule: %s\n\tsource: %s", r.Detail, r.Rule.Rule, r.Source)
			case Warning:
				t.Logf("warning: %s\n\trule: %s\n\tsource: %s", r.Detail, r.Rule.Rule, r.Source)
			case Skipped:
				t.Skip(r.Detail)
			}
		})
	}
}
