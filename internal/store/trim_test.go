package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/store"
)

// A shelf is a store with a clock of its own.
type shelf struct {
	t   *testing.T
	dir string
	now time.Time
}

func newShelf(t *testing.T) *shelf {
	return &shelf{t: t, dir: t.TempDir(), now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
}

func (h *shelf) options() store.Options {
	return store.Options{Dir: h.dir, FallbackParent: h.t.TempDir(), Now: func() time.Time { return h.now }}
}

// add puts n bytes for an action that was used last so long ago.
func (h *shelf) add(action, n int, ago time.Duration) (output string) {
	h.t.Helper()
	s := store.Open(store.Options{Dir: h.dir})
	defer s.Close()
	output = put(h.t, s, actionID(action), body(byte(action), n))
	h.age(output, ago)
	h.age(h.action(action), ago)
	return output
}

func (h *shelf) action(n int) string { return store.FileName(h.dir, actionID(n), 'a') }

func (h *shelf) age(name string, ago time.Duration) {
	h.t.Helper()
	if err := os.Chtimes(name, h.now.Add(-ago), h.now.Add(-ago)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *shelf) trim(l store.Limits) store.TrimReport {
	h.t.Helper()
	report, err := store.Trim(h.t.Context(), h.options(), l, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return report
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// left lists which of the actions below n are hits.
func (h *shelf) left(n int) (hits string) {
	s := store.Open(store.Options{Dir: h.dir, Now: func() time.Time { return h.now }})
	defer s.Close()
	for i := range n {
		if _, err := s.Get(actionID(i)); err == nil {
			hits += fmt.Sprint(i)
		}
	}
	return hits
}

const day = 24 * time.Hour

func TestTrim(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ages   []time.Duration // of actions 0, 1, …, of 10,000 bytes each
		limits store.Limits
		want   string // what is left
	}{
		{"nothing", nil, store.Limits{}, ""},
		{"as the go command does", []time.Duration{0, 4 * day, 5*day + 59*time.Minute, 5*day + 61*time.Minute, 90 * day}, store.Limits{}, "012"},
		{"other age", []time.Duration{0, 3 * time.Hour, 12 * time.Hour}, store.Limits{MaxAge: 10 * time.Hour}, "01"},
		{"the future", []time.Duration{-90 * day}, store.Limits{MaxSize: 1}, "0"},
		// An output takes 12,288 bytes of disk and its action 4,096.
		{"size, not exceeded", []time.Duration{9 * time.Hour, 8 * time.Hour, 7 * time.Hour}, store.Limits{MaxSize: 50_000}, "012"},
		{"size, least recently used first", []time.Duration{9 * time.Hour, 7 * time.Hour, 8 * time.Hour}, store.Limits{MaxSize: 49_000}, "12"},
		{"size, down to nine tenths", []time.Duration{9 * time.Hour, 7 * time.Hour, 8 * time.Hour}, store.Limits{MaxSize: 35_000}, "1"},
		{"used in the last two hours", []time.Duration{time.Minute, 119 * time.Minute, 121 * time.Minute}, store.Limits{MaxSize: 1}, "01"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newShelf(t)
			for i, ago := range tt.ages {
				h.add(i, 10_000, ago)
			}
			report := h.trim(tt.limits)
			if got := h.left(len(tt.ages)); got != tt.want {
				t.Errorf("left %s, want %s", got, tt.want)
			}
			removed := len(tt.ages) - len(tt.want)
			if report.RemovedActions != removed || report.RemovedOutputs != removed || report.RemovedBytes != int64(removed)*16_384 || report.Bytes != int64(len(tt.ages))*16_384 {
				t.Errorf("report %+v", report)
			}
			wantSound(t, h.dir)
		})
	}
}

// What a living session may have been given stays, however old it gets.
func TestTrimSparesLivingSessions(t *testing.T) {
	h := newShelf(t)
	s := store.Open(h.options())
	h.add(0, 1000, 30*time.Minute) // used when the session began, as noted half an hour before
	h.add(1, 1000, 3*time.Hour)
	s.Get(actionID(0))
	h.now = h.now.Add(10 * day)
	h.trim(store.Limits{MaxSize: 1})
	if !exists(h.action(0)) || exists(h.action(1)) {
		t.Errorf("left: 0 %v, 1 %v; want what the session was given, no more", exists(h.action(0)), exists(h.action(1)))
	}
	s.Close()
	h.trim(store.Limits{MaxSize: 1})
	if exists(h.action(0)) {
		t.Error("its session has ended, and it is still there")
	}
}

// An output and its actions go together, an action of an output that others
// use goes alone, and what has lost its other half goes too. What is not the
// cache's stays.
func TestTrimTakesGroups(t *testing.T) {
	h := newShelf(t)
	h.add(0, 0, 9*day) // the empty output,
	empty := h.add(1, 0, time.Hour)
	orphan := h.add(2, 100, 9*day)
	os.Remove(h.action(2))
	os.Remove(h.add(3, 100, 9*day))
	h.add(4, 100, 0)
	os.WriteFile(h.action(4), []byte("garbage"), 0o666)
	h.age(h.action(4), 9*day)
	fresh := h.add(5, 100, 0)
	old := h.add(6, 100, 9*day) // an old output of an action that was used
	h.age(h.action(6), time.Hour)
	executable := h.add(7, 100, 9*day)
	os.Remove(executable)
	os.Mkdir(executable, 0o777)
	os.WriteFile(filepath.Join(executable, "hello"), body(7, 100), 0o777)
	h.age(executable, 9*day)
	strange := filepath.Join(filepath.Dir(fresh), "strange")
	fuzz := filepath.Join(h.dir, "fuzz")
	os.Mkdir(fuzz, 0o777)
	os.WriteFile(strange, nil, 0o666)
	h.age(strange, 99*day)
	h.age(fuzz, 99*day)

	h.trim(store.Limits{})
	for name, want := range map[string]bool{
		h.action(0): false, h.action(1): true, empty: true, orphan: false, h.action(3): false, h.action(4): false,
		fresh: true, h.action(6): true, old: true, executable: false, h.action(7): false, strange: true, fuzz: true,
	} {
		if exists(name) != want {
			t.Errorf("%s: there %v, want %v", name, !want, want)
		}
	}
}

// A get that comes between the look at an entry and its removal keeps it.
func TestGetSavesFromTrim(t *testing.T) {
	h := newShelf(t)
	h.add(0, 1000, 9*day)
	h.add(1, 1000, 9*day)
	s := store.Open(store.Options{Dir: t.TempDir()}) // its own store: not a living session of this one
	s.Close()
	looked := false
	_, err := store.Trim(t.Context(), h.options(), store.Limits{}, func(done, total int) {
		if done == total-1 && !looked { // nearly all has been looked at
			looked = true
			h.age(h.action(0), 0) // what a get does
			h.age(store.FileName(h.dir, sum(body(0, 1000)), 'd'), 0)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := h.left(2); got != "0" {
		t.Errorf("left %s, want what was used in between", got)
	}
}

func TestOneTrimsAtATime(t *testing.T) {
	h := newShelf(t)
	h.add(0, 1000, 9*day)
	inner := 0
	report, err := store.Trim(t.Context(), h.options(), store.Limits{}, func(done, total int) {
		if done == 0 {
			if r := h.trim(store.Limits{}); r.Busy {
				inner++
			}
		}
	})
	if err != nil || report.Busy || inner != 1 {
		t.Errorf("outer %+v, %v; %d inner ones were busy", report, err, inner)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.Trim(ctx, h.options(), store.Limits{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The go command and Larder share the daily duty by trim.txt.
func TestTrimIfDueOnceADay(t *testing.T) {
	for _, tt := range []struct {
		name string
		text func(now time.Time) string
		want bool
	}{
		{"never", nil, true},
		{"an hour ago", func(now time.Time) string { return fmt.Sprint(now.Add(-time.Hour).Unix()) }, false},
		{"a day ago", func(now time.Time) string { return fmt.Sprint(now.Add(-day).Unix()) + "\n" }, true},
		{"soon", func(now time.Time) string { return fmt.Sprint(now.Add(time.Minute).Unix()) }, false},
		{"far in the future", func(now time.Time) string { return fmt.Sprint(now.Add(30 * day).Unix()) }, true},
		{"garbage", func(time.Time) string { return "garbage" }, true},
		{"empty", func(time.Time) string { return "" }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newShelf(t)
			h.add(0, 1000, 9*day)
			name := filepath.Join(h.dir, "trim.txt")
			if tt.text != nil {
				os.WriteFile(name, []byte(tt.text(h.now)), 0o666)
			}
			trimmed, err := store.TrimIfDue(t.Context(), h.options(), store.Limits{}, 0)
			if err != nil || trimmed != tt.want || exists(h.action(0)) == tt.want {
				t.Errorf("trimmed %v, %v; want %v", trimmed, err, tt.want)
			}
			if data, err := os.ReadFile(name); tt.want && (err != nil || string(data) != fmt.Sprint(h.now.Unix())) {
				t.Errorf("trim.txt is %q, %v", data, err)
			}
			if again, err := store.TrimIfDue(t.Context(), h.options(), store.Limits{}, 0); err != nil || again {
				t.Errorf("trimmed again: %v, %v", again, err)
			}
		})
	}
}

// With a size limit, what sessions put is added up, and the store is looked at
// when it seems to be over, but not again and again.
func TestTrimIfDueBySize(t *testing.T) {
	h := newShelf(t)
	limits := store.Limits{MaxSize: 100_000}
	due := func(putBytes int64) bool {
		t.Helper()
		trimmed, err := store.TrimIfDue(t.Context(), h.options(), limits, putBytes)
		if err != nil {
			t.Fatal(err)
		}
		return trimmed
	}
	h.add(0, 60_000, 3*time.Hour)
	if !due(60_000) { // the first look
		t.Error("a store of unknown size was not looked at")
	}
	h.now = h.now.Add(time.Hour)
	if due(10_000) {
		t.Error("looked at below the limit")
	}
	h.add(1, 60_000, 0)
	if !due(60_000) {
		t.Error("not looked at above the limit")
	}
	if got := h.left(2); got != "1" {
		t.Errorf("left %s, want the one used last", got)
	}
	if due(200_000) {
		t.Error("looked at twice in ten minutes")
	}
	h.now = h.now.Add(11 * time.Minute)
	if !due(1) {
		t.Error("not looked at again after ten minutes, above the limit")
	}
}

func TestQuarantineIsEmptied(t *testing.T) {
	h := newShelf(t)
	h.add(0, 1000, 0)
	dir := filepath.Join(h.dir, "larder", "quarantine")
	os.MkdirAll(dir, 0o777)
	for name, ago := range map[string]time.Duration{"old": 6 * day, "new": 4 * day} {
		os.WriteFile(filepath.Join(dir, name), nil, 0o666)
		h.age(filepath.Join(dir, name), ago)
	}
	h.trim(store.Limits{})
	if exists(filepath.Join(dir, "old")) || !exists(filepath.Join(dir, "new")) {
		t.Error("want the old one gone and the new one there")
	}
}
