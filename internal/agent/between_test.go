package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/store"
)

// A between stands between agents and a server, as proxies and firewalls do.
type between struct {
	limit  atomic.Int64 // of bodies, in bytes; 0: none
	refuse atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
	asked  atomic.Int64 // requests
	large  atomic.Int64 // requests that were refused for their size
}

// stand puts it before the team's server.
func (tm *team) stand(t *testing.T) *between {
	t.Helper()
	b := new(between)
	forward := tm.handler
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		if refuse := b.refuse.Load(); refuse != nil && (*refuse)(w, r) {
			return
		}
		if limit := b.limit.Load(); limit > 0 {
			// As nginx does, which takes all of a body in before it goes on.
			data, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
			if err != nil {
				return
			}
			if int64(len(data)) > limit {
				b.large.Add(1)
				w.Header().Set("Content-Type", "text/html")
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				io.WriteString(w, "<html><center><h1>413 Request Entity Too Large</h1></center></html>")
				w.(http.Flusher).Flush()
				io.Copy(io.Discard, io.LimitReader(r.Body, 64<<20)) // its lingering close
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(data))
			r.ContentLength = int64(len(data))
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	tm.url = s.URL
	return b
}

func status(code int, header ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		io.Copy(io.Discard, r.Body)
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, "<html>not now</html>")
		return true
	}
}

// putBody puts one more entry into a job and the machine's store.
func (m *machine) putBody(j *session.Job, id entry.ActionID, data []byte) {
	m.t.Helper()
	s := store.Open(store.Options{Dir: m.dir})
	defer s.Close()
	if _, err := s.Put(id, sha256.Sum256(data), int64(len(data)), bytes.NewReader(data)); err != nil {
		m.t.Fatal(err)
	}
	j.Used = append(j.Used, id)
	j.Puts = append(j.Puts, session.Put{Action: id, Cost: time.Minute})
}

// random does not compress.
func random(n int) []byte {
	b := make([]byte, n)
	s := sha256.Sum256([]byte("random"))
	for i := range b {
		if i%len(s) == 0 {
			s = sha256.Sum256(s[:])
		}
		b[i] = s[i%len(s)]
	}
	return b
}

// flushAll flushes as the session of a user who hears what is said, and has no patience
// when there is a problem.
func (m *machine) flushAll(tm *team) (session.Report, []string) {
	m.t.Helper()
	var said []string
	c, err := session.Connect(context.Background(), m.place, nil, session.Hello{Version: "v1.0.0", Remote: session.Remote{URL: tm.url, TokenFile: tm.token}}, func(line string) { said = append(said, line) })
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := c.Flush(ctx, func(r session.Report) {
		if r.Queued > 0 && r.Problem != "" {
			cancel()
		}
	})
	c.Close() // from now on nothing is said
	if err != nil && ctx.Err() == nil {
		m.t.Fatal(err)
	}
	return r, said
}

// A large body that does not compress is sent as it is, and one that does is compressed,
// without any temporary file; all else goes up beside them.
func TestUploadLarge(t *testing.T) {
	tm := startTeam(t)
	m := startMachine(t)
	j := m.put(tm, 0, 3)
	zip, text := random(20_000_000), bytes.Repeat([]byte("some text that repeats. "), 1<<20)
	m.putBody(j, action(100), zip)
	m.putBody(j, action(101), text)
	if err := j.Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, said := m.flushAll(tm); r.Queued != 0 || r.Uploaded != 5 || r.UploadedBytes > 21_000_000 || len(said) > 0 {
		t.Errorf("flush: %+v, said %q", r, said)
	}
	other := startMachine(t)
	if r, err := other.pull(tm, session.Hello{}); err != nil || r.Prefetched != 5 {
		t.Errorf("pull: %+v, %v", r, err)
	}
	s := store.Open(store.Options{Dir: other.dir})
	defer s.Close()
	for id, want := range map[entry.ActionID][]byte{action(100): zip, action(101): text} {
		o, err := s.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(o.DiskPath); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
		}
	}
}

// One large body that is damaged costs no other entry, and is said.
func TestUploadLargeDamaged(t *testing.T) {
	tm := startTeam(t)
	m := startMachine(t)
	j := m.put(tm, 0, 3)
	m.putBody(j, action(100), random(9_000_000))
	j.Puts = append(j.Puts[3:], j.Puts[:3]...) // it comes first
	s := store.Open(store.Options{Dir: m.dir})
	o, err := s.Get(action(100))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	f, err := os.OpenFile(o.DiskPath, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 5_000_000); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := j.Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, said := m.flushAll(tm); r.Queued != 0 || r.Uploaded != 3 || len(said) != 1 || !strings.Contains(said[0], "larder verify") {
		t.Errorf("flush: %+v, said %q", r, said)
	}
}

// Where bodies are limited on the way, batches shrink until they pass. What cannot pass
// at all is left out, and said once; so it is with lists and reports.
func TestLimitOnBodies(t *testing.T) {
	tm := startTeam(t)
	b := tm.stand(t)
	b.limit.Store(1 << 20)
	m := startMachine(t)
	j := m.put(tm, 0, some) // 3.5 MB
	m.putBody(j, action(100), random(3_000_000))
	m.putBody(j, action(101), random(9_000_000))
	m.putBody(j, action(102), random(900_000))
	if err := j.Write(m.place); err != nil {
		t.Fatal(err)
	}
	r, said := m.flushAll(tm)
	if r.Queued != 0 || r.Uploaded != some+1 {
		t.Errorf("flush: %+v", r)
	}
	if len(said) != 1 || !strings.Contains(said[0], "2 entries") || !strings.Contains(said[0], "413") || !strings.Contains(said[0], "docs/proxies.md") {
		t.Errorf("said %q", said)
	}
	t.Logf("%d requests of %d were too large", b.large.Load(), b.asked.Load())
	other := startMachine(t)
	if r, err := other.pull(tm, session.Hello{}); err != nil || r.Prefetched != some+1 {
		t.Errorf("pull: %+v, %v", r, err)
	}

	// It is known now.
	large := b.large.Load()
	m.putBody(j, action(103), random(9_000_000))
	if err := j.Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, said := m.flushAll(tm); r.Queued != 0 || len(said) != 0 || b.large.Load() != large {
		t.Errorf("flush: %+v, said %q, %d more requests were too large", r, said, b.large.Load()-large)
	}
}

// A list of what a build uses goes up as far as it passes, and reports in parts.
func TestLimitOnLists(t *testing.T) {
	tm := startTeam(t)
	b := tm.stand(t)
	b.limit.Store(4 << 10)
	m := startMachine(t)
	j := m.put(tm, 0, 3)
	for i := 1000; i < 1500; i++ { // 16 KB; they are nowhere
		j.Used = append(j.Used, action(i))
	}
	for i := range j.Puts {
		data := []byte{byte(i)}
		s := store.Open(store.Options{Dir: m.dir})
		if _, err := s.Put(j.Puts[i].Action, sha256.Sum256(data), 1, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	if err := j.Write(m.place); err != nil {
		t.Fatal(err)
	}
	for range 30 { // 20 KB
		m.leave(tm.url, "p")
	}
	if r, said := m.flushAll(tm); r.Queued != 0 || r.Uploaded != 3 || len(said) != 0 {
		t.Errorf("flush: %+v, said %q", r, said)
	}
	b.limit.Store(0)
	if r, err := startMachine(t).pull(tm, session.Hello{}); err != nil || r.Prefetched != 3 {
		t.Errorf("pull: %+v, %v", r, err)
	}
	if n := len(tm.projects()); n != 30 || m.place.HasNotices() {
		t.Errorf("%d sessions are reported", n)
	}
}

// A filter that is too large on the way costs a round trip or two, not the prefetch; and
// neither does a list of what is to be fetched.
func TestLimitOnFilters(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, some)
	b := tm.stand(t)
	m := startMachine(t)
	j := m.put(tm, 0, 5)
	for i := 1000; i < 1300; i++ { // a filter of 1.2 KB, and so many more
		m.putBody(j, action(i), nil)
	}
	b.limit.Store(700) // so 21 gets at once
	r, err := m.pull(tm, session.Hello{})
	if err != nil || r.Planned != some-5 || r.Prefetched != some-5 || r.Problem+r.Breaker != "" {
		t.Errorf("pull: %+v, %v", r, err)
	}
	if n := m.have(0, some); n != some {
		t.Errorf("%d of %d are there", n, some)
	}
	// Gets that no list names travel in small parts as well.
	other := startMachine(t)
	if have := other.getAll(other.connect(tm, "", nil), 0, some); have != some {
		t.Errorf("%d of %d", have, some)
	}
}

// Whatever stands between refuses for a while, what was built stays queued, all of it;
// when it has passed, it is uploaded by the same agent. Only a refusal that is the API's
// own ends a job.
func TestRefusalsPass(t *testing.T) {
	for name, refuse := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"401": status(http.StatusUnauthorized),
		"403": status(http.StatusForbidden),
		"404": status(http.StatusNotFound),
		"407": status(http.StatusProxyAuthRequired),
		"429": status(http.StatusTooManyRequests, "Retry-After", "1"),
		"451": status(http.StatusUnavailableForLegalReasons),
		"502": status(http.StatusBadGateway),
		"503": status(http.StatusServiceUnavailable, "Retry-After", "1"),
		"200": status(http.StatusOK), // a captive portal
		"302": status(http.StatusFound, "Location", "/login"),
		"puts": func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == http.MethodPost && status(403)(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			tm := startTeam(t)
			b := tm.stand(t)
			m := startMachine(t)
			b.refuse.Store(&refuse)
			if err := m.put(tm, 0, 10).Write(m.place); err != nil {
				t.Fatal(err)
			}
			m.leave(tm.url, "p")
			r, said := m.flushAll(tm)
			if r.Queued != 10 || r.Problem == "" || !m.place.HasNotices() {
				t.Errorf("flush: %+v", r)
			}
			for _, line := range said {
				if strings.Contains(line, "LARDER_TOKEN_FILE") {
					t.Errorf("said of what is no token's fault: %q", line)
				}
			}
			b.refuse.Store(nil)
			for limit := time.Now().Add(time.Minute); ; {
				if r, _ = m.flushAll(tm); r.Queued == 0 && !m.place.HasNotices() || time.Now().After(limit) {
					break
				}
			}
			if r.Queued != 0 || r.Uploaded != 10 {
				t.Errorf("afterwards: %+v", r)
			}
			if got := tm.projects(); len(got) != 1 {
				t.Errorf("reports: %q", got)
			}
		})
	}
}

// A server that asks to be left alone for a moment is not down: nothing is asked of it
// for so long, and gets are misses; then they are hits again, without any probe.
func TestBusyServer(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, some)
	b := tm.stand(t)
	m := startMachine(t)
	busy := status(http.StatusTooManyRequests, "Retry-After", "30")
	b.refuse.Store(&busy)
	c := m.connect(tm, "", nil)
	if c.Get(context.Background(), action(0)) {
		t.Error("from nowhere")
	}
	asked := b.asked.Load()
	if have := m.getAll(c, 0, some); have != 0 || b.asked.Load() != asked {
		t.Errorf("%d, %d requests while it is to be left alone", have, b.asked.Load()-asked)
	}
	if r, ok := c.End(time.Minute); !ok || r.Breaker != "" {
		t.Errorf("report %+v", r)
	}
	if strings.Contains(m.log.String(), "state=open") {
		t.Error("the breaker has opened")
	}
}

// An entry that something on the way will not let pass, whatever the reason, costs no
// other entry and not the list. It stays queued.
func TestOneEntryRefused(t *testing.T) {
	tm := startTeam(t)
	b := tm.stand(t)
	m := startMachine(t)
	bad := random(5000)
	refuse := func(w http.ResponseWriter, r *http.Request) bool {
		data, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(data))
		return bytes.Contains(data, bad) && status(http.StatusForbidden)(w, r)
	}
	b.refuse.Store(&refuse)
	j := m.put(tm, 0, 20)
	m.putBody(j, action(100), bad)
	j.Puts = append(j.Puts[10:], j.Puts[:10]...) // in the middle
	if err := j.Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, _ := m.flushAll(tm); r.Queued != 1 || r.Uploaded != 20 || !strings.Contains(r.Problem, "403") {
		t.Errorf("flush: %+v", r)
	}
	if r, err := startMachine(t).pull(tm, session.Hello{}); err != nil || r.Prefetched != 20 {
		t.Errorf("pull: %+v, %v", r, err)
	}
	m.putBody(j, action(101), []byte("next"))
	j.Puts, j.Used = j.Puts[21:], nil
	if err := j.Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, _ := m.flushAll(tm); r.Queued != 1 || r.Uploaded != 21 {
		t.Errorf("the next job: %+v", r)
	}
	b.refuse.Store(nil)
	if r, _ := m.flush(); r.Queued != 0 || r.Uploaded != 22 { // an upload may have begun before
		t.Errorf("when it has passed: %+v", r)
	}
}

// A token that may write after all is asked for again as soon as the file has it.
func TestRefusedTokenChanges(t *testing.T) {
	tm := startTeam(t)
	tm.token = filepath.Join(t.TempDir(), "token")
	tm.readOnly.Store(true)
	m := startMachine(t)
	for i, token := range []string{"one", "one", "two"} {
		if err := os.WriteFile(tm.token, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		tm.readOnly.Store(i == 0)
		c := m.connect(tm, key, nil)
		report, ok := c.End(time.Minute)
		c.Close()
		if !ok {
			t.Fatal("no report")
		}
		j := m.put(tm, i, i+1)
		j.Identity = report.Identity
		if err := j.Write(m.place); err != nil {
			t.Fatal(err)
		}
		r, _ := m.flushAll(tm)
		if r.Queued != 0 || (r.Uploaded == 1) != (i == 2) || (r.Refused == "") != (i == 2) {
			t.Errorf("%d: %+v", i, r)
		}
	}
}

// What is queued is uploaded as soon as the server is back, without a build or a flush.
func TestUploadsResume(t *testing.T) {
	tm := startTeam(t)
	m := startMachine(t)
	tm.proxy.Down()
	if err := m.put(tm, 0, 3).Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, _ := m.flushAll(tm); r.Queued != 3 {
		t.Errorf("flush: %+v", r)
	}
	if err := tm.proxy.Up(); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // a probe comes, and then the uploads
		if jobs, _ := m.place.Jobs(); len(jobs) == 0 {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("nothing is uploaded")
		}
	}
}

// However many jobs wait for a server that does not work, it is asked once in a round,
// so that who waits for uploads is not kept by all of them.
func TestAskedOnceForAllJobs(t *testing.T) {
	tm := startTeam(t)
	b := tm.stand(t)
	down := status(http.StatusBadGateway)
	b.refuse.Store(&down)
	m := startMachine(t)
	const jobs = 30
	for i := range jobs {
		if err := m.put(tm, i, i+1).Write(m.place); err != nil {
			t.Fatal(err)
		}
	}
	if r, _ := m.flushAll(tm); r.Queued != jobs || b.asked.Load() > jobs/2 {
		t.Errorf("flush: %+v; %d requests", r, b.asked.Load())
	}
	b.refuse.Store(nil)
	if r, _ := m.flush(); r.Queued != 0 || r.Uploaded != jobs {
		t.Errorf("afterwards: %+v", r)
	}
}

// cutOff resets the connections of requests with more than limit bytes.
func cutOff(limit int64) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		data, _ := io.ReadAll(io.LimitReader(r.Body, limit+1))
		if int64(len(data)) <= limit {
			r.Body = io.NopCloser(bytes.NewReader(data))
			return false
		}
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			conn.(*net.TCPConn).SetLinger(0) // a reset
			conn.Close()
		}
		return true
	}
}

// A large filter at which the connection is cut does not cost the prefetch, nor does it
// look like a server that fails.
func TestFilterCutOff(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, some)
	b := tm.stand(t)
	m := startMachine(t)
	s := store.Open(store.Options{Dir: m.dir})
	for i := range 6000 { // a filter of over 16 KB
		if _, err := s.Put(action(1000+i), entry.EmptyOutput, 0, bytes.NewReader(nil)); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	cut := cutOff(16 << 10)
	b.refuse.Store(&cut)
	for range 2 { // the second time it is known
		c := m.connect(tm, key, nil)
		if have := m.getAll(c, 0, some); have != some {
			t.Errorf("%d of %d", have, some)
		}
		if r, ok := c.End(time.Minute); !ok || r.Breaker != "" {
			t.Errorf("report %+v", r)
		}
		c.Close()
	}
}

// What cuts the connection instead of answering 413 is found out as well: what is small
// enough goes up. What is not stays queued, since it may have been the network.
func TestCutOffForSize(t *testing.T) {
	tm := startTeam(t)
	b := tm.stand(t)
	cut := cutOff(1 << 20)
	b.refuse.Store(&cut)
	m := startMachine(t)
	j := m.put(tm, 0, some) // 3.5 MB
	m.putBody(j, action(100), random(3_000_000))
	if err := j.Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, _ := m.flushAll(tm); r.Queued != 1 || r.Uploaded != some {
		t.Errorf("flush: %+v", r)
	}
	if r, err := startMachine(t).pull(tm, session.Hello{}); err != nil || r.Prefetched != some {
		t.Errorf("pull: %+v, %v", r, err)
	}
	b.refuse.Store(nil)
	if r, err := m.flush(); err != nil || r.Queued != 0 || r.Uploaded != some+1 { // an upload may have begun before
		t.Errorf("flush: %+v, %v", r, err)
	}
}
