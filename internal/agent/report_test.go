package agent_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/stats"
)

func (m *machine) leave(url, project string) {
	m.t.Helper()
	r := stats.Report{ID: stats.NewID(), Start: time.Now().Add(-time.Second), Seconds: 1, Machine: "m", Project: project}
	r.Gets, r.Hits = 1, 1
	if err := m.place.Leave(session.Notice{Remote: session.Remote{URL: url}, Report: r}); err != nil {
		m.t.Fatal(err)
	}
}

// projects are those of the sessions that a server knows.
func (tm *team) projects() (list []string) {
	tm.t.Helper()
	resp, err := http.Get(tm.url + "/v1/sessions")
	if err != nil {
		tm.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Sessions []struct{ Project string } }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		tm.t.Fatal(err)
	}
	for _, s := range answer.Sessions {
		list = append(list, s.Project)
	}
	return list
}

// Reports go to their servers without anybody's doing, and at once when the
// machine is about to go. What a server does not take for now, it is told later;
// one that takes none at all is not told again.
func TestReports(t *testing.T) {
	tm := startTeam(t)
	var asked atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // of an older version
		asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"error":{"code":"no_such_path","message":"there is no POST of this path; see docs/api.md"}}`)
	}))
	defer other.Close()
	m := startMachine(t)
	m.leave(tm.url, "by-itself")
	m.leave(other.URL, "unwanted")
	for limit := time.Now().Add(2 * time.Minute); m.place.HasNotices() && time.Now().Before(limit); {
		time.Sleep(10 * time.Millisecond) // the agent looks every two seconds
	}
	if got := tm.projects(); len(got) != 1 || got[0] != "by-itself" || asked.Load() != 1 || m.place.HasNotices() {
		t.Errorf("sessions %q; the other server was asked %d times", got, asked.Load())
	}

	tm.proxy.Down()
	m.leave(tm.url, "late")
	if r, err := m.flush(); err != nil || r.Queued != 0 {
		t.Errorf("flush: %+v, %v", r, err)
	}
	if !m.place.HasNotices() {
		t.Error("a report is gone that nobody has")
	}
	// It opens no breaker: builds find out by themselves.
	if err := tm.proxy.Up(); err != nil {
		t.Fatal(err)
	}
	m.build(tm, 0, 1) // which ends with a flush
	if got := tm.projects(); len(got) != 2 || got[0] != "late" || m.place.HasNotices() {
		t.Errorf("sessions %q", got)
	}
}

// The agent knows which of a session's hits it had brought in ahead of their gets,
// and says when it leaves the server alone.
func TestHitsAhead(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, some)
	m := startMachine(t)
	c := m.connect(tm, key, nil)
	for i := range some / 2 {
		c.Get(context.Background(), action(i)) // the stream comes in this order
	}
	for _, i := range []int{some - 1, some - 2} {
		if !c.Get(context.Background(), action(i)) { // which waits until it has come
			t.Fatal("miss")
		}
	}
	used := []stats.Key{stats.KeyOf(action(some - 1)), stats.KeyOf(action(some - 2)), stats.KeyOf(action(some - 1)), stats.KeyOf(action(1000))}
	if r, ok := c.End(time.Minute, used...); !ok || r.HitsAhead != 2 || r.Breaker != "" {
		t.Errorf("report %+v", r)
	}
	c.Close()

	tm.proxy.Down()
	m = startMachine(t)
	c = m.connect(tm, key, nil)
	c.Get(context.Background(), action(0))
	many := make([]stats.Key, 20_000) // more than go into a frame
	if r, ok := c.End(time.Minute, many...); !ok || r.HitsAhead != 0 || r.Breaker == "" {
		t.Errorf("report with the server down %+v", r)
	}
}
