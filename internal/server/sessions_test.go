package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/stats"
)

// report is what a session that has just ended says.
func report(machine string, hits, misses int64) stats.Report {
	r := stats.Report{
		ID: stats.NewID(), Start: time.Now().Add(-3 * time.Second), Seconds: 2, Machine: machine,
		Project: "example.com/m", Command: "go build ./...", Go: "go1.26.8", Target: "linux/amd64", Version: "v1.0.0",
	}
	r.Gets, r.Hits, r.Misses.Absent, r.SavedSeconds = hits+misses, hits, misses, float64(hits)
	r.HitsPrefetched, r.HitsRemote = hits/2, hits/4
	return r
}

func reports(list ...stats.Report) []byte {
	b, err := json.Marshal(map[string]any{"version": stats.ReportVersion, "sessions": list})
	if err != nil {
		panic(err)
	}
	return b
}

type listed struct {
	Sessions []struct {
		Key, ID, Machine, Namespace, Token string
		Hits                               int64
	}
	Next string
}

func (s *testServer) sessions(token, query string) (l listed) {
	s.t.Helper()
	status, _, out := s.do(token, "GET", "/v1/sessions"+query, nil, nil)
	if err := json.Unmarshal(out, &l); status != http.StatusOK || err != nil {
		s.t.Fatalf("sessions: %d %s, %v", status, out, err)
	}
	return l
}

// Anyone with a token reports sessions, and sees those of its namespace; they are
// there after a restart, and count once.
func TestSessions(t *testing.T) {
	dir := t.TempDir()
	s := start(t, disk.Options{Dir: dir})
	one, two, three := report("laptop", 8, 2), report("runner", 4, 0), report("pr-runner", 0, 5)
	three.Breaker, three.Queued = "status 503", 2400
	for _, tt := range []struct {
		token string
		r     stats.Report
	}{{"reader", one}, {"main", two}, {"pr", three}, {"main", two}} {
		if status, _, out := s.do(tt.token, "POST", "/v1/sessions", nil, reports(tt.r)); status != 200 || string(out) != "{\"stored\":1}\n" {
			t.Errorf("report: %d %s", status, out)
		}
	}
	for token, want := range map[string]string{"ops": "pr-runner runner laptop", "pr": "pr-runner", "main": "runner laptop", "reader": "runner laptop"} {
		var machines []string
		for _, session := range s.sessions(token, "").Sessions {
			machines = append(machines, session.Machine)
		}
		if got := strings.Join(machines, " "); got != want {
			t.Errorf("%s sees %q, want %q", token, got, want)
		}
	}
	first := s.sessions("ops", "?limit=2")
	rest := s.sessions("ops", "?limit=2&after="+first.Next)
	if len(first.Sessions) != 2 || len(rest.Sessions) != 1 || rest.Next != "" {
		t.Errorf("pages of %d and %d", len(first.Sessions), len(rest.Sessions))
	}
	_, _, out := s.do("ops", "GET", "/metrics", nil, nil)
	for _, line := range []string{
		`larder_sessions_total{namespace="trusted"} 2`, `larder_sessions_total{namespace="pr"} 1`,
		`larder_session_gets_total{namespace="trusted"} 14`,
		`larder_session_hits_total{namespace="trusted",source="local"} 3`,
		`larder_session_hits_total{namespace="trusted",source="prefetched"} 6`,
		`larder_session_hits_total{namespace="trusted",source="remote"} 3`,
		`larder_session_misses_total{namespace="pr"} 5`, `larder_session_saved_seconds_total{namespace="trusted"} 12`,
		`larder_session_queued_entries_bucket{namespace="trusted",le="0"} 2`, `larder_session_queued_entries_sum{namespace="pr"} 2400`,
		`larder_session_queued_entries_bucket{namespace="pr",le="1000"} 0`, `larder_session_queued_entries_bucket{namespace="pr",le="10000"} 1`,
		`larder_sessions_broken_total{namespace="pr"} 1`, `larder_sessions_broken_total{namespace="trusted"} 0`,
	} {
		if !strings.Contains(string(out), line+"\n") {
			t.Errorf("metrics lack %s", line)
		}
	}
	s.Close()
	if err := s.storage.Close(); err != nil {
		t.Fatal(err)
	}
	s = start(t, disk.Options{Dir: dir})
	if n := len(s.sessions("ops", "").Sessions); n != 3 {
		t.Errorf("%d after a restart", n)
	}
}

func TestSessionsRefused(t *testing.T) {
	s := start(t, disk.Options{})
	for name, tt := range map[string]struct {
		token  string
		body   []byte
		status int
		says   string
	}{
		"no token":   {"", reports(), 401, "no_token"},
		"no JSON":    {"main", []byte("{"), 400, "reports"},
		"too long":   {"main", []byte(strings.Repeat(" ", 1<<20+1)), 413, "too_large"},
		"version":    {"main", []byte(`{"version":2,"sessions":[]}`), 400, "version 2"},
		"too many":   {"main", reports(make([]stats.Report, 201)...), 400, "201 reports"},
		"a bad one":  {"main", reports(report("a", 1, 1), stats.Report{ID: "x\x1b[2J"}), 200, `"stored":1,"refused":[{"id":"x?[2J"`},
		"a bad page": {"main", nil, 400, "bad_request"},
	} {
		if status, _, out := s.do(tt.token, "POST", "/v1/sessions", nil, tt.body); status != tt.status || !strings.Contains(string(out), tt.says) {
			t.Errorf("%s: %d %s", name, status, out)
		}
	}
	for _, query := range []string{"?limit=0", "?limit=x", "?limit=1001", "?after=" + strings.Repeat("x", 100)} {
		if status, _, out := s.do("main", "GET", "/v1/sessions"+query, nil, nil); status != 400 {
			t.Errorf("%s: %d %s", query, status, out)
		}
	}
	// One token cannot push the others' sessions out.
	var many []stats.Report
	for i := range 200 {
		many = append(many, report(fmt.Sprint(i), 1, 0))
	}
	busy := false
	for range 25 { // two minutes' worth, if the minute changes meanwhile
		status, header, _ := s.do("pr", "POST", "/v1/sessions", nil, reports(many...))
		busy = busy || status == http.StatusTooManyRequests && header.Get("Retry-After") != ""
	}
	if !busy {
		t.Error("sessions without end")
	}
	if status, _, _ := s.do("main", "POST", "/v1/sessions", nil, reports(report("other", 1, 0))); status != 200 {
		t.Errorf("another token: %d", status)
	}
}
