package remote

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Breaker keeps a server that fails out of the way of builds: after one failure
// nothing is asked of it any more, until a probe, for which no build waits, has
// succeeded. It is safe for concurrent use.
type Breaker struct {
	probe func(context.Context) error
	log   func(state string, why error, probe time.Duration)

	mu      sync.Mutex
	why     error // nil: closed, requests pass
	probing bool
	closed  time.Time // when a probe last succeeded
	ended   sync.WaitGroup
}

const (
	// firstProbe is how long after a failure the first probe comes; each next one
	// comes after twice the time, at last every lastProbe.
	firstProbe = time.Second
	lastProbe  = time.Minute
	// relapse is how soon after a probe has succeeded a stalled request means that
	// probes say little of this server: it answers them and lets builds wait. Then
	// they come every lastProbe, since each that succeeds costs a build StartLimit.
	relapse = time.Minute
)

// NewBreaker returns a closed breaker. log is told of each change, and how long
// after it the first probe comes.
func NewBreaker(probe func(context.Context) error, log func(state string, why error, probe time.Duration)) *Breaker {
	return &Breaker{probe: probe, log: log}
}

// Open is why requests do not pass at the moment, nil if they do.
func (b *Breaker) Open() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.why
}

// Fail opens the breaker, and starts probing until ctx ends.
func (b *Breaker) Fail(ctx context.Context, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := firstProbe
	if errors.Is(why, ErrStalled) && time.Since(b.closed) < relapse {
		first = lastProbe
	}
	if b.why == nil {
		b.log("open", why, first)
	}
	b.why = why
	if b.probing || ctx.Err() != nil {
		return
	}
	b.probing = true
	b.ended.Add(1)
	go func() {
		defer b.ended.Done()
		b.probeUntilUp(ctx, first)
	}()
}

func (b *Breaker) probeUntilUp(ctx context.Context, first time.Duration) {
	for wait := first; ; wait = min(2*wait, lastProbe) {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if err := b.probe(ctx); err == nil {
			break
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.why, b.probing, b.closed = nil, false, time.Now()
	b.log("closed", nil, 0)
}

// Wait waits for the probes to end, after the context of Fail has.
func (b *Breaker) Wait() { b.ended.Wait() }
