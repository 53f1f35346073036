// Package entrytest is the suite that whatever keeps entries passes: the local
// store, the storage of the server, and the server as its clients see it. What
// they promise in common is written down here once, with and without faults.
package entrytest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// A Keeper keeps entries.
type Keeper interface {
	// Put keeps an entry with the given body, which is not compressed. It sets no
	// more of the header than how the body is stored.
	Put(h entry.Header, body []byte) error
	// Get returns an entry; its error wraps ErrMiss if there is none.
	Get(id entry.ActionID) (entry.Header, []byte, error)
}

// ErrMiss is what a Keeper answers for what it does not have.
var ErrMiss = errors.New("miss")

// An Opener opens a Keeper, in the same place each time: as another process
// would, after the last one has ended, which done is.
type Opener func(t *testing.T) (k Keeper, done func())

// Options say what a Keeper does not promise.
type Options struct {
	Trusting bool // it believes what a header says of the body
}

// A Fault is something that goes wrong for as long as it is on.
type Fault struct {
	Name    string
	On, Off func()
	Slow    bool // operations take seconds: a few will do
}

// limit is how long an operation may take, whatever is wrong.
const limit = 30 * time.Second

// Body returns size bytes that depend on the numbers, the first half of which can
// be compressed.
func Body(n, generation, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, n, generation))).Read(b[size/2:])
	copy(b, fmt.Sprintf("%d %d ", n, generation))
	return b
}

// Action is the action with a number.
func Action(n int) entry.ActionID { return sha256.Sum256(fmt.Append(nil, "action ", n)) }

// header is that of an entry. Times have nanoseconds.
func header(n int, body []byte) entry.Header {
	return entry.Header{
		ActionID: Action(n), OutputID: sha256.Sum256(body), Size: int64(len(body)),
		Time: time.Date(2026, 3, 1, 12, 0, n, 123456789, time.UTC),
	}
}

func put(t *testing.T, k Keeper, n int, body []byte) {
	t.Helper()
	if err := within(t, func() error { return k.Put(header(n, body), body) }); err != nil {
		t.Fatalf("put %d: %v", n, err)
	}
}

// want fails unless k has the body.
func want(t *testing.T, k Keeper, n int, body []byte) {
	t.Helper()
	h, got, err := k.Get(Action(n))
	if err != nil {
		t.Fatalf("get %d: %v", n, err)
	}
	w := header(n, body)
	if !bytes.Equal(got, body) || h.OutputID != w.OutputID || h.Size != w.Size || !h.Time.Equal(w.Time) || h.ActionID != w.ActionID {
		t.Fatalf("get %d: %d bytes with header %+v, want %d with %+v", n, len(got), h, len(body), w)
	}
}

func wantMiss(t *testing.T, k Keeper, n int) {
	t.Helper()
	if h, got, err := k.Get(Action(n)); !errors.Is(err, ErrMiss) {
		t.Fatalf("get %d: %+v, %d bytes, %v; want a miss", n, h, len(got), err)
	}
}

// within fails the test if op takes too long; then op goes on by itself.
func within(t *testing.T, op func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- op() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		t.Fatalf("takes more than %v", limit)
		return nil
	}
}

// sizes are those about which something changes: what is not compressed, buffers,
// what is kept in an index or in RAM.
var sizes = []int{0, 1, 2, 255, 256, 257, 4095, 4096, 4097, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128<<10 + 1, 300_000, 1 << 20, 8<<20 - 1, 8<<20 + 1}

// Run runs the suite.
func Run(t *testing.T, open Opener, o Options) {
	t.Run("sizes", func(t *testing.T) {
		k, done := open(t)
		for n, size := range sizes {
			wantMiss(t, k, n)
			body := Body(n, 0, size)
			put(t, k, n, body)
			want(t, k, n, body)
		}
		done()
		k, done = open(t)
		defer done()
		for n, size := range sizes {
			want(t, k, n, Body(n, 0, size))
		}
	})
	t.Run("the last put counts", func(t *testing.T) {
		k, done := open(t)
		for generation, size := range []int{100, 70_000, 100, 0, 300_000, 200} {
			body := Body(100, generation, size)
			put(t, k, 100, body)
			want(t, k, 100, body)
		}
		done()
		k, done = open(t)
		defer done()
		want(t, k, 100, Body(100, 5, 200))
	})
	t.Run("one body of many actions", func(t *testing.T) {
		k, done := open(t)
		defer done()
		for _, size := range []int{0, 1000, 100_000} {
			body := Body(110, 0, size)
			for n := 110; n < 120; n++ {
				put(t, k, n, body)
			}
			put(t, k, 115, Body(115, 1, size+1))
			for n := 110; n < 120; n++ {
				if n != 115 {
					want(t, k, n, body)
				}
			}
		}
	})
	if !o.Trusting {
		t.Run("wrong bodies", func(t *testing.T) { wrongBodies(t, open) })
	}
	t.Run("at once", func(t *testing.T) { atOnce(t, open) })
}

// wrongBodies: a body that is not what its header says is refused, and what was
// there before stays.
func wrongBodies(t *testing.T, open Opener) {
	k, done := open(t)
	defer done()
	for i, size := range []int{1, 1000, 100_000, 9 << 20} {
		n := 120 + i
		good, other := Body(n, 0, size), Body(n, 1, size)
		for what, put := range map[string]func() error{
			"of another hash": func() error { return k.Put(header(n, good), append(other[:size-1:size-1], ^good[size-1])) },
			"of another size": func() error { h := header(n, good); h.Size++; return k.Put(h, good) },
		} {
			if err := within(t, put); err == nil {
				t.Errorf("a body of %d bytes that is %s was taken", size, what)
			}
			wantMiss(t, k, n)
		}
		put(t, k, n, good)
		if err := k.Put(header(n, good), append(good[:size-1:size-1], ^good[size-1])); err == nil {
			t.Errorf("a wrong body of %d bytes was taken over a right one", size)
		}
		want(t, k, n, good)
	}
}

// atOnce: while several put the same action, every get answers one of the bodies,
// whole, and at the end one of the last.
func atOnce(t *testing.T, open Opener) {
	k, done := open(t)
	defer done()
	const action, writers, rounds = 130, 4, 12
	size := func(generation int) int { return []int{100, 70_000, 5000}[generation%3] }
	put(t, k, action, Body(action, 0, size(0)))
	look := func() {
		h, got, err := k.Get(Action(action))
		if err != nil {
			t.Errorf("get: %v", err)
			return
		}
		var n, generation int
		fmt.Sscanf(string(got[:min(40, len(got))]), "%d %d ", &n, &generation)
		if !bytes.Equal(got, Body(action, generation, size(generation))) || h.OutputID != sha256.Sum256(got) {
			t.Errorf("get: %d bytes that nobody has put", len(got))
		}
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range rounds {
				body := Body(action, 1+i*writers+w, size(1+i*writers+w))
				if err := k.Put(header(action, body), body); err != nil {
					t.Errorf("put: %v", err)
				}
				look()
			}
		}()
	}
	wg.Wait()
	look()
}

// RunFaults runs what must hold while something goes wrong: what is answered is
// right or an error, and comes within bounds; what was acknowledged is there when
// it is over, unless lossy says that a fault is one that loses entries; and then
// all goes on.
func RunFaults(t *testing.T, open Opener, faults []Fault, lossy func(name string) bool) {
	for i, fault := range faults {
		t.Run(fault.Name, func(t *testing.T) {
			k, done := open(t)
			defer done()
			first := 1000 * (i + 1)
			sizes := []int{0, 300, 5000, 70_000, 300_000}
			body := func(n int) []byte { return Body(n, 0, sizes[n%len(sizes)]) }
			for n := first; n < first+10; n++ {
				put(t, k, n, body(n))
			}
			begin, end := first, first+20
			if fault.Slow {
				begin, end = first+8, first+12
			}
			fault.On()
			off := sync.OnceFunc(fault.Off)
			defer off()
			acked := []int{}
			var failed int
			for n := begin; n < end; n++ {
				if n >= first+10 {
					if err := within(t, func() error { return k.Put(header(n, body(n)), body(n)) }); err == nil {
						acked = append(acked, n)
					} else {
						failed++
					}
				}
				within(t, func() error {
					_, got, err := k.Get(Action(n))
					if err != nil {
						failed++
					} else if !bytes.Equal(got, body(n)) {
						t.Errorf("get %d: %d wrong bytes", n, len(got))
					}
					return nil
				})
			}
			off()
			t.Logf("%d operations failed", failed)
			if failed == 0 {
				t.Error("the fault has had no effect")
			}
			for n := first; n < end; n++ {
				_, got, err := k.Get(Action(n))
				if err == nil && !bytes.Equal(got, body(n)) {
					t.Errorf("afterwards get %d: %d wrong bytes", n, len(got))
				}
				if must := n < first+10; err != nil && must && !lossy(fault.Name) {
					t.Errorf("afterwards get %d: %v", n, err)
				}
			}
			for _, n := range acked {
				if _, _, err := k.Get(Action(n)); err != nil && !lossy(fault.Name) {
					t.Errorf("%d was acknowledged: %v", n, err)
				}
			}
			for n := first + 20; n < first+25; n++ {
				put(t, k, n, body(n))
				want(t, k, n, body(n))
			}
		})
	}
}
