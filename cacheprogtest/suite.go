package cacheprogtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

// largeFactor makes the limit of checks with large bodies: 5 minutes for 500 MB is 2 MB/s.
const largeFactor = 30

// A check is a rule and what holds it.
type check struct {
	Rule
	run   func(t *trial)
	large bool // with a body of hundreds of megabytes
}

// A suite is a run of checks on one program.
type suite struct {
	Options
	args    []string // of Command
	nothing string   // why no session can begin, once that is known
}

func newSuite(o Options) (*suite, error) {
	s := &suite{Options: o}
	if s.Limit <= 0 {
		s.Limit = DefaultLimit
	}
	if s.sizes == (sizes{}) {
		s.sizes = sizes{big: 3_600_000, large: 500_000_000, memory: 300_000_000, clock: 1100 * time.Millisecond}
	}
	if s.Connect != nil {
		return s, nil
	}
	var err error
	if s.args, err = cacheprog.SplitCommand(s.Command); err == nil && len(s.args) == 0 {
		err = errors.New("no command")
	}
	return s, err
}

// A trial is one run of one check. Its methods end the check when they find what makes a verdict.
type trial struct {
	*suite
	ctx      context.Context
	limit    time.Duration
	current  string // name of the check
	work     string // directory of the trial
	dir      string // in work: the program's store
	sessions []*session

	verdict Verdict
	detail  string
}

// ended is what a trial panics with when its verdict is there.
type ended struct{}

// run runs one check.
func (s *suite) run(ctx context.Context, c check) Result {
	r := Result{Rule: c.Rule, Verdict: Skipped}
	switch {
	case c.large && s.Short:
		r.Detail = "left out: large bodies"
		return r
	case s.nothing != "":
		r.Detail = "the program does not begin a session, see " + s.nothing
		return r
	}
	limit := s.Limit
	if c.large {
		limit *= largeFactor
	}
	begin := time.Now()
	work, err := os.MkdirTemp("", "cacheprogtest-")
	if err != nil {
		r.Detail = "no directory to work in: " + err.Error()
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	t := &trial{suite: s, ctx: ctx, limit: limit, current: c.Name, work: work, dir: filepath.Join(work, "store"), verdict: Pass}
	t.do(c.run)
	t.cleanUp()
	cancel()
	r.Verdict, r.Detail, r.Seconds = t.verdict, t.detail, time.Since(begin).Seconds()
	return r
}

// do calls the check, whose own mistakes must not end the suite either.
func (t *trial) do(run func(t *trial)) {
	defer func() {
		if v := recover(); v != nil && v != (ended{}) {
			t.verdict, t.detail = Fail, fmt.Sprintf("the check itself panicked: %v", v)
		}
	}()
	for _, dir := range []string{t.dir, t.goCache()} {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.skipf("no directory to work in: %v", err)
		}
	}
	run(t)
}

func (t *trial) goCache() string { return filepath.Join(t.work, "gocache") }

// end ends the trial.
func (t *trial) end(v Verdict, format string, args ...any) {
	t.verdict, t.detail = v, fmt.Sprintf(format, args...)
	panic(ended{})
}

func (t *trial) warnf(format string, args ...any) { t.end(Warning, format, args...) }
func (t *trial) skipf(format string, args ...any) { t.end(Skipped, format, args...) }

// failf ends the trial with a failure, with what the program had to say on standard error.
func (t *trial) failf(format string, args ...any) {
	detail := fmt.Sprintf(format, args...)
	if t.ctx.Err() != nil && !strings.Contains(detail, "within") {
		detail = fmt.Sprintf("not done within %v: %s", t.limit, detail)
	}
	if len(t.sessions) > 0 {
		if said := t.sessions[len(t.sessions)-1].stderrText(); said != "" {
			detail += "; its standard error: " + said
		}
	}
	t.end(Fail, "%s", detail)
}

// cleanUp ends all sessions and removes what they have left.
func (t *trial) cleanUp() {
	for _, s := range t.sessions {
		s.leave()
	}
	for range 5 { // a child that the program has left behind may still be writing
		if os.RemoveAll(t.work) == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// randomID returns an ID that no store has.
func randomID() (id [32]byte) {
	rand.Read(id[:]) // which never fails
	return id
}
