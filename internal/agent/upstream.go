package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
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
	room    room
	resting atomic.Pointer[time.Time] // until when the server asks to be left alone; nil: it does not
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup

	mu          sync.Mutex
	refusal     *refusal // of uploads; nil: the server takes them, as far as is known
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
	o := remote.Options{URL: r.URL, TokenFile: r.TokenFile, CAFile: r.CAFile, ClientCert: r.ClientCert, ClientKey: r.ClientKey, Version: a.version}
	if a.tracer != nil {
		o.Traceparent = tracing.Parent
	}
	u := &upstream{
		agent: a, remote: r, alike: newAlike(r.Alike),
		flights: make(map[flightKey]*flight), said: make(map[string]time.Time),
		prefetching: make(map[prefetchKey]*prefetching),
	}
	o.Changed = u.tokenChanged
	client, err := remote.New(o)
	if err != nil {
		return nil, err
	}
	u.client = client
	u.ctx, u.cancel = context.WithCancel(a.ctx)
	u.breaker = remote.NewBreaker(client.Probe, func(state string, why error, probe time.Duration) {
		a.log.Info("breaker", "remote", r.URL, "state", state, "why", why, "probe_in", probe)
		if why == nil {
			a.uploads.look() // what has waited for the server to come back
		}
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
	if wait := restFor(err); wait > 0 {
		until := time.Now().Add(wait)
		u.resting.Store(&until)
		return // it is well, and says when to come again
	}
	u.breaker.Fail(u.ctx, err)
	var token *remote.TokenError
	var status *remote.StatusError
	switch {
	case errors.As(err, &token), errors.As(err, &status) && status.Status == http.StatusUnauthorized && status.Code != "":
		u.say("remote " + u.remote.URL + ": " + message(err) + "; going on without it; see LARDER_TOKEN_FILE")
	case status != nil && status.Code == "" && slices.Contains(refusals, status.Status):
		u.say(fmt.Sprintf("remote %s: status %d %s, said not by the server but by what stands between, a proxy or firewall; going on without it until that passes",
			u.remote.URL, status.Status, http.StatusText(status.Status)))
	case status != nil && status.Status == http.StatusForbidden:
		u.say("remote " + u.remote.URL + ": " + message(err) + "; going on without it")
	}
	var file *remote.CertificateError
	if errors.As(err, &file) {
		u.say("remote " + u.remote.URL + ": " + message(err) + "; going on without it; see " + file.Variable)
	}
}

// refusals are the statuses with which proxies and firewalls refuse.
var refusals = []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusUnavailableForLegalReasons}

const (
	// restDefault is for how long a server is left alone that has too much to do (429)
	// and does not say; restMax is what of its wishes is heeded.
	restDefault = time.Second
	restMax     = time.Minute
)

// restFor is for how long the answer that an error is asks to be left alone.
func restFor(err error) time.Duration {
	var status *remote.StatusError
	switch {
	case !errors.As(err, &status):
	case status.Status == http.StatusTooManyRequests:
		return min(max(status.RetryAfter, restDefault), restMax)
	case status.Status == http.StatusServiceUnavailable:
		return min(status.RetryAfter, restMax)
	}
	return 0
}

// closed is why nothing may be asked at the moment, nil if it may.
func (u *upstream) closed() error {
	if until := u.resting.Load(); until != nil && time.Now().Before(*until) {
		return errResting
	}
	return u.breaker.Open()
}

var errResting = errors.New("the server is busy and asks to be left alone for a moment")

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
	var file *remote.CertificateError
	if errors.As(err, &file) {
		return file.Error()
	}
	var status *remote.StatusError
	if errors.As(err, &status) && status.Message != "" {
		return status.Message
	}
	return err.Error()
}

// say says something to the users of this remote, but not again and again.
func (u *upstream) say(text string) { u.sayOf(text, text) }

// sayOf is say for a line that has numbers in it: of one topic one is enough.
func (u *upstream) sayOf(topic, text string) {
	u.mu.Lock()
	last, ok := u.said[topic]
	if ok && time.Since(last) < sayAgain {
		u.mu.Unlock()
		return
	}
	u.said[topic] = time.Now()
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
