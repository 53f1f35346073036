package stats_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/stats"
)

func goodReport() stats.Report {
	r := stats.Report{ID: stats.NewID(), Start: time.Now(), Seconds: 1, Machine: "build-1", Project: "example.com/m", Command: "go build -o … ./..."}
	r.Gets, r.Hits, r.HitsPrefetched, r.HitsRemote, r.Misses.Absent = 10, 7, 3, 2, 3
	return r
}

func TestReportCheck(t *testing.T) {
	good := goodReport()
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(r *stats.Report){
		"no id":             func(r *stats.Report) { r.ID = "" },
		"another id":        func(r *stats.Report) { r.ID = strings.Repeat("x", 32) },
		"no time":           func(r *stats.Report) { r.Start = time.Time{} },
		"a long text":       func(r *stats.Report) { r.Machine = strings.Repeat("x", 301) },
		"a control":         func(r *stats.Report) { r.Project = "x\x1b[2J" },
		"no UTF-8":          func(r *stats.Report) { r.Command = "\xff" },
		"a bidi mark":       func(r *stats.Report) { r.Breaker = "\u202ex" },
		"below zero":        func(r *stats.Report) { r.PutBytes = -1 },
		"without bounds":    func(r *stats.Report) { r.HitBytes = 1 << 60 },
		"a queue":           func(r *stats.Report) { r.Queued = -1 },
		"seconds":           func(r *stats.Report) { r.SavedSeconds = -1 },
		"many seconds":      func(r *stats.Report) { r.Seconds = 1e300 },
		"more hits":         func(r *stats.Report) { r.Hits++ },
		"a kind below zero": func(r *stats.Report) { r.Kinds[content.Vet].Misses = -1 },
		"more of a kind":    func(r *stats.Report) { r.Kinds[content.Vet].Hits = 8 },
		"more remote":       func(r *stats.Report) { r.HitsRemote = 5 },
	} {
		r := goodReport()
		spoil(&r)
		if r.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestClip(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain …": "plain …", "a\nb\x1b\u202e": "a?b??", "\xff": "?",
		strings.Repeat("ä", 200): strings.Repeat("ä", 148) + "…",
	} {
		if got := stats.Clip(text); got != want {
			t.Errorf("Clip(%q) = %q", text, got)
		}
	}
}

// What is clipped passes, and what passes stays the same when it is sent on.
func FuzzReport(f *testing.F) {
	good, _ := json.Marshal(goodReport())
	f.Add(string(good))
	f.Add(`{"id":"00000000000000000000000000000000","start":"2026-11-21T00:00:00Z","gets":1e3}`)
	f.Fuzz(func(t *testing.T, text string) {
		clipped := goodReport()
		clipped.Command = stats.Clip(text)
		if err := clipped.Check(); err != nil {
			t.Errorf("clipped %q: %v", text, err)
		}
		var r stats.Report
		if json.Unmarshal([]byte(text), &r) != nil || r.Check() != nil {
			return
		}
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var again stats.Report
		if err := json.Unmarshal(b, &again); err != nil || again.Check() != nil || again.Counts != r.Counts {
			t.Errorf("%s became %s, %v", text, b, err)
		}
	})
}
