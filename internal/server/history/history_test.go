package history_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/server/history"
	"github.com/larder-build/larder/internal/stats"
)

// notes are in memory, and can fail.
type notes struct {
	mu   sync.Mutex
	m    map[string][]byte
	fail error
}

func (n *notes) WriteNotes(changes map[string][]byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return n.fail
	}
	for key, value := range changes {
		if value == nil {
			delete(n.m, key)
		} else {
			n.m[key] = value
		}
	}
	return nil
}

func (n *notes) Notes(from, to string, yield func(string, []byte) bool) error {
	n.mu.Lock()
	m := maps.Clone(n.m)
	n.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if key >= from && key < to && !yield(key, m[key]) {
			break
		}
	}
	return nil
}

type world struct {
	*history.History
	t     *testing.T
	notes *notes
	now   time.Time
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, notes: &notes{m: make(map[string][]byte)}, now: time.Date(2026, 11, 21, 12, 30, 30, 0, time.UTC)}
	w.restart()
	return w
}

// restart is what a crash does: what is not in the notes is gone.
func (w *world) restart() {
	w.History = history.Open(w.notes, func() time.Time { return w.now }, slog.New(slog.DiscardHandler))
}

func (w *world) flush() {
	w.t.Helper()
	if err := w.Flush(); err != nil {
		w.t.Fatal(err)
	}
}

// report is a session that ends at a time.
func report(end time.Time, hits, misses int64) stats.Report {
	r := stats.Report{ID: stats.NewID(), Start: end.Add(-2 * time.Second), Seconds: 2, Machine: "one", Project: "example.com/m"}
	r.Gets, r.Hits, r.Misses.Absent, r.SavedSeconds = hits+misses, hits, misses, float64(hits)
	return r
}

func (w *world) add(ns string, reports ...stats.Report) []history.Session {
	w.t.Helper()
	added, refused, err := w.AddSessions(ns, ns+"-token", reports)
	if err != nil || len(refused) > 0 {
		w.t.Fatalf("add: refused %v, %v", refused, err)
	}
	return added
}

func (w *world) list(v history.View) (ids []string) {
	w.t.Helper()
	if err := w.Sessions(v, "", func(s *history.Session) bool { ids = append(ids, s.ID); return true }); err != nil {
		w.t.Fatal(err)
	}
	return ids
}

func (w *world) total(v history.View, from, to time.Time, step time.Duration) history.Point {
	w.t.Helper()
	points, err := w.Series(v, from, to, step)
	if err != nil {
		w.t.Fatal(err)
	}
	return history.Total(points)
}

// A session is there once, and in every sum, whatever happens after it was
// acknowledged, and whichever way it is sent again.
func TestSessions(t *testing.T) {
	w := newWorld(t)
	old, late, ahead := report(w.now.Add(-48*time.Hour), 5, 5), report(w.now.Add(-time.Minute), 3, 1), report(w.now.Add(10*time.Minute), 1, 0)
	if n := len(w.add("trusted", old, late)); n != 2 {
		t.Errorf("added %d", n)
	}
	w.add("pr", ahead)
	w.restart()
	if n := len(w.add("trusted", late, old, late)); n != 0 {
		t.Errorf("added %d again", n)
	}
	if got, want := w.list(nil), []string{ahead.ID, late.ID, old.ID}; !slices.Equal(got, want) {
		t.Errorf("sessions %q, want %q", got, want)
	}
	if got, want := w.list(history.View{"trusted"}), []string{late.ID, old.ID}; !slices.Equal(got, want) {
		t.Errorf("trusted sessions %q, want %q", got, want)
	}
	for _, tt := range []struct {
		ago, step   time.Duration
		count, hits int64
	}{{time.Hour, time.Minute, 2, 4}, {24 * time.Hour, 15 * time.Minute, 2, 4}, {7 * 24 * time.Hour, 2 * time.Hour, 3, 9}, {365 * 24 * time.Hour, 24 * time.Hour, 3, 9}} {
		got := w.total(nil, w.now.Add(-tt.ago), w.now.Add(time.Second), tt.step).Sessions
		if got.Count != tt.count || got.Hits != tt.hits || got.SavedSeconds != float64(tt.hits) {
			t.Errorf("in %v: %+v", tt.ago, got)
		}
	}
	if got := w.total(history.View{"pr"}, w.now.Add(-time.Hour), w.now.Add(time.Second), time.Minute).Sessions; got.Count != 1 {
		t.Errorf("of pr: %+v", got)
	}

	var page []*history.Session
	w.Sessions(nil, "", func(s *history.Session) bool { page = append(page, s); return len(page) < 2 })
	rest := 0
	w.Sessions(nil, page[1].Key(), func(s *history.Session) bool { rest++; return true })
	if rest != 1 || len(page[0].Key()) != history.KeyLen {
		t.Errorf("%d after the second, key %q", rest, page[0].Key())
	}
	if s, err := w.Session(nil, page[1].Key()); err != nil || s == nil || s.ID != late.ID || s.Namespace != "trusted" || s.Token != "trusted-token" || !s.Received.Equal(w.now) {
		t.Errorf("session %+v, %v", s, err)
	}
	for _, key := range []string{page[1].Key(), "", "nothing"} {
		if s, err := w.Session(history.View{"pr"}, key); s != nil || err != nil {
			t.Errorf("pr sees %q: %+v, %v", key, s, err)
		}
	}

	_, refused, err := w.AddSessions("trusted", "x", []stats.Report{report(w.now.Add(2*time.Hour), 1, 1), report(w.now.Add(-300*time.Hour), 1, 1)})
	if err != nil || len(refused) != 2 || !errors.Is(refused[0], history.ErrTime) {
		t.Errorf("from other times: refused %v, %v", refused, err)
	}
	w.notes.fail = errors.New("disk is full")
	if _, _, err := w.AddSessions("trusted", "x", []stats.Report{report(w.now, 1, 1)}); !errors.Is(err, w.notes.fail) {
		t.Errorf("on a full disk: %v", err)
	}
}

// Traffic is seen at once, survives a flush that fails, and is there after a
// crash up to the last flush.
func TestTraffic(t *testing.T) {
	w := newWorld(t)
	hour := func() history.Point {
		return w.total(nil, w.now.Add(-time.Hour), w.now.Add(time.Second), time.Minute)
	}
	w.Add(w.now, "trusted", history.Point{Hits: 2, Misses: 1, SentBytes: 100, Bytes: 5000, Entries: 3})
	w.Add(w.now, history.Server, history.Point{EvictedBytes: 7, EvictedAges: []int64{0, 2}})
	if p := hour(); p.Hits != 2 || p.EvictedAges[1] != 2 || p.Bytes != 5000 {
		t.Errorf("before a flush: %+v", p)
	}
	w.notes.fail = errors.New("disk is full")
	if err := w.Flush(); !errors.Is(err, w.notes.fail) {
		t.Errorf("flush: %v", err)
	}
	w.notes.fail = nil
	w.Add(w.now, "trusted", history.Point{Hits: 1, Bytes: 6000, Entries: 4})
	w.Add(w.now, "pr", history.Point{Bytes: 10, Entries: 1})
	w.flush()
	w.Add(w.now, "trusted", history.Point{Hits: 100})
	w.restart()
	if p := hour(); p.Hits != 3 || p.Misses != 1 || p.SentBytes != 100 || p.EvictedBytes != 7 || p.Bytes != 6010 || p.Entries != 5 {
		t.Errorf("after a crash: %+v", p)
	}
	if p := w.total(history.View{"trusted"}, w.now.Add(-time.Hour), w.now.Add(time.Second), time.Minute); p.Bytes != 6000 || p.EvictedBytes != 0 {
		t.Errorf("what trusted sees: %+v", p)
	}
	// What is stored is no sum over time.
	w.now = w.now.Add(time.Minute)
	w.Add(w.now, "trusted", history.Point{Hits: 1, Bytes: 6100, Entries: 4})
	points, err := w.Series(nil, w.now.Add(-time.Hour), w.now.Add(time.Second), time.Hour)
	if err != nil || len(points) != 2 || points[1].Bytes != 6110 || points[1].Hits != 4 {
		t.Errorf("hours: %+v, %v", points, err)
	}
}

// All is bounded.
func TestBounds(t *testing.T) {
	w := newWorld(t)
	for i := range 150 {
		w.Add(w.now, fmt.Sprint("ns", i), history.Point{Hits: 1})
	}
	w.add("trusted", report(w.now, 1, 0))
	w.flush()
	byNamespace := 0
	for key := range w.notes.m {
		if strings.HasPrefix(key, "series/m/") {
			byNamespace++
		}
	}
	if byNamespace != 101 {
		t.Errorf("%d namespaces have sums", byNamespace)
	}
	if p := w.total(history.View{history.Others}, w.now.Add(-time.Hour), w.now.Add(time.Second), time.Minute); p.Hits != 50 || p.Sessions.Count != 1 {
		t.Errorf("the others' sums: %+v", p)
	}
	var headers []entry.Header
	for i := range 1000 {
		headers = append(headers, entry.Header{ActionID: sha256.Sum256(fmt.Append(nil, i)), Stored: int64(i), Cost: time.Duration(i), Writer: fmt.Sprint("writer", i)})
	}
	w.NotePuts("ns1", headers)
	w.flush()
	if n := len(w.Writers(nil)["ns1"]); n != 200 {
		t.Errorf("%d writers", n)
	}

	// After a year nothing is left but days.
	for _, prefix := range []string{"session/", "series/m/", "series/h/", "series/d/"} {
		w.now = w.now.Add(0)
		if !slices.ContainsFunc(slices.Collect(maps.Keys(w.notes.m)), func(key string) bool { return strings.HasPrefix(key, prefix) }) {
			t.Errorf("nothing under %s", prefix)
		}
	}
	w.now = w.now.AddDate(1, 0, 0)
	w.flush()
	for key := range w.notes.m {
		if !strings.HasPrefix(key, "series/d/") && !strings.HasPrefix(key, "top/") && !strings.HasPrefix(key, "writers/") {
			t.Errorf("left after a year: %s", key)
		}
	}
	w.now = w.now.AddDate(3, 0, 0)
	w.flush()
	for key := range w.notes.m {
		if strings.HasPrefix(key, "series/") {
			t.Errorf("left after four years: %s", key)
		}
	}
}

// The dearest and the largest are known after a restart, each action once, without
// those that are gone.
func TestTop(t *testing.T) {
	w := newWorld(t)
	header := func(n int, stored int64, cost time.Duration) entry.Header {
		return entry.Header{ActionID: sha256.Sum256(fmt.Append(nil, n)), Size: 2 * stored, Stored: stored, Cost: cost, Writer: "main", Time: w.now}
	}
	w.NotePuts("trusted", []entry.Header{header(1, 10, 3*time.Second), header(2, 30, time.Second), header(3, 20, 0)})
	w.NotePuts("trusted", []entry.Header{header(1, 40, 2*time.Second)}) // again
	w.NotePuts("pr", []entry.Header{header(4, 25, 90*time.Millisecond)})
	w.flush()
	w.restart()
	gone := entry.ActionID(sha256.Sum256([]byte("2")))
	there := func(ns string, id entry.ActionID) bool { return id != gone }
	sizes := func(list []history.Entry) (sizes []int64) {
		for _, e := range list {
			sizes = append(sizes, e.Stored)
		}
		return sizes
	}
	if got := sizes(w.Largest(nil, 10, there)); !slices.Equal(got, []int64{40, 25, 20}) {
		t.Errorf("largest %v", got)
	}
	if got := sizes(w.Dearest(nil, 10, there)); !slices.Equal(got, []int64{40, 25}) {
		t.Errorf("dearest %v", got)
	}
	if got := w.Largest(history.View{"pr"}, 10, there); len(got) != 1 || got[0].Namespace != "pr" || got[0].Writer != "main" || got[0].Size != 50 || got[0].Action != sha256.Sum256([]byte("4")) {
		t.Errorf("pr's largest %+v", got)
	}
	writers := w.Writers(history.View{"trusted"})
	if len(writers) != 1 || len(writers["trusted"]) != 1 || writers["trusted"][0].Puts != 4 || writers["trusted"][0].Bytes != 100 {
		t.Errorf("writers %+v", writers)
	}
}
