// Package agent is the per-user daemon between helpers and a team server. It
// outlives the go commands, so it can keep connections, know what a server has
// and whether it is up, and upload after the fact.
//
// It promises the helpers that every question is answered, with no when in doubt,
// and soon: as long as there is progress, or at most as long as package remote's
// limits; and that whatever it brings into a store is what its header says.
// What it has to upload lies in files until the server has it.
//
// There is one agent for each world of a user (session.Place): it holds the place's
// lock. It ends when it has had nothing to do for a while, or when a helper that speaks
// a later protocol asks it to; what sessions it then has, it serves to their end.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/store"
	"github.com/larder-build/larder/internal/tracing"
)

// Options are an agent's parts.
type Options struct {
	Place   session.Place
	Version string
	Log     *slog.Logger
	Idle    time.Duration // ends after so long without a session and with nothing to upload
	Tracer  *tracing.Tracer
}

// stuckIdle is after how long without a session an agent ends that has something
// to upload but cannot: the next one finds it.
const stuckIdle = time.Hour

// An agent is a running agent.
type agent struct {
	place   session.Place
	seat    *seat
	version string
	log     *slog.Logger
	tracer  *tracing.Tracer
	codec   *body.Codec
	placer  *placer
	ctx     context.Context // ends when the agent is to cut everything off
	leave   func()          // makes it take no new sessions
	uploads *uploader
	reports *reporter

	claiming sync.Mutex // while whose a store is is read and written

	mu        sync.Mutex
	sessions  map[*conn]bool
	lastUsed  time.Time
	upstreams map[session.Remote]*upstream
	stores    map[string]*sharedStore
}

// A sharedStore is a local store that sessions use.
type sharedStore struct {
	*store.Store
	users int
}

// Run is an agent's life. It returns nil at once if another one has the place.
// When ctx ends it cuts off what is under way; nothing is lost by that.
func Run(ctx context.Context, o Options) error {
	seat, err := takeSeat(o.Place)
	if err != nil {
		return fmt.Errorf("take the agent's place: %w", err)
	}
	if seat == nil {
		return nil
	}
	o.Log.Info("agent begins", "version", o.Version, "socket", seat.run.Socket())
	if jobs, err := o.Place.Adopt(); jobs > 0 || err != nil {
		o.Log.Info("took over what other agents have left", "jobs", jobs, "error", err)
	}

	ctx, cut := context.WithCancel(ctx)
	defer cut()
	a := &agent{
		place: o.Place, seat: seat, version: o.Version, log: o.Log, tracer: o.Tracer, codec: body.NewCodec(), ctx: ctx,
		sessions: make(map[*conn]bool), upstreams: make(map[session.Remote]*upstream), stores: make(map[string]*sharedStore),
		lastUsed: time.Now(),
	}
	a.placer = newPlacer(a.codec)
	defer a.placer.close()
	uploading, stopUploads := context.WithCancel(ctx)
	a.uploads = newUploader(a)
	a.uploads.start(uploading)
	a.reports = newReporter(a, uploading)
	leaving := make(chan struct{})
	var once sync.Once
	a.leave = func() {
		once.Do(func() {
			// In this order: once the socket is gone another agent may begin, and
			// once the lock is, it may upload.
			free := seat.stopListening()
			stopUploads()
			a.uploads.wait()
			a.reports.wait()
			free()
			close(leaving)
		})
	}
	var watching, conns sync.WaitGroup
	watching.Add(2)
	go func() {
		defer watching.Done()
		<-ctx.Done()
		a.leave()
		a.cutSessions()
	}()
	go func() {
		defer watching.Done()
		a.leaveWhenUseless(o.Idle, leaving)
	}()
	for {
		c, err := seat.listener.Accept()
		if err != nil {
			break
		}
		conns.Add(1)
		go func() {
			defer conns.Done()
			a.serve(c)
		}()
	}
	a.leave()
	<-leaving
	conns.Wait()
	cut()
	watching.Wait()
	for _, u := range a.upstreams {
		u.close()
	}
	o.Log.Info("agent ends")
	return nil
}

// reachableLook is how often an agent looks whether it is reachable: directories
// for temporary files are swept, caches are removed.
const reachableLook = time.Second

// leaveWhenUseless ends the agent when it is not needed, or cannot be found.
func (a *agent) leaveWhenUseless(idle time.Duration, leaving <-chan struct{}) {
	tick := time.NewTicker(min(max(idle/10, time.Millisecond), reachableLook))
	defer tick.Stop()
	for {
		select {
		case <-leaving:
			return
		case <-tick.C:
		}
		a.mu.Lock()
		since := time.Since(a.lastUsed)
		busy := len(a.sessions) > 0
		a.mu.Unlock()
		if !a.seat.reachable() {
			a.log.Warn("the socket, the lock or the directory has gone", "socket", a.seat.run.Socket())
		} else if busy || since < idle || since < stuckIdle && !a.uploads.drained() {
			continue
		}
		a.leave()
		return
	}
}

// upstream returns what is known of a remote; the same one for all sessions that
// name it, so that they share its breaker, filter and fetches.
func (a *agent) upstream(r session.Remote) (*upstream, error) {
	r.ReadOnly = false // that is the session's
	a.mu.Lock()
	defer a.mu.Unlock()
	if u := a.upstreams[r]; u != nil {
		return u, nil
	}
	u, err := newUpstream(a, r)
	if err != nil {
		return nil, err
	}
	a.upstreams[r] = u
	return u, nil
}

// refused is why a remote takes no uploads, "" if it does as far as is known.
func (a *agent) refused(r session.Remote) string {
	r.ReadOnly = false
	a.mu.Lock()
	u := a.upstreams[r]
	a.mu.Unlock()
	if u == nil {
		return ""
	}
	token, err := u.client.Token()
	if err != nil {
		return ""
	}
	if off := u.uploadsOff(token); off != nil {
		return message(off)
	}
	return ""
}

// openStore returns the store in a directory, and a function that lets go of it.
func (a *agent) openStore(dir string) (*store.Store, func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stores[dir]
	if s == nil {
		s = &sharedStore{Store: store.Open(store.Options{Dir: dir})}
		a.stores[dir] = s
	}
	s.users++
	return s.Store, func() {
		a.mu.Lock()
		s.users--
		last := s.users == 0
		if last {
			delete(a.stores, dir)
		}
		a.mu.Unlock()
		if last {
			s.Close() // which waits for what is just being brought in
		}
	}
}

func (a *agent) register(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sessions[c] = true
}

// begin notes that a session has begun, and tells it what nobody was there to
// hear; end notes that it is over.
func (a *agent) begin(c *conn) {
	var texts []string
	a.mu.Lock()
	a.sessions[c] = true
	for _, u := range a.upstreams {
		if c.upstream == u || c.store == nil {
			texts = append(texts, u.takeUnsaid()...)
		}
	}
	a.mu.Unlock()
	for _, text := range texts {
		c.say(text)
	}
}

func (a *agent) end(c *conn) {
	a.mu.Lock()
	delete(a.sessions, c)
	a.lastUsed = time.Now()
	a.mu.Unlock()
	a.uploads.look()
}

// building reports whether a session is under way that uploads would disturb.
func (a *agent) building() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.sessions {
		if c.store != nil {
			return true
		}
	}
	return false
}

func (a *agent) cutSessions() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.sessions {
		c.net.Close()
	}
}

// tell says something about an upstream to the users of all its sessions, and to
// who waits for uploads; false if there is nobody.
func (a *agent) tell(u *upstream, text string) (told bool) {
	var listeners []*conn
	a.mu.Lock()
	for c := range a.sessions {
		if c.upstream == u || c.store == nil {
			listeners = append(listeners, c)
		}
	}
	a.mu.Unlock() // one that does not read must not hold up the others
	for _, c := range listeners {
		c.say(text)
	}
	return len(listeners) > 0
}
