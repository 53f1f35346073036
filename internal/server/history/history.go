// Package history is what a team server knows of its past: the sessions that were
// reported to it, sums by minute, hour and day, who wrote what, and the entries
// that were dearest to build and the largest.
//
// It promises that a session that was acknowledged is there after a crash, once,
// and in all sums; that traffic, evictions and writes are there up to the last
// Flush, which is to be called once a minute; and that all of it is bounded, in
// number and in age, whatever clients send.
//
// The format. It lives in notes, small named values of the storage, as JSON:
//
//	session/<time><id>     a Session; <time> is inverted, so that the newest are first
//	series/m/<time>/<ns>   a Point of a namespace in a minute; h of an hour, d of a day, in UTC
//	top/<ns>               the dearest and the largest entries of a namespace
//	writers/<ns>           who wrote a namespace
//
// All methods may be called at the same time.
package history

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Notes are where a history is kept: small values under ordered keys.
type Notes interface {
	// WriteNotes changes notes, all or none; nil deletes. They are durable then.
	WriteNotes(changes map[string][]byte) error
	// Notes yields those with from <= key < to, in order. Values are good until then.
	Notes(from, to string, yield func(key string, value []byte) bool) error
}

// Limits of what is kept.
const (
	// SessionsMax and SessionsAge bound the sessions: some 20 MB.
	SessionsMax = 20_000
	SessionsAge = 90 * 24 * time.Hour
	// namespacesMax bounds the namespaces that have sums of their own. Those beyond
	// it have them together, as Others.
	namespacesMax = 100
	// trimEvery is how often what is too old or too much is deleted.
	trimEvery = time.Hour
)

// Others is the namespace that stands for those beyond the limit.
const Others = "(others)"

// A History is a history. Its zero value is of no use; see Open.
type History struct {
	notes Notes
	now   func() time.Time
	log   *slog.Logger

	change sync.Mutex // held while notes are read and then written

	mu      sync.Mutex
	names   map[string]bool // namespaces that have sums
	pending map[string]Point
	tops    map[string]*top
	writers map[string]*writers
	trimmed time.Time
}

// Open returns the history that is in notes. now is the clock; nil is time.Now.
// What cannot be read is said to log, and does without.
func Open(notes Notes, now func() time.Time, log *slog.Logger) *History {
	if now == nil {
		now = time.Now
	}
	h := &History{
		notes: notes, now: now, log: log,
		names: make(map[string]bool), pending: make(map[string]Point),
		tops: make(map[string]*top), writers: make(map[string]*writers),
	}
	load := func(prefix string, take func(ns string, value []byte)) error {
		return notes.Notes(prefix, after(prefix), func(key string, value []byte) bool {
			take(key[len(prefix):], value)
			return true
		})
	}
	err := load(topPrefix, func(ns string, value []byte) {
		t := new(top)
		if json.Unmarshal(value, t) == nil {
			h.names[ns], h.tops[ns] = true, t
		}
	})
	if err == nil {
		err = load(writersPrefix, func(ns string, value []byte) {
			w := new(writers)
			if json.Unmarshal(value, w) == nil && w.ByName != nil {
				h.names[ns], h.writers[ns] = true, w
			}
		})
	}
	if err != nil {
		log.Warn("history: who wrote what is forgotten", "error", err)
	}
	return h
}

// after is the first key that does not begin with prefix.
func after(prefix string) string {
	return prefix[:len(prefix)-1] + string(prefix[len(prefix)-1]+1)
}

// name is the namespace under which ns is summed up. The caller holds mu.
func (h *History) name(ns string) string {
	if !h.names[ns] {
		if len(h.names) >= namespacesMax {
			return Others
		}
		h.names[ns] = true
	}
	return ns
}

// Flush writes what has come since the last one. What cannot be written now is
// with the next.
func (h *History) Flush() error {
	h.change.Lock()
	defer h.change.Unlock()
	h.mu.Lock()
	pending := h.pending
	h.pending = make(map[string]Point)
	changes := make(map[string][]byte)
	for ns, t := range h.tops {
		if t.changed {
			changes[topPrefix+ns] = encode(t)
			t.changed = false
		}
	}
	for ns, w := range h.writers {
		if w.changed {
			changes[writersPrefix+ns] = encode(w)
			w.changed = false
		}
	}
	h.mu.Unlock()

	err := h.sum(pending, changes)
	if err == nil && len(changes) > 0 {
		err = h.notes.WriteNotes(changes)
	}
	if err != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		for key, p := range pending {
			p.add(h.pending[key])
			h.pending[key] = p
		}
		for _, t := range h.tops {
			t.changed = true
		}
		for _, w := range h.writers {
			w.changed = true
		}
		return fmt.Errorf("write the history: %w", err)
	}
	if now := h.now(); now.Sub(h.trimmed) >= trimEvery {
		h.trimmed = now
		return h.trim(now)
	}
	return nil
}

// sum adds points to those that are kept, in changes.
func (h *History) sum(points map[string]Point, changes map[string][]byte) error {
	for key, p := range points {
		var kept Point
		err := h.notes.Notes(key, key+"\x00", func(_ string, value []byte) bool {
			if err := json.Unmarshal(value, &kept); err != nil {
				h.log.Warn("history: a damaged point begins anew", "key", key, "error", err)
				kept = Point{}
			}
			return false
		})
		if err != nil {
			return err
		}
		kept.add(p)
		changes[key] = encode(kept)
	}
	return nil
}

// trim deletes what is too old or too much.
func (h *History) trim(now time.Time) error {
	changes := make(map[string][]byte)
	// A note that is deleted is one more to write; a day's worth at a time is enough.
	const most = 20_000
	mark := func(from, to string, keep int) error {
		n := 0
		return h.notes.Notes(from, to, func(key string, _ []byte) bool {
			if n++; n > keep {
				changes[key] = nil
			}
			return len(changes) < most
		})
	}
	for _, r := range resolutions {
		if err := mark(r.prefix, r.prefix+timeKey(now.Add(-r.age)), 0); err != nil {
			return err
		}
	}
	if err := mark(sessionPrefix+inverted(now.Add(-SessionsAge)), after(sessionPrefix), 0); err != nil {
		return err
	}
	if err := mark(sessionPrefix, after(sessionPrefix), SessionsMax); err != nil {
		return err
	}
	if len(changes) == 0 {
		return nil
	}
	return h.notes.WriteNotes(changes)
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers, strings and times
	}
	return b
}
