//go:build unix

package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Suffer has a machine visit while a fault is on, and again when it is over.
func (l *Lab) Suffer(ctx context.Context, m *Machine, f Fault, r *rand.Rand) error {
	begin := time.Now()
	end, err := f.Begin(ctx, l, m, r)
	if err != nil {
		return fmt.Errorf("%v: begin: %w", f, err)
	}
	err = m.Visit(ctx)
	if f.Fails && ctx.Err() == nil && !errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	took := time.Since(begin)
	if endErr := end(); endErr != nil {
		return fmt.Errorf("%v: end: %w", f, errors.Join(err, endErr))
	}
	if err != nil {
		return fmt.Errorf("%v: %w", f, err)
	}
	if err := m.Visit(ctx); err != nil {
		return fmt.Errorf("after %v: %w", f, err)
	}
	if f.Damages {
		m.larder(ctx, "larder", "verify") // its exit code says that there was damage
	}
	if err := m.CheckWarm(ctx); err != nil {
		return fmt.Errorf("after %v: %w", f, err)
	}
	l.say("%v: %.1f s, and %.1f s afterwards", f, took.Seconds(), (time.Since(begin) - took).Seconds())
	return nil
}

// Each has every fault suffered once, by a machine of its own that then uploads
// what it has made, and reports all that was wrong.
func (l *Lab) Each(ctx context.Context, seed uint64, match func(Fault) bool) (report Report, err error) {
	for i, f := range Faults() {
		if !match(f) {
			continue
		}
		report.Faults++
		report.Visits += 3
		m, machineErr := l.Machine(false)
		if machineErr != nil {
			return report, machineErr
		}
		one := l.Suffer(ctx, m, f, rand.New(rand.NewPCG(seed, uint64(i))))
		if one == nil {
			one = m.Flush(ctx)
		}
		if one = errors.Join(one, m.Remove(ctx)); one != nil {
			l.say("%v: %v", f, one)
			err = errors.Join(err, one)
		}
		if ctx.Err() != nil {
			return report, errors.Join(err, ctx.Err())
		}
	}
	return report, errors.Join(err, l.checkServed(ctx))
}

// A Report is what a soak did.
type Report struct {
	Visits, Faults int64
}

// Run has a number of machines visit, side by side, for a time, with faults at
// random, and stops at the first thing that is wrong. What is random comes from
// the seed; how machines interleave does not.
func (l *Lab) Run(ctx context.Context, machines int, seed uint64, length time.Duration) (Report, error) {
	faults := Faults()
	var (
		report  Report
		visits  atomic.Int64
		suffers atomic.Int64
		shared  sync.Mutex // one fault at a time of those that concern all
		wg      sync.WaitGroup
		errs    = make([]error, machines)
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	until := time.Now().Add(length)
	for i := range machines {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for errs[i] == nil && ctx.Err() == nil && time.Now().Before(until) {
				errs[i] = l.life(ctx, r, func(m *Machine) error {
					f := faults[r.IntN(len(faults))]
					if !f.Local() {
						shared.Lock()
						defer shared.Unlock()
					}
					visits.Add(3)
					suffers.Add(1)
					return l.Suffer(ctx, m, f, r)
				})
			}
			if errs[i] != nil {
				cancel()
			}
		}()
	}
	wg.Wait()
	report.Visits, report.Faults = visits.Load(), suffers.Load()
	if err := firstCause(errs); err != nil {
		return report, err
	}
	return report, l.checkServed(ctx)
}

// firstCause leaves out those that only heard of another one's error.
func firstCause(errs []error) error {
	var causes []error
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			causes = append(causes, err)
		}
	}
	return errors.Join(causes...)
}

// life is a machine's, from its first boot to its end.
func (l *Lab) life(ctx context.Context, r *rand.Rand, suffer func(*Machine) error) (err error) {
	const visitsMax = 4
	m, err := l.Machine(r.IntN(4) == 0)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil { // else there is something to look at
			err = m.Remove(context.WithoutCancel(ctx))
		}
	}()
	for range 1 + r.IntN(visitsMax) {
		if err := suffer(m); err != nil {
			return fmt.Errorf("machine %s: %w", m.home, err)
		}
	}
	return nil
}

// checkServed fails unless, when all is over, one machine can build from what
// another has uploaded.
func (l *Lab) checkServed(ctx context.Context) error {
	one, err := l.Machine(true)
	if err != nil {
		return err
	}
	if err := errors.Join(one.Visit(ctx), one.Flush(ctx)); err != nil {
		return fmt.Errorf("when all was over: %w", err)
	}
	two, err := l.Machine(true)
	if err != nil {
		return err
	}
	if err := two.CheckServed(ctx); err != nil {
		return fmt.Errorf("when all was over, a new machine: %w", err)
	}
	return errors.Join(one.Remove(ctx), two.Remove(ctx))
}
