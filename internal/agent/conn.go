package agent

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/stats"
	"github.com/larder-build/larder/internal/store"
	"github.com/larder-build/larder/internal/tracing"
)

// flushPulse is the time between two reports while uploads are waited for.
const flushPulse = 100 * time.Millisecond

// A conn is one helper's connection.
type conn struct {
	agent    *agent
	net      net.Conn
	hello    session.Hello
	store    *store.Store     // nil: not a build
	upstream *upstream        // nil: no remote
	stop     func()           // has nothing more brought into the store
	stopped  chan struct{}    // closed when nothing is, and the store is let go of
	planned  chan struct{}    // closed when what prefetch brings is known, or that it brings nothing
	late     chan struct{}    // closed when gets wait for planned no more
	span     *tracing.Span    // nil: it is not traced
	identity session.Identity // whose the session is, as it began
	since    time.Time        // since when the store is only theirs

	// Under the upstream's lock:
	filter    *manifest.Filter        // what the server had when the session began; nil: not known
	later     map[entry.ActionID]bool // what older sessions of the kind have used
	laterPlan manifest.Plan
	problem   error // the last one that a request for the session met

	writing sync.Mutex
	gets    sync.WaitGroup
	counts  counts
	factsMu sync.Mutex
	facts   map[stats.Key]stats.Fact
	came    map[stats.Key]bool // what the session has brought into the store
}

// counts are a session's numbers.
type counts struct {
	fetched, prefetched, fetchedBytes, roundTrips, skipped, filtered, errors, hitsAhead atomic.Int64
	planned, plannedBytes                                                               atomic.Int64
}

func (c *counts) report() session.Report {
	return session.Report{
		Fetched: c.fetched.Load(), Prefetched: c.prefetched.Load(), FetchedBytes: c.fetchedBytes.Load(),
		RoundTrips: c.roundTrips.Load(), Skipped: c.skipped.Load(), Filtered: c.filtered.Load(), Errors: c.errors.Load(),
		HitsAhead: c.hitsAhead.Load(), Planned: c.planned.Load(), PlannedBytes: c.plannedBytes.Load(),
	}
}

// noteCame notes that an entry came, what it is and what it cost where it was built,
// for the store's own table: so that hits can say what they are, where they are from
// and what they saved.
func (c *conn) noteCame(id entry.ActionID, h *entry.Header, kind content.Kind) {
	c.factsMu.Lock()
	defer c.factsMu.Unlock()
	if c.came == nil {
		c.came = make(map[stats.Key]bool)
	}
	c.came[stats.KeyOf(id)] = true
	fact := stats.Fact{Cost: h.Cost, Kind: kind}
	if kind == content.Unknown && h.Cost != 0 { // who put it without asking has said that it cost nothing
		fact.Kind = content.OfEmpty(h.Cost != entry.CostNothing)
	}
	if h.Cost == 0 && !kind.Along() {
		fact.Cost = stats.NoCost
	}
	if c.facts == nil {
		c.facts = make(map[stats.Key]stats.Fact)
	}
	c.facts[stats.KeyOf(id)] = fact
}

// noteUsed counts those of the actions that had come for the session.
func (c *conn) noteUsed(keys []byte) {
	c.factsMu.Lock()
	defer c.factsMu.Unlock()
	for ; len(keys) >= 8; keys = keys[8:] {
		if key := stats.Key(binary.LittleEndian.Uint64(keys)); c.came[key] {
			delete(c.came, key) // the next time it is in the store
			c.counts.hitsAhead.Add(1)
		}
	}
}

// saveFacts records what came in one of the two ways that the store's table has.
func (c *conn) saveFacts(add func(stats.Costs, map[stats.Key]stats.Fact) error) {
	c.factsMu.Lock()
	defer c.factsMu.Unlock()
	if len(c.facts) > 0 {
		add(stats.OpenCosts(c.hello.Store), c.facts) // what cannot be written is unknown
	}
	c.facts = nil
}

// settle ends what is brought into the store, and lets go of it: when the helper
// hears that its session has ended, the go command may go, and nothing is to be made
// in the store any more.
func (c *conn) settle() {
	if c.stop != nil {
		c.stop()
		<-c.stopped
	}
}

// serve serves one helper from its greeting to its end.
func (a *agent) serve(netConn net.Conn) {
	c := &conn{agent: a, net: netConn, planned: make(chan struct{}), late: make(chan struct{})}
	defer netConn.Close()
	r := bufio.NewReader(netConn)
	netConn.SetReadDeadline(time.Now().Add(session.Silence))
	if session.ReadGreeting(r, &c.hello) != nil {
		return
	}
	netConn.SetReadDeadline(time.Time{})
	if !c.write(session.AppendGreeting(nil, c.welcome())) {
		return
	}
	ctx, cancel := context.WithCancel(a.ctx)
	var work sync.WaitGroup
	defer c.saveFacts(stats.Costs.AddLate) // of a helper that has died, perhaps with its go command
	defer work.Wait()
	defer cancel()
	if ctx, c.span = c.trace(ctx); c.span != nil {
		defer c.span.End()
	}
	bringing := c.open(ctx, &work)
	a.begin(c)
	defer a.end(c)
	if c.hello.Pull {
		work.Add(1)
		go func() {
			defer work.Done()
			c.pull(ctx)
		}()
	}
	work.Add(1)
	go func() {
		defer work.Done()
		c.pulse(ctx)
	}()
	c.frames(ctx, bringing, r, &work)
}

// builds reports whether the helper is a build's, and of the agent's own world.
func (c *conn) builds() bool {
	return c.hello.Protocol == session.Protocol && c.hello.World == c.agent.place.World && c.hello.Store != ""
}

// welcome is the answer to the greeting. Whose the session is goes with it, and is noted
// in the store: before anything is asked of the remote.
func (c *conn) welcome() session.Welcome {
	w := session.Welcome{Protocol: session.Protocol, Version: c.agent.version, World: c.agent.place.World, PID: os.Getpid()}
	if !c.builds() {
		return w
	}
	if up, err := c.agent.upstream(c.hello.Remote); err == nil {
		if c.hello.Pull {
			os.MkdirAll(c.hello.Store, 0o777) // a go command has made its own; where that fails, nothing can come
		}
		c.identity = up.identity()
		c.since = c.agent.claim(c.hello.Store, c.hello.Remote, c.identity)
		w.Identity = &c.identity
	}
	return w
}

// open prepares for what the helper has said it is about. The context that it returns
// is that of what is brought into the store.
func (c *conn) open(ctx context.Context, work *sync.WaitGroup) context.Context {
	if !c.builds() {
		close(c.planned)
		return ctx
	}
	s, release := c.agent.openStore(c.hello.Store)
	c.store = s
	ctx, c.stop = context.WithCancel(ctx)
	c.stopped = make(chan struct{})
	work.Add(1)
	go func() {
		defer work.Done()
		<-ctx.Done()
		c.gets.Wait()
		release()
		close(c.stopped)
	}()
	var err error
	if c.upstream, err = c.agent.upstream(c.hello.Remote); err != nil {
		c.say("remote: " + err.Error() + "; going on without it")
		close(c.planned)
		return ctx
	}
	c.agent.register(c) // before anything is asked for it (tokenChanged)
	key, ok := session.ManifestKey(c.hello.Manifest)
	if !ok {
		close(c.planned)
		return ctx
	}
	late := time.AfterFunc(planPatience, func() { close(c.late) })
	work.Add(1)
	c.gets.Add(1) // it uses the store
	go func() {
		defer work.Done()
		defer c.gets.Done()
		defer late.Stop()
		c.upstream.prefetch(ctx, c, key)
		if c.hello.Pull && c.hello.Older {
			c.upstream.pullLater(ctx, c)
		}
	}()
	return ctx
}

// frames handles what the helper says.
func (c *conn) frames(ctx, bringing context.Context, r *bufio.Reader, work *sync.WaitGroup) {
	for {
		f, err := session.ReadFrame(r)
		if err != nil {
			return
		}
		switch f.Kind {
		case session.Get:
			c.gets.Add(1)
			go func() {
				defer c.gets.Done()
				c.answer(f.Action, c.upstream != nil && c.upstream.get(bringing, c, f.Action))
			}()
		case session.End:
			c.settle()
			c.saveFacts(stats.Costs.Add) // the helper is about to sum them up
			report := c.results()
			report.Traceparent = c.traced(report)
			if c.upstream != nil {
				id := c.identified(ctx)
				report.Identity, report.Since = &id, c.since
			}
			c.report(report)
		case session.Used:
			c.noteUsed(f.Text)
		case session.Flush:
			work.Add(1)
			go func() {
				defer work.Done()
				c.flush(ctx)
			}()
		case session.Leave:
			c.agent.leave()
			return
		}
	}
}

func (c *conn) answer(id entry.ActionID, have bool) {
	kind := session.Lack
	if have {
		kind = session.Have
	}
	c.send(session.Frame{Kind: kind, Action: id})
}

// tellFilter sends the filter, unless it is too large. The caller is a get, and may
// hold locks.
func (c *conn) tellFilter(filter *manifest.Filter, a alike) {
	c.gets.Add(1)
	go func() {
		defer c.gets.Done()
		if text := a.actions(filter).Append(nil); len(text) <= session.FilterBytesMax {
			c.send(session.Frame{Kind: session.Filter, Text: text})
		}
	}()
}

func (c *conn) report(r session.Report) {
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // numbers and strings
	}
	c.send(session.Frame{Kind: session.Results, Text: text})
}

// results are the session's numbers, and whether the remote answers.
func (c *conn) results() session.Report {
	report := c.counts.report()
	if c.upstream != nil {
		if why := c.upstream.breaker.Open(); why != nil {
			report.Breaker = message(why)
		}
	}
	return report
}

// pull reports on what is prefetched until all of it has come or nothing more will.
func (c *conn) pull(ctx context.Context) {
	came := make(chan struct{})
	go func() { // ends with ctx, as prefetching does
		defer close(came)
		c.gets.Wait() // a pull asks for nothing, so this is what is prefetched
	}()
	tick := time.NewTicker(flushPulse)
	defer tick.Stop()
	defer func() { <-came }()
	for {
		select {
		case <-came:
			report := c.results()
			if c.upstream != nil {
				report.Problem = c.upstream.problemOf(c)
				c.identified(ctx) // a push will come, perhaps with a token that is new by then
			}
			c.saveFacts(stats.Costs.Add)
			c.report(report)
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			report := c.results()
			report.Pending = true
			c.report(report)
		}
	}
}

// flush reports on uploads until there are none left, not by agents that run no more
// either.
func (c *conn) flush(ctx context.Context) {
	if _, err := c.agent.place.Adopt(); err != nil {
		c.agent.log.Warn("take over what other agents have left", "error", err)
	}
	c.agent.uploads.hurry(+1)
	defer c.agent.uploads.hurry(-1)
	tick := time.NewTicker(flushPulse)
	defer tick.Stop()
	for {
		report := c.agent.uploads.report()
		report.Refused = c.agent.refused(c.hello.Remote)
		if report.Queued == 0 {
			c.agent.reports.flush(ctx)
			c.agent.tracer.Flush(ctx)
			c.report(report)
			return
		}
		c.report(report)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pulse gives signs of life.
func (c *conn) pulse(ctx context.Context) {
	tick := time.NewTicker(session.Pulse)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.send(session.Frame{Kind: session.Alive})
		}
	}
}

// say says a line to the user.
func (c *conn) say(text string) { c.send(session.Frame{Kind: session.Text, Text: []byte(text)}) }

func (c *conn) send(f session.Frame) {
	var space [64]byte
	c.write(f.Append(space[:0]))
}

// write writes to the helper. One that does not read is given up.
func (c *conn) write(b []byte) bool {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.net.SetWriteDeadline(time.Now().Add(session.Silence))
	if _, err := c.net.Write(b); err != nil {
		c.net.Close()
		return false
	}
	return true
}
