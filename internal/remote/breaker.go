package remote

import (
	"context"
	"sync"
	"time"
)

// A Breaker keeps a server that fails out of the way of builds: after one failure
// nothing is asked of it any more, until a probe, for which no build waits, has
// succeeded. It is safe for concurrent use.
type Breaker struct {
	probe func(context.Context) error
	log   func(state string, why error)

	mu      sync.Mutex
	why     error // nil: closed, requests pass
	probing bool
	ended   sync.WaitGroup
}

const (
	// firstProbe is how long after a failure the first probe comes; each next one
	// comes after twice the time, at last every lastProbe.
	firstProbe = time.Second
	lastProbe  = time.Minute
)

// NewBreaker returns a closed breaker. log is told of each change.
func NewBreaker(probe func(context.Context) error, log func(state string, why error)) *Breaker {
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
	if b.why == nil {
		b.log("open", why)
	}
	b.why = why
	if b.probing || ctx.Err() != nil {
		return
	}
	b.probing = true
	b.ended.Add(1)
	go func() {
		defer b.ended.Done()
		b.probeUntilUp(ctx)
	}()
}

func (b *Breaker) probeUntilUp(ctx context.Context) {
	for wait := firstProbe; ; wait = min(2*wait, lastProbe) {
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
	b.why, b.probing = nil, false
	b.log("closed", nil)
}

// Wait waits for the probes to end, after the context of Fail has.
func (b *Breaker) Wait() { b.ended.Wait() }
