package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/server/history"
	"github.com/larder-build/larder/internal/stats"
)

const (
	// reportsBytesMax and reportsMax bound a request with reports of sessions.
	reportsBytesMax = 1 << 20
	reportsMax      = 200
	// reportsPerMinute bounds those of one token, so that none pushes the others
	// out of what is kept. A CI system with hundreds of machines has fewer.
	reportsPerMinute = 2000
	// listMax is how many sessions are listed at once.
	listMax = 1000
	// keepEvery is how often what happened is written: what a crash loses.
	keepEvery = time.Minute
)

// viewOf is what a grant may see of the history: its own namespace, or all.
func viewOf(g auth.Grant) history.View {
	if g.Admin {
		return nil
	}
	return history.View{g.Home()}
}

// postSessions takes reports of sessions.
func (s *Server) postSessions(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	data, err := io.ReadAll(io.LimitReader(r.Body, reportsBytesMax+1))
	if err != nil {
		return badRequest("read the request: " + err.Error())
	}
	if len(data) > reportsBytesMax {
		return &apiError{status: http.StatusRequestEntityTooLarge, code: "too_large", message: fmt.Sprintf("reports of over %d bytes", reportsBytesMax)}
	}
	var in struct {
		Version  int            `json:"version"`
		Sessions []stats.Report `json:"sessions"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return badRequest("reports: " + err.Error())
	}
	if in.Version != stats.ReportVersion {
		return badRequest(fmt.Sprintf("reports of version %d; this server takes version %d", in.Version, stats.ReportVersion))
	}
	if len(in.Sessions) > reportsMax {
		return badRequest(fmt.Sprintf("%d reports; the limit is %d", len(in.Sessions), reportsMax))
	}
	if !s.reports.take(g.Name, len(in.Sessions)) {
		w.Header().Set("Retry-After", "60")
		return &apiError{status: http.StatusTooManyRequests, code: "busy", message: fmt.Sprintf("over %d sessions in a minute from one token", reportsPerMinute)}
	}
	type refusal struct {
		ID  string `json:"id"`
		Why string `json:"why"`
	}
	answer := struct {
		Stored  int       `json:"stored"`
		Refused []refusal `json:"refused,omitempty"`
	}{}
	var good []stats.Report
	for _, report := range in.Sessions {
		if err := report.Check(); err != nil {
			answer.Refused = append(answer.Refused, refusal{stats.Clip(report.ID), err.Error()})
			continue
		}
		good = append(good, report)
	}
	added, refused, err := s.history.AddSessions(g.Home(), g.Name, good)
	if err != nil {
		return err
	}
	for i, why := range refused {
		answer.Refused = append(answer.Refused, refusal{good[i].ID, why.Error()})
	}
	answer.Stored = len(good) - len(refused)
	s.metrics.reported(g, added)
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// listSessions lists sessions, the last first.
func (s *Server) listSessions(w http.ResponseWriter, r *http.Request, g auth.Grant) error {
	limit := 100
	if text := r.FormValue("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > listMax {
			return badRequest(fmt.Sprintf("limit: a number from 1 to %d", listMax))
		}
		limit = n
	}
	after := r.FormValue("after")
	if len(after) > history.KeyLen {
		return badRequest("after: not a session's key")
	}
	type listed struct {
		Key string `json:"key"`
		*history.Session
	}
	answer := struct {
		Sessions []listed `json:"sessions"`
		Next     string   `json:"next,omitempty"` // what to ask for after these
	}{Sessions: []listed{}}
	err := s.history.Sessions(viewOf(g), after, func(session *history.Session) bool {
		if len(answer.Sessions) == limit {
			answer.Next = answer.Sessions[limit-1].Key
			return false
		}
		answer.Sessions = append(answer.Sessions, listed{session.Key(), session})
		return true
	})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// A rate counts what comes in a minute.
type rate struct {
	mu     sync.Mutex
	minute time.Time
	counts map[string]int // by token, of which there are few
}

// take reports whether n more may come.
func (r *rate) take(name string, n int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if minute := time.Now().Truncate(time.Minute); !minute.Equal(r.minute) {
		r.minute, r.counts = minute, make(map[string]int)
	}
	if r.counts[name]+n > reportsPerMinute {
		return false
	}
	r.counts[name] += n
	return true
}

// Keep writes what happens to the history, from time to time until ctx ends, and
// then once more. Without it, sums of traffic are forgotten with the server.
func (s *Server) Keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for ending := false; !ending; {
		select {
		case <-ctx.Done():
			ending = true
		case <-tick.C:
		}
		s.Record()
		if err := s.history.Flush(); err != nil {
			s.log.Warn("history", "error", err)
		}
	}
}

// Record tells the history what has happened since it was last called.
func (s *Server) Record() {
	now := time.Now()
	s.metrics.mu.Lock()
	for _, t := range s.metrics.traffic {
		t.mu.Lock()
		fresh := t.fresh
		t.fresh = history.Point{}
		t.mu.Unlock()
		s.history.Add(now, t.label, fresh)
	}
	s.metrics.mu.Unlock()

	stored := s.storage.Stats()
	for ns, usage := range stored.Namespaces {
		s.history.Add(now, ns, history.Point{Bytes: usage.Bytes, Entries: usage.Entries})
	}
	s.recorded.Lock()
	evicted := history.Point{EvictedBytes: stored.EvictedBytes - s.recorded.stats.EvictedBytes}
	for i, n := range stored.EvictedAges {
		evicted.EvictedAges = append(evicted.EvictedAges, n-s.recorded.stats.EvictedAges[i])
	}
	s.recorded.stats = stored
	s.recorded.Unlock()
	if evicted.EvictedBytes > 0 {
		s.history.Add(now, history.Server, evicted)
	}
}

// recorded is what the history knows of the storage.
type recorded struct {
	sync.Mutex
	stats disk.Stats
}
