package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/linked"
	"github.com/larder-build/larder/internal/remote"
	"github.com/larder-build/larder/internal/store"
	"github.com/larder-build/larder/internal/tracing"
)

// An outcome is how a flight ended.
type outcome int

const (
	lacking outcome = iota // it is not to be had
	landed                 // it is in the store
	again                  // whoever flew it has gone; it may be to be had
)

// A flight is an action on its way. All who want it wait for the one flight.
type flight struct {
	store   *store.Store
	actions []entry.ActionID // what it is of: if it comes ahead of gets, one of these
	conn    *conn            // who is to be told of in numbers
	done    chan struct{}
	result  outcome // once done is closed

	// Of one that was asked for:
	under []entry.ActionID // its IDs on the server, perhaps

	// Under the upstream's lock:
	lacks int // of under, those that the server lacks
	over  bool

	// Of a prefetched one:
	stream *incoming
	before int64 // bytes that come before it
	cost   time.Duration
}

const (
	// batchesMax is how many batches are under way at once. While so many are,
	// further gets gather and travel together.
	batchesMax = 2
	batchGets  = 1000
	// skipsMax is how many gets in a row are skipped because a round trip takes
	// longer than building what is asked for.
	skipsMax = 50
	// flightsMax is how often a get takes another flight when one was given up.
	flightsMax = 3
	// filteredFew is how many gets of a session the filter answers before the helper
	// is given it, so as to ask no more: a question takes it 0.1 ms.
	filteredFew = 16
	// overdueLook is how often a get looks whether it still pays to wait.
	overdueLook = 250 * time.Millisecond
)

// get brings an action into the store of c, if it is to be had for less than
// building it costs, and reports whether it is there.
func (u *upstream) get(ctx context.Context, c *conn, id entry.ActionID) bool {
	for range flightsMax {
		f := u.board(ctx, c, id)
		if f == nil {
			return u.landedJustNow(flightKey{c.store, id})
		}
		switch u.wait(ctx, c, f) {
		case landed:
			return true
		case lacking:
			return false
		}
	}
	return false
}

// board finds or begins the flight of an action; nil if it is better built.
func (u *upstream) board(ctx context.Context, c *conn, id entry.ActionID) *flight {
	key := flightKey{c.store, id}
	u.mu.Lock()
	defer u.mu.Unlock()
	f := u.flights[key]
	if f != nil {
		return f
	}
	// The plan may be about to say that it comes, or the filter that it does not. An
	// older filter's no is not believed: what another machine has just built is what
	// is most wanted here.
	u.mu.Unlock()
	select {
	case <-c.planned:
	case <-ctx.Done():
	case <-c.late:
	}
	u.mu.Lock()
	if f := u.flights[key]; f != nil {
		return f
	}
	select {
	case <-c.planned:
	default: // what is asked for besides would come later still
		return nil
	}
	under := u.alike.under(id, c.filter)
	switch {
	case ctx.Err() != nil || u.closed() != nil || u.landedJustNow(key):
		return nil
	case len(under) == 0:
		if c.counts.filtered.Add(1) == filteredFew {
			c.tellFilter(c.filter, u.alike)
		}
		return nil
	case u.client.Speed.RoundTrip() > u.meanCost():
		// Now and then one is asked for all the same: it may have become faster.
		if c.counts.skipped.Add(1)%skipsMax != 0 {
			return nil
		}
	}
	if c.later[id] {
		u.fetchLater(ctx, c)
		return u.flights[key]
	}
	f = &flight{store: c.store, actions: []entry.ActionID{id}, under: under, conn: c, done: make(chan struct{})}
	u.flights[key] = f
	u.queue = append(u.queue, f)
	if u.batches < batchesMax {
		u.batches++
		u.work.Add(1)
		go u.sendBatches()
	}
	return f
}

// landedJustNow reports whether an action is in the store: its flight was over
// before anybody could board it.
func (u *upstream) landedJustNow(key flightKey) bool {
	_, err := key.store.Get(key.action)
	return err == nil
}

// wait waits for a flight, for as long as that pays.
func (u *upstream) wait(ctx context.Context, c *conn, f *flight) outcome {
	tick := time.NewTicker(overdueLook)
	defer tick.Stop()
	for {
		if f.stream != nil && f.cost > 0 && f.stream.expected(f.before) > f.cost {
			c.counts.skipped.Add(1)
			return lacking
		}
		select {
		case <-f.done:
			return f.result
		case <-ctx.Done():
			return lacking
		case <-tick.C:
		}
	}
}

// land ends a flight; one that is lacking under one ID not before it is under all.
func (u *upstream) land(f *flight, result outcome) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if result == lacking {
		f.lacks++
	}
	if f.over || result == lacking && f.lacks < len(f.under) {
		return
	}
	f.over = true
	for _, id := range f.actions {
		if key := (flightKey{f.store, id}); u.flights[key] == f {
			delete(u.flights, key)
		}
	}
	f.result = result
	close(f.done)
}

// sendBatches asks for what waits to be asked for, until nothing does.
func (u *upstream) sendBatches() {
	defer u.work.Done()
	for {
		u.mu.Lock()
		batch := u.queue[:min(len(u.queue), u.getsAtOnce(batchGets))]
		u.queue = u.queue[len(batch):]
		if len(batch) == 0 {
			u.batches--
			u.mu.Unlock()
			return
		}
		u.mu.Unlock()
		u.sendBatch(batch)
	}
}

func (u *upstream) sendBatch(batch []*flight) {
	first := batch[0].conn // whose numbers it counts in
	ctx, span := u.agent.tracer.Start(first.span.In(u.ctx), "larder get", tracing.Client)
	in := &incoming{upstream: u, ctx: ctx, conn: first, span: span, asked: time.Now(), pending: make(map[entry.ActionID][]*flight, len(batch))}
	var ids []entry.ActionID
	for _, f := range batch {
		for _, id := range f.under {
			if in.pending[id] == nil {
				ids = append(ids, id)
			}
			in.pending[id] = append(in.pending[id], f)
		}
	}
	in.conn.counts.roundTrips.Add(1)
	stream, err := u.client.Get(ctx, ids)
	if u.tooManyGets(len(ids), err) && len(batch) > 1 {
		in.traced(err)
		u.mu.Lock()
		u.queue = append(batch[:len(batch):len(batch)], u.queue...) // in smaller parts
		u.mu.Unlock()
		return
	}
	if err == nil {
		_, err = in.receive(stream)
	}
	span.Number("larder.asked", int64(len(ids)))
	in.traced(err)
	if err != nil {
		u.failed(u.ctx, in.conn, fmt.Errorf("get %d entries: %w", len(ids), err))
	}
	in.giveUp(lacking)
}

// getsAtOnce is how many gets, of most, go into one request.
func (u *upstream) getsAtOnce(most int) int {
	return int(max(u.room.size(int64(most)*entry.HashSize)/entry.HashSize, 1))
}

// tooManyGets notes how a request with so many gets went, and reports whether fewer at
// once may pass.
func (u *upstream) tooManyGets(n int, err error) bool {
	if err == nil {
		u.room.passed(int64(n) * entry.HashSize)
	}
	if !remote.IsStatus(err, http.StatusRequestEntityTooLarge) {
		return false
	}
	u.room.tooLarge(int64(n) * entry.HashSize)
	return n > 1
}

// An incoming is a stream of entries that flights wait for.
type incoming struct {
	upstream *upstream
	ctx      context.Context
	conn     *conn
	ahead    bool                         // these are prefetched
	span     *tracing.Span                // nil: it is not traced
	pending  map[entry.ActionID][]*flight // by their IDs on the server; of the receiving goroutine
	asked    time.Time                    // before anything was
	begun    time.Time
	progress progress
	placing  sync.WaitGroup // what has come and is not in the store yet
}

// receive takes a stream in until its end. What it lands leaves pending; n is how
// many entries came.
func (in *incoming) receive(stream *remote.Stream) (n int, err error) {
	defer stream.Close()
	for {
		frame, err := stream.Next()
		if err != nil {
			return n, err
		}
		switch frame.Kind {
		case entry.Entry:
			n++
			in.span.Add("larder.entries", 1)
			if err := in.take(&frame.Header, stream); err != nil {
				return n, err
			}
		case entry.Miss, entry.Withheld:
			if frame.Kind == entry.Withheld {
				in.conn.counts.skipped.Add(1)
			}
			for _, f := range in.pop(frame.ActionID) {
				in.upstream.land(f, lacking)
			}
		case entry.End:
			return n, nil
		}
	}
}

func (in *incoming) pop(id entry.ActionID) []*flight {
	flights := in.pending[id]
	delete(in.pending, id)
	return flights
}

// take places one entry. Those whom it is for, in several stores perhaps, are
// told when it is there; an error is the stream's.
func (in *incoming) take(h *entry.Header, stream *remote.Stream) error {
	flights := in.pending[h.ActionID]
	if len(flights) == 0 {
		return nil // nobody asked
	}
	first := flights[0]
	if h.Time.After(in.asked) {
		// Whatever the other machine's clock, or whoever has put it, says: it did not
		// come later than it was asked for. Whose a store is hangs on that (tenure).
		h.Time = in.asked
	}
	if h.Alone && !(first.conn.hello.Executables && linked.Runs()) {
		for _, f := range in.pop(h.ActionID) {
			in.upstream.land(f, lacking)
		}
		return nil
	}
	if first.there() {
		in.progress.add(h.Stored) // another process was faster
		for _, f := range in.pop(h.ActionID) {
			in.upstream.land(f, landed)
		}
		return nil
	}
	counts, ahead := &in.conn.counts, in.ahead
	in.placing.Add(1)
	place := placing{store: first.store, header: *h}
	place.name = func(portable bool) (entry.ActionID, error) {
		id := in.upstream.alike.form(place.header.ActionID, portable)
		if !slices.Contains(first.actions, id) {
			return id, errUnlike
		}
		return id, nil
	}
	place.done = func(id entry.ActionID, kind content.Kind, err error) {
		defer in.placing.Done()
		result := landed
		if isOver(err) || errors.Is(err, errUnlike) {
			result = lacking
		} else if err != nil {
			result = lacking
			in.upstream.damaged(in.conn, place.header.ActionID, err)
		} else if counts.fetchedBytes.Add(h.Stored); ahead {
			counts.prefetched.Add(1)
		} else {
			counts.fetched.Add(1)
		}
		if result == landed {
			in.conn.noteCame(id, &place.header, kind)
		}
		in.upstream.land(first, result)
	}
	if err := in.upstream.agent.placer.place(in.ctx, place, stream.Body()); err != nil {
		in.placing.Done()
		return err
	}
	in.progress.add(h.Stored)
	for _, f := range in.pop(h.ActionID)[1:] {
		in.upstream.land(f, again) // into another store
	}
	return nil
}

// there reports whether what a flight is of is in its store.
func (f *flight) there() bool {
	for _, id := range f.actions {
		if _, err := f.store.Get(id); err == nil {
			return true
		}
	}
	return false
}

// giveUp ends what did not come.
func (in *incoming) giveUp(result outcome) {
	for id := range in.pending {
		for _, f := range in.pop(id) {
			in.upstream.land(f, result)
		}
	}
}

// isOver reports whether an entry was not placed because nobody wants it any more.
func isOver(err error) bool { return errors.Is(err, context.Canceled) || errors.Is(err, os.ErrClosed) }

// damaged reports an entry that was not what it should be, or could not be written.
func (u *upstream) damaged(c *conn, id entry.ActionID, err error) {
	c.counts.errors.Add(1)
	u.agent.log.Error("an entry was refused", "remote", u.remote.URL, "action", id, "error", err)
	if isDamage(err) {
		u.say("remote " + u.remote.URL + " sent wrong bytes, which were refused; the build is not affected; see " + u.agent.place.Log())
	}
}
