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
	"github.com/larder-build/larder/internal/tracing"
)

// A progress says how far a stream is. It is safe for concurrent use.
type progress struct{ bytes atomic.Int64 }

func (p *progress) add(n int64) { p.bytes.Add(n) }

// planPatience is how long a session's gets wait for its plan: as long as for a silent
// server, and a quarter more, so that the breaker knows first. One that is not silent
// may take longer, where a filter of some MB goes over a slow uplink, or the plan comes
// in drops. Until it is there, gets are misses.
const planPatience = remote.StartLimit + remote.StartLimit/4

// settle is how long a stream must have run for its speed to mean anything.
const settle = 300 * time.Millisecond

// expected is how long it will take until so many bytes have come, as it went so
// far; 0 if nothing can be said yet.
func (in *incoming) expected(bytes int64) time.Duration {
	took := time.Since(in.begun)
	came := in.progress.bytes.Load()
	if took < settle || came == 0 {
		return 0
	}
	return time.Duration(float64(bytes-came) / float64(came) * float64(took))
}

// prefetch has what the session's manifest names, and its store lacks, sent in
// one stream. It closes c.planned as soon as it is known what that brings, or that
// it brings nothing: after the breaker is open then, so that no get tries, too.
func (u *upstream) prefetch(ctx context.Context, c *conn, key [32]byte) {
	plan := sync.OnceFunc(func() { close(c.planned) })
	defer plan()
	pk := prefetchKey{c.store, key}
	own := &prefetching{conn: c, over: make(chan struct{})}
	u.mu.Lock()
	for running := u.prefetching[pk]; running != nil; running = u.prefetching[pk] {
		u.mu.Unlock()
		if !c.hello.Pull {
			select { // the other session's will do
			case <-running.conn.planned:
			case <-ctx.Done():
			}
			u.mu.Lock()
			c.filter = running.conn.filter // none if that session ended too early, not an older one
			u.mu.Unlock()
			return
		}
		select { // the other session may end before all has come; then this one goes on
		case <-running.over:
		case <-ctx.Done():
			return
		}
		u.mu.Lock()
	}
	u.prefetching[pk] = own
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		delete(u.prefetching, pk)
		u.mu.Unlock()
		close(own.over)
	}()
	if u.closed() != nil {
		return
	}
	if err := u.stream(ctx, c, pk, plan); err != nil {
		u.failed(ctx, c, err)
	}
}

// stream is a prefetch that is not another session's. It calls plan when it is known
// what comes. The error is that of asking for it.
func (u *upstream) stream(ctx context.Context, c *conn, pk prefetchKey, plan func()) error {
	u.mu.Lock()
	tag := u.filterTag
	u.mu.Unlock()
	begin := time.Now()
	ctx, span := u.agent.tracer.Start(ctx, "larder prefetch", tracing.Client)
	defer span.End()
	p, whole, err := u.askPlan(ctx, c, u.alike.key(pk.key), tag)
	if err != nil {
		span.Fail(err)
		return err
	}
	stream := p.Stream
	if !whole { // the server is about to send what is here, too
		stream.Close()
		stream = nil
		p.Plan = slices.DeleteFunc(p.Plan, func(p manifest.Planned) bool {
			return slices.ContainsFunc(u.alike.forms(p.Action), func(id entry.ActionID) bool { return u.landedJustNow(flightKey{c.store, id}) })
		})
	}
	u.learn(c, p.Filter, p.Tag)
	if p.Tag == "" {
		u.askFilter(ctx, c, tag)
	}
	u.learnCosts(p.Plan)
	n := slices.IndexFunc(p.Plan, func(p manifest.Planned) bool { return p.Age > 0 })
	if n < 0 {
		n = len(p.Plan)
	}
	in := u.expect(ctx, c, p.Plan[:n])
	in.span = span
	span.Number("larder.planned", int64(n))
	c.expecting(p.Plan[:n])
	u.mu.Lock()
	c.later = make(map[entry.ActionID]bool, len(p.Plan)-n)
	for _, planned := range p.Plan[n:] {
		for _, id := range u.alike.forms(planned.Action) {
			c.later[id] = true
		}
	}
	c.laterPlan = p.Plan[n:]
	u.mu.Unlock()
	plan()
	planTime := time.Since(begin)
	in.asked = begin
	err = in.run(stream, p.Plan[:n])
	in.traced(err)
	u.agent.log.Info("prefetch", "remote", u.remote.URL, "project", c.hello.Project, "planned", n, "bytes", in.progress.bytes.Load(),
		"older", len(p.Plan)-n, "plan", planTime, "took", time.Since(begin), "error", err)
	return nil
}

// askPlan asks for a manifest's entries. Where the filter of what is here is too large
// for what stands between, an empty one is sent: then the answer's plan is of use (not
// whole), its stream is not.
func (u *upstream) askPlan(ctx context.Context, c *conn, key [32]byte, tag string) (p *remote.Prefetch, whole bool, err error) {
	have := u.have(ctx, c)
	size := int64(len(have.Append(nil)))
	tried, refused := u.room.fits(size), false
	if tried {
		c.counts.roundTrips.Add(1)
		p, err = u.client.Prefetch(ctx, key, have, tag)
		refused = remote.IsStatus(err, http.StatusRequestEntityTooLarge)
		if !refused && !(size >= cutLeast && ofWhatWasSent(ctx, err)) {
			return p, true, err
		}
		u.agent.log.Warn("the filter of what is here may be too large for what stands between", "remote", u.remote.URL, "bytes", size, "error", err)
	}
	c.counts.roundTrips.Add(1)
	p, err = u.client.Prefetch(ctx, key, nil, tag)
	if tried && (refused || err == nil) {
		u.room.tooLarge(size)
	}
	return p, false, err
}

// cutLeast is the smallest filter, in bytes, that may be why a request has failed
// otherwise than by an answer of 413: not all that stands between gets to say that before
// it cuts the connection. Less than that gets through everywhere, as other requests do.
const cutLeast = 16 << 10

// askFilter asks for a filter that is too large to come with a plan. Until it is
// there, nothing is known to be lacking. The caller is the session's prefetch.
func (u *upstream) askFilter(ctx context.Context, c *conn, tag string) {
	c.gets.Add(1)
	go func() {
		defer c.gets.Done()
		c.counts.roundTrips.Add(1)
		filter, tag, err := u.client.Filter(ctx, tag)
		if err != nil {
			u.failed(ctx, c, err)
			return
		}
		u.learn(c, filter, tag)
	}()
}

// run takes a stream of planned entries in, and ends when they are in the store; a nil
// stream is asked for. Where it breaks off after it went well for a while, the rest is
// asked for once more; but for the second stall, since builds wait for all of those. An
// error has been noted (failed) before those who wait hear that nothing comes.
func (in *incoming) run(stream *remote.Stream, plan manifest.Plan) (err error) {
	u := in.upstream
	defer in.placing.Wait()
	defer func() {
		if err != nil {
			u.failed(in.ctx, in.conn, err)
		}
		in.giveUp(again)
	}()
	for stalled, more := false, false; ; {
		if stream == nil {
			if stream, more, err = in.askRest(plan); err != nil || stream == nil {
				return err
			}
		}
		waiting := len(in.pending)
		n, err := in.receive(stream)
		stream = nil
		switch {
		case err == nil && more && len(in.pending) < waiting:
			continue
		case err == nil || n == 0 || in.ctx.Err() != nil:
			return err
		}
		if errors.Is(err, remote.ErrStalled) {
			if stalled {
				return err
			}
			stalled = true
		}
		u.agent.log.Warn("a stream broke off", "remote", u.remote.URL, "entries", n, "error", err)
	}
}

// askRest asks for what of a plan has not come, or as many of it as one request may name:
// then there is more. The stream is nil if there is none.
func (in *incoming) askRest(plan manifest.Plan) (stream *remote.Stream, more bool, err error) {
	u := in.upstream
	rest := in.rest(plan)
	for {
		if len(rest) == 0 {
			return nil, false, nil
		}
		ids := rest[:min(len(rest), u.getsAtOnce(restGets))]
		in.conn.counts.roundTrips.Add(1)
		stream, err = u.client.Get(in.ctx, ids)
		if u.tooManyGets(len(ids), err) {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("get the rest: %w", err)
		}
		return stream, len(ids) < len(rest), nil
	}
}

// restGets is how many gets a server takes in one request (docs/api.md).
const restGets = 100_000

// fetchLater asks for what older sessions used and the last one did not, now that
// one of it is needed. The caller holds mu.
func (u *upstream) fetchLater(ctx context.Context, c *conn) {
	plan := c.laterPlan
	c.later, c.laterPlan = nil, nil
	in := u.expectLocked(ctx, c, plan)
	c.gets.Add(1) // it uses the store; the caller is a get, so the session has not ended
	go func() {
		defer c.gets.Done()
		in.ctx, in.span = u.agent.tracer.Start(ctx, "larder get older", tracing.Client)
		in.span.Number("larder.asked", int64(len(in.pending)))
		in.traced(in.run(nil, plan))
	}()
}

// pullLater is fetchLater without a get that has asked for anything.
func (u *upstream) pullLater(ctx context.Context, c *conn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(c.laterPlan) > 0 && c.problem == nil {
		c.expecting(c.laterPlan)
		u.fetchLater(ctx, c)
	}
}

// expecting notes what is to come, for who pulls it.
func (c *conn) expecting(plan manifest.Plan) {
	for _, p := range plan {
		c.counts.planned.Add(1)
		c.counts.plannedBytes.Add(p.Stored)
	}
}

// have is the filter of what need not be sent: it is in the store or on its way.
func (u *upstream) have(ctx context.Context, c *conn) *manifest.Filter {
	return manifest.NewFilter(func(yield func(entry.ActionID) bool) {
		more := true
		have := func(id entry.ActionID) bool {
			for _, form := range u.alike.forms(id) {
				more = more && yield(form)
			}
			return more
		}
		c.store.Actions(ctx, have)
		u.mu.Lock()
		defer u.mu.Unlock()
		for key := range u.flights {
			if !more || key.store == c.store && !have(key.action) {
				return
			}
		}
	})
}

// expect makes a flight of each planned entry, for gets to wait for.
func (u *upstream) expect(ctx context.Context, c *conn, plan manifest.Plan) *incoming {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.expectLocked(ctx, c, plan)
}

func (u *upstream) expectLocked(ctx context.Context, c *conn, plan manifest.Plan) *incoming {
	in := &incoming{
		upstream: u, ctx: ctx, conn: c, ahead: true, asked: time.Now(), begun: time.Now(),
		pending: make(map[entry.ActionID][]*flight, len(plan)),
	}
	var before int64
	for _, p := range plan {
		before += p.Stored
		actions := u.alike.forms(p.Action)
		if slices.ContainsFunc(actions, func(id entry.ActionID) bool { return u.flights[flightKey{c.store, id}] != nil }) {
			continue // asked for meanwhile
		}
		f := &flight{store: c.store, actions: actions, conn: c, done: make(chan struct{}), stream: in, before: before, cost: p.Cost}
		for _, id := range actions {
			u.flights[flightKey{c.store, id}] = f
		}
		in.pending[p.Action] = []*flight{f}
	}
	return in
}

// rest is what of a plan has not come, in order.
func (in *incoming) rest(plan manifest.Plan) (ids []entry.ActionID) {
	for _, p := range plan {
		if in.pending[p.Action] != nil {
			ids = append(ids, p.Action)
		}
	}
	return ids
}

// isDamage tells wrong bytes from trouble with writing them.
func isDamage(err error) bool {
	var mismatch *entry.MismatchError
	return errors.Is(err, entry.ErrFormat) || errors.As(err, &mismatch)
}
