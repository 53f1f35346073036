package agent

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/remote"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/store"
	"github.com/larder-build/larder/internal/tracing"
)

const (
	// costGuess is what an action is thought to cost to build before any is known:
	// the mean of the 1,018 packages of docs/benchmarks.md.
	costGuess = 150 * time.Millisecond
	// sayAgain is how long after a line for the user the same may be said again.
	sayAgain = time.Hour
)

// An upstream is one remote: what is known of it and what is on its way from it.
type upstream struct {
	agent   *agent
	remote  session.Remote
	alike   alike
	client  *remote.Client
	breaker *remote.Breaker
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mu          sync.Mutex
	uploadsOff  error // why the server takes no uploads; nil: it does, as far as is known
	filter      *manifest.Filter
	filterTag   string
	costs       float64 // seconds of building, summed over costed actions
	costed      float64
	flights     map[flightKey]*flight
	queue       []*flight // to be asked for with the next batch
	batches     int       // under way
	prefetching map[prefetchKey]*prefetching
	said        map[string]time.Time
	unsaid      []string
}

func newUpstream(a *agent, r session.Remote) (*upstream, error) {
	o := remote.Options{URL: r.URL, TokenFile: r.TokenFile, Version: a.version}
	if a.tracer != nil {
		o.Traceparent = tracing.Parent
	}
	client, err := remote.New(o)
	if err != nil {
		return nil, err
	}
	u := &upstream{
		agent: a, remote: r, client: client, alike: newAlike(r.Alike),
		flights: make(map[flightKey]*flight), said: make(map[string]time.Time),
		prefetching: make(map[prefetchKey]*prefetching),
	}
	u.ctx, u.cancel = context.WithCancel(a.ctx)
	u.breaker = remote.NewBreaker(client.Probe, func(state string, why error, probe time.Duration) {
		a.log.Info("breaker", "remote", r.URL, "state", state, "why", why, "probe_in", probe)
	})
	return u, nil
}

// close ends all that is under way, and waits for it.
func (u *upstream) close() {
	u.cancel()
	u.breaker.Wait()
	u.work.Wait()
	u.client.Close()
}

// failed notes that a request failed: this is where remote trouble becomes
// misses. ctx is the request's; what ended because of it says nothing.
func (u *upstream) failed(ctx context.Context, c *conn, err error) {
	if ctx.Err() != nil {
		return
	}
	if c != nil {
		c.counts.errors.Add(1)
		u.mu.Lock()
		c.problem = err
		u.mu.Unlock()
	}
	u.agent.log.Warn("request", "remote", u.remote.URL, "error", err)
	u.breaker.Fail(u.ctx, err)
	var token *remote.TokenError
	if remote.IsStatus(err, http.StatusUnauthorized, http.StatusForbidden) || errors.As(err, &token) {
		u.say("remote " + u.remote.URL + ": " + message(err) + "; going on without it; see LARDER_TOKEN_FILE")
	}
}

// problemOf is what went wrong for a session, "" if nothing did.
func (u *upstream) problemOf(c *conn) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c.problem == nil {
		return ""
	}
	return message(c.problem)
}

// message is the part of an error that a user can do something about.
func message(err error) string {
	var token *remote.TokenError
	if errors.As(err, &token) {
		return token.Error()
	}
	var status *remote.StatusError
	if errors.As(err, &status) && status.Message != "" {
		return status.Message
	}
	return err.Error()
}

// say says something to the users of this remote, but not again and again.
func (u *upstream) say(text string) {
	u.mu.Lock()
	last, ok := u.said[text]
	if ok && time.Since(last) < sayAgain {
		u.mu.Unlock()
		return
	}
	u.said[text] = time.Now()
	u.mu.Unlock()
	u.agent.log.Info("said", "text", text)
	if !u.agent.tell(u, text) {
		u.mu.Lock()
		u.unsaid = append(u.unsaid, text)
		u.mu.Unlock()
	}
}

// takeUnsaid returns what nobody was there to hear.
func (u *upstream) takeUnsaid() (texts []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	texts, u.unsaid = u.unsaid, nil
	return texts
}

// learn notes what the server has said with a plan or a filter: the session knows
// then what the server had when it began.
func (u *upstream) learn(c *conn, filter *manifest.Filter, tag string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if filter != nil {
		u.filter, u.filterTag = filter, tag
	}
	if tag != "" && tag == u.filterTag {
		c.filter = u.filter
	}
}

func (u *upstream) learnCosts(plan manifest.Plan) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, p := range plan {
		if p.Cost > 0 {
			u.costs += p.Cost.Seconds()
			u.costed++
		}
	}
}

// meanCost is what an action of which nothing is known is expected to cost. The
// caller holds mu.
func (u *upstream) meanCost() time.Duration {
	const few = 20
	if u.costed < few {
		return costGuess
	}
	return time.Duration(u.costs / u.costed * float64(time.Second))
}

// A flightKey is an action on its way into a store.
type flightKey struct {
	store  *store.Store
	action entry.ActionID
}

// A prefetchKey is a manifest whose entries are on their way into a store.
type prefetchKey struct {
	store *store.Store
	key   [32]byte
}

// A prefetching is a prefetch that is under way.
type prefetching struct {
	conn *conn         // whose it is
	over chan struct{} // closed when it has brought all, or will not
}
