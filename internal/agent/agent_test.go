package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/agent"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/faulttest"
	"github.com/larder-build/larder/internal/remote"
	"github.com/larder-build/larder/internal/server"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/store"
	"github.com/larder-build/larder/internal/tracing"
)

// A team is a server with a proxy before it.
type team struct {
	t        *testing.T
	proxy    *faulttest.Proxy
	requests atomic.Int64
	traced   atomic.Int64 // of them, those that name a span
	readOnly atomic.Bool
	url      string
	token    string                // the file that sessions name
	grants   map[string]auth.Grant // by token; nil: anyone may do anything
	handler  http.Handler
}

// startTeam is for tests that can run beside others, as most mostly wait.
func startTeam(t *testing.T) *team {
	t.Helper()
	t.Parallel()
	return startTeamAlone(t)
}

func startTeamAlone(t *testing.T) *team {
	t.Helper()
	storage, err := disk.Open(disk.Options{Dir: t.TempDir(), Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	tm := &team{t: t}
	api := server.New(server.Options{Storage: storage, Log: slog.New(slog.DiscardHandler), Authenticate: func(token string) (auth.Grant, error) {
		g, ok := auth.Open(), true
		if tm.grants != nil {
			if g, ok = tm.grants[token]; !ok {
				return g, auth.ErrUnknown
			}
		}
		if tm.readOnly.Load() {
			g.Write = ""
		}
		return g, nil
	}})
	tm.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tm.requests.Add(1)
		if r.Header.Get("Traceparent") != "" {
			tm.traced.Add(1)
		}
		api.ServeHTTP(w, r)
	})
	srv := httptest.NewServer(tm.handler)
	if tm.proxy, err = faulttest.NewProxy(srv.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	tm.url = "http://" + tm.proxy.Addr()
	t.Cleanup(func() {
		tm.proxy.Close()
		srv.Close()
		storage.Close()
	})
	return tm
}

// A machine is a place with a running agent and a local store.
type machine struct {
	t     *testing.T
	place session.Place
	dir   string // of the store
	ended chan error
	log   *lockedBuffer
}

// A lockedBuffer can be written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startMachine(t *testing.T) *machine {
	t.Helper()
	home := t.TempDir()
	base := filepath.Join(home, "larder")
	if err := os.Mkdir(base, 0o700); err != nil {
		t.Fatal(err)
	}
	return startMachineAt(t, session.PlaceIn(base), filepath.Join(home, "gocache"))
}

func startMachineAt(t *testing.T, place session.Place, dir string) *machine {
	t.Helper()
	m := &machine{t: t, place: place, dir: dir, log: new(lockedBuffer)}
	m.startAgent(time.Hour)
	return m
}

// startAgent starts the machine's agent, and waits until it listens.
func (m *machine) startAgent(idle time.Duration) {
	m.t.Helper()
	m.beginAgent(idle)
	for range 30_000 {
		if c, err := session.Connect(context.Background(), m.place, nil, session.Hello{Version: "v1.0.0"}, nil); err == nil {
			c.Close()
			return
		}
		time.Sleep(time.Millisecond) // it has no other sign than its socket
	}
	m.t.Fatal("the agent does not listen")
}

func (m *machine) beginAgent(idle time.Duration) {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	m.ended = ended
	log := slog.New(slog.NewTextHandler(m.log, nil))
	tracer := tracing.Open("larder-agent", "v1.0.0", log) // nil, but where a test says otherwise
	go func() {
		ended <- agent.Run(ctx, agent.Options{Place: m.place, Version: "v1.0.0", Idle: idle, Log: log, Tracer: tracer})
		close(ended)
		tracer.Close()
	}()
	m.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			m.t.Errorf("agent: %v", err)
		}
		if m.t.Failed() {
			m.t.Logf("agent's log:\n%s", m.log)
		}
	})
}

const key = "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"

// connect begins a session.
func (m *machine) connect(tm *team, key string, texts func(string)) *session.Client {
	m.t.Helper()
	c, err := session.Connect(context.Background(), m.place, nil,
		session.Hello{Version: "v1.0.0", Store: m.dir, Remote: session.Remote{URL: tm.url, TokenFile: tm.token}, Manifest: key}, texts)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(c.Close)
	return c
}

func action(n int) entry.ActionID { return sha256.Sum256(fmt.Append(nil, "action", n)) }

// content is a body of some size, most of it not compressible.
func content(n int) []byte {
	b := make([]byte, 100+n*n*50)
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(r.Uint32() >> (i % 7))
	}
	return b
}

// build puts actions into the machine's store, and has them uploaded.
func (m *machine) build(tm *team, from, to int) {
	m.t.Helper()
	job := m.put(tm, from, to)
	if err := job.Write(m.place); err != nil {
		m.t.Fatal(err)
	}
	if r, err := m.flush(); err != nil || r.Queued != 0 || r.Problem != "" {
		m.t.Fatalf("flush: %+v, %v", r, err)
	}
}

func (m *machine) put(tm *team, from, to int) *session.Job {
	m.t.Helper()
	s := store.Open(store.Options{Dir: m.dir})
	defer s.Close()
	job := &session.Job{Remote: session.Remote{URL: tm.url, TokenFile: tm.token}, Store: m.dir, Manifest: key, Time: time.Now()}
	for i := from; i < to; i++ {
		data := content(i)
		if _, err := s.Put(action(i), sha256.Sum256(data), int64(len(data)), bytes.NewReader(data)); err != nil {
			m.t.Fatal(err)
		}
		job.Used = append(job.Used, action(i))
		job.Puts = append(job.Puts, session.Put{Action: action(i), Cost: time.Minute})
	}
	return job
}

func (m *machine) flush() (session.Report, error) {
	c, err := session.Connect(context.Background(), m.place, nil, session.Hello{Version: "v1.0.0"}, nil)
	if err != nil {
		return session.Report{}, err
	}
	defer c.Close()
	return c.Flush(context.Background(), func(session.Report) {})
}

// check reports whether an action is in the machine's store with its right body.
func (m *machine) check(n int) bool {
	m.t.Helper()
	s := store.Open(store.Options{Dir: m.dir})
	defer s.Close()
	o, err := s.Get(action(n))
	if err != nil {
		return false
	}
	got, err := os.ReadFile(o.DiskPath)
	if err != nil || !bytes.Equal(got, content(n)) {
		m.t.Errorf("action %d has a wrong body: %v", n, err)
	}
	return true
}

// getAll asks for actions, eight at a time, and returns how many are to be had.
func (m *machine) getAll(c *session.Client, from, to int) (have int) {
	m.t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan bool, 8)
	for i := from; i < to; i++ {
		wg.Add(1)
		slots <- true
		go func() {
			defer wg.Done()
			ok := c.Get(context.Background(), action(i))
			<-slots
			if has := m.check(i); ok && !has { // what is given up may come all the same
				m.t.Errorf("action %d: answered %v, which is not so", i, ok)
			}
			if ok {
				mu.Lock()
				have++
				mu.Unlock()
			}
		}()
	}
	wg.Wait()
	return have
}

const some = 60 // actions of a build, 3.5 MB

// What one machine has built comes to another one in one round trip; what nobody
// has is known without one.
func TestShare(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, some)
	m := startMachine(t)
	before := tm.requests.Load()
	c := m.connect(tm, key, nil)
	if have := m.getAll(c, 0, some); have != some {
		t.Errorf("%d of %d", have, some)
	}
	if have := m.getAll(c, some, 2*some); have != 0 {
		t.Errorf("%d from nowhere", have)
	}
	if n := tm.requests.Load() - before; n != 1 {
		t.Errorf("%d requests", n)
	}
	r, ok := c.End(time.Minute)
	if !ok || r.Prefetched+r.Fetched != some || r.RoundTrips != 1 || r.Filtered != some || r.Errors != 0 || r.FetchedBytes < 1<<20 {
		t.Errorf("report %+v", r)
	}

	// Another kind of session has no manifest: its gets travel together.
	m = startMachine(t)
	tm.proxy.SetRTT(20 * time.Millisecond)
	before = tm.requests.Load()
	c = m.connect(tm, strings.Repeat("00", 32), nil)
	if have := m.getAll(c, 0, some); have != some {
		t.Errorf("without a manifest %d of %d", have, some)
	}
	if n := tm.requests.Load() - before; n > some/2 {
		t.Errorf("%d requests for %d gets", n, some)
	}
}

// What another machine has put is seen by the next session, however lately the
// last one has asked.
func TestNewToTheServer(t *testing.T) {
	tm := startTeam(t)
	one, two := startMachine(t), startMachine(t)
	one.build(tm, 0, some)
	for _, k := range []string{key, strings.Repeat("00", 32)} { // with a manifest and without
		if have := two.getAll(two.connect(tm, k, nil), 0, some); have != some {
			t.Errorf("%d of %d", have, some)
		}
	}
	one.build(tm, some, 2*some)
	tm.proxy.SetRTT(20 * time.Millisecond)
	for i, k := range []string{key, strings.Repeat("00", 32)} {
		from := some + i*some/2
		if have := two.getAll(two.connect(tm, k, nil), from, from+some/2); have != some/2 {
			t.Errorf("%d of %d that are new", have, some/2)
		}
	}
}

// So it is for a session that waits for another one's prefetch, which ends before it
// knows anything.
func TestNewToTheServerAfterAnother(t *testing.T) {
	tm := startTeam(t)
	one, two := startMachine(t), startMachine(t)
	one.build(tm, 0, some)
	if have := two.getAll(two.connect(tm, key, nil), 0, some); have != some {
		t.Errorf("%d of %d", have, some)
	}
	one.build(tm, some, some+1)
	tm.proxy.SetRTT(200 * time.Millisecond)
	before := tm.requests.Load()
	first := two.connect(tm, key, nil)
	for tm.requests.Load() == before { // its request has arrived, its answer is on the way
		time.Sleep(time.Millisecond)
	}
	second := two.connect(tm, key, nil)
	got := make(chan bool)
	go func() { got <- second.Get(context.Background(), action(some)) }()
	time.Sleep(20 * time.Millisecond) // else the second has a prefetch of its own, and all is well too
	first.Close()
	if !<-got {
		t.Error("what is new was missed")
	}
}

// Where a round trip takes longer than building does, single gets are not worth
// one; what comes in a stream is.
func TestFarAway(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, some)
	tm.proxy.SetRTT(300 * time.Millisecond)
	m := startMachine(t)
	c := m.connect(tm, "", nil)
	if !c.Get(context.Background(), action(0)) {
		t.Error("the first is not fetched, though nothing is known of the distance")
	}
	if have := m.getAll(c, 1, some); have > some/3 { // until three round trips are over, eight at a time
		t.Errorf("%d fetched one by one", have)
	}
	if r, _ := c.End(time.Minute); r.Skipped < some/2 {
		t.Errorf("report %+v", r)
	}
	c = m.connect(tm, key, nil)
	if have := m.getAll(c, 0, some); have != some {
		t.Errorf("%d of %d in a stream", have, some)
	}
}

// Whoever asks for the same thing at once waits for one fetch.
func TestCoalesce(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, 1)
	m := startMachine(t)
	tm.proxy.SetRTT(30 * time.Millisecond)
	before := tm.requests.Load()
	var wg sync.WaitGroup
	for range 5 {
		c := m.connect(tm, "", nil)
		for range 10 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				if !c.Get(context.Background(), action(0)) {
					t.Error("not to be had")
				}
			}()
		}
	}
	wg.Wait()
	if n := tm.requests.Load() - before; n != 1 {
		t.Errorf("%d requests", n)
	}
}

// Whatever the network does, a get is answered, with the truth, within limits;
// and once it is well again, so are gets.
func TestFaults(t *testing.T) {
	for name, fault := range map[string]faulttest.Fault{
		"hangs":                  {Kind: faulttest.Hang},
		"drops":                  {Kind: faulttest.Drop},
		"resets at once":         {Kind: faulttest.Reset},
		"resets in the middle":   {Kind: faulttest.Reset, After: 1 << 20},
		"ends in the middle":     {Kind: faulttest.Truncate, After: 1 << 20},
		"ends in the header":     {Kind: faulttest.Truncate, After: 300},
		"flips a bit of a body":  {Kind: faulttest.Flip, After: 1 << 20},
		"flips a bit of a plan":  {Kind: faulttest.Flip, After: 400},
		"flips a bit of headers": {Kind: faulttest.Flip, After: 20},
		"drips":                  {Kind: faulttest.Drip, Rate: 100},
	} {
		t.Run(name, func(t *testing.T) {
			tm := startTeam(t)
			startMachine(t).build(tm, 0, some)
			m := startMachine(t)
			tm.proxy.SetFault(fault)
			begin := time.Now()
			c := m.connect(tm, key, nil)
			have := m.getAll(c, 0, some)
			if took := time.Since(begin); took > 2*time.Minute { // on a machine that is busy, too
				t.Errorf("took %v", took)
			}
			t.Logf("%d of %d in %v", have, some, time.Since(begin))
			tm.proxy.SetFault(faulttest.Fault{})
			for limit := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) { // the breaker's probes
				c := m.connect(tm, key, nil)
				if m.getAll(c, 0, some) == some {
					break
				}
				c.Close()
				if time.Now().After(limit) {
					t.Fatal("does not recover")
				}
			}
		})
	}
}

// A server that lets builds wait does so once: when the first request has stalled,
// nobody tries another one; and where a stream had begun, once more.
func TestStalls(t *testing.T) {
	for name, tt := range map[string]struct {
		fault      faulttest.Fault
		roundTrips int64
	}{
		"at once":         {faulttest.Fault{Kind: faulttest.Hang}, 1},
		"in the plan":     {faulttest.Fault{Kind: faulttest.Hang, After: 400}, 1},
		"in the stream":   {faulttest.Fault{Kind: faulttest.Hang, After: 200_000}, 2},
		"later in stream": {faulttest.Fault{Kind: faulttest.Hang, After: 1 << 20}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			tm := startTeam(t)
			startMachine(t).build(tm, 0, some)
			m := startMachine(t)
			tm.proxy.SetFault(tt.fault)
			c := m.connect(tm, key, nil)
			m.getAll(c, 0, some)
			r, ok := c.End(time.Minute)
			if !ok || r.RoundTrips != tt.roundTrips || r.Breaker == "" {
				t.Errorf("report %+v", r)
			}
		})
	}
}

// A flush does not wait for a server that hangs for as long as an upload may take.
func TestFlushHangs(t *testing.T) {
	tm := startTeam(t)
	m := startMachine(t)
	if err := m.put(tm, 0, 1).Write(m.place); err != nil {
		t.Fatal(err)
	}
	tm.proxy.SetFault(faulttest.Fault{Kind: faulttest.Hang})
	begin := time.Now()
	r, err := m.flush()
	if err != nil || r.Queued != 1 || !strings.Contains(r.Problem, remote.ErrStalled.Error()) {
		t.Errorf("flush: %+v, %v", r, err)
	}
	if took := time.Since(begin); took > 2*time.Minute { // on a machine that is busy, too
		t.Errorf("took %v", took)
	}
	tm.proxy.SetFault(faulttest.Fault{})
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		if r, err := m.flush(); err == nil && r.Queued == 0 {
			return
		}
	}
	t.Error("nothing is uploaded afterwards")
}

// A stream that breaks off is taken up where it broke off.
func TestResume(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, some)
	m := startMachine(t)
	tm.proxy.SetFault(faulttest.Fault{Kind: faulttest.Reset, After: 1 << 20})
	c := m.connect(tm, key, nil)
	if have := m.getAll(c, 0, some); have != some {
		t.Errorf("%d of %d", have, some)
	}
	if r, _ := c.End(time.Minute); r.RoundTrips < 3 {
		t.Errorf("report %+v: the fault did not strike", r)
	}
}

// While the server is down, gets cost nothing; uploads wait, and survive the agent.
func TestServerDown(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, some)
	m := startMachine(t)
	tm.proxy.Down()
	c := m.connect(tm, key, nil)
	if have := m.getAll(c, 0, some); have != 0 {
		t.Errorf("%d from nowhere", have)
	}
	job := m.put(tm, some, some+20)
	if err := job.Write(m.place); err != nil {
		t.Fatal(err)
	}
	r, err := m.flush()
	if err != nil || r.Queued != 20 || r.Problem == "" {
		t.Errorf("flush: %+v, %v", r, err)
	}
	c.Close()
	stop, err := session.Connect(context.Background(), m.place, nil, session.Hello{Version: "v1.0.0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	stop.Stop()
	if err := <-m.ended; err != nil {
		t.Fatal(err)
	}
	if err := tm.proxy.Up(); err != nil {
		t.Fatal(err)
	}
	m.startAgent(time.Hour)
	if r, err := m.flush(); err != nil || r.Queued != 0 {
		t.Errorf("flush: %+v, %v", r, err)
	}
	m = startMachine(t)
	if have := m.getAll(m.connect(tm, "", nil), some, some+20); have != 20 {
		t.Errorf("%d of 20", have)
	}
}

// A token that may not write turns uploads off, which is said once.
func TestReadOnlyToken(t *testing.T) {
	tm := startTeam(t)
	tm.readOnly.Store(true)
	m := startMachine(t)
	var said atomic.Int64
	c := m.connect(tm, key, func(text string) {
		if !strings.Contains(text, "may not write; nothing is uploaded") {
			t.Errorf("said %q", text)
		}
		said.Add(1)
	})
	c.Get(context.Background(), action(some)) // once it is answered, the agent tells this session, not the flush
	for i := range 3 {
		if err := m.put(tm, i, i+1).Write(m.place); err != nil {
			t.Fatal(err)
		}
		if r, err := m.flush(); err != nil || r.Queued != 0 || r.Uploaded != 0 {
			t.Errorf("flush: %+v, %v", r, err)
		}
	}
	c.End(time.Minute)
	if said.Load() != 1 {
		t.Errorf("said %d times", said.Load())
	}
}

// What is damaged or gone is not uploaded; the rest is.
func TestUploadDamage(t *testing.T) {
	tm := startTeam(t)
	m := startMachine(t)
	job := m.put(tm, 0, 10)
	s := store.Open(store.Options{Dir: m.dir})
	damaged, err := s.Get(action(3))
	if err != nil {
		t.Fatal(err)
	}
	gone, err := s.Get(action(5))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	data := content(3)
	data[len(data)/2] ^= 1
	if err := errors.Join(os.WriteFile(damaged.DiskPath, data, 0o666), os.Remove(gone.DiskPath), job.Write(m.place)); err != nil {
		t.Fatal(err)
	}
	if r, err := m.flush(); err != nil || r.Queued != 0 || r.Uploaded != 8 {
		t.Errorf("flush: %+v, %v", r, err)
	}
	other := startMachine(t)
	if have := other.getAll(other.connect(tm, "", nil), 0, 10); have != 8 {
		t.Errorf("%d of 8", have)
	}
}

// What a session has linked is uploaded, if it is as the session left it; and comes
// only to who asks for it, and only where the go command copies it.
func TestExecutables(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only ELF files are recognised")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/m\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	begin := time.Now()
	build := exec.Command("go", "build", "-o", "bin/", ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=") // whatever the tests were built with
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command("go", "tool", "buildid", filepath.Join(dir, "bin", "m")).Output()
	if err != nil {
		t.Fatal(err)
	}
	short, err := base64.URLEncoding.DecodeString(string(out[:20]))
	if err != nil {
		t.Fatal(err)
	}
	var link entry.ActionID // its first 15 bytes are all that the build ID has
	copy(link[:], short)

	tm := startTeam(t)
	m := startMachine(t)
	job := m.put(tm, 0, 3)
	job.Time = begin
	job.Used = append(job.Used, link)
	job.Unput = []session.Unput{{Action: action(7).String(), Cost: time.Minute}, {Action: link.String(), Cost: time.Minute}}
	job.Outputs = []string{filepath.Join(dir, "nowhere"), dir, filepath.Join(dir, "bin")}
	if err := job.Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, err := m.flush(); err != nil || r.Queued != 0 || r.Uploaded != 4 {
		t.Errorf("flush: %+v, %v", r, err)
	}
	for _, copies := range []bool{false, true} {
		other := startMachine(t)
		c, err := session.Connect(context.Background(), other.place, nil, session.Hello{
			Version: "v1.0.0", Store: other.dir, Remote: session.Remote{URL: tm.url}, Manifest: key, Executables: copies,
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if have := other.getAll(c, 0, 3); have != 3 {
			t.Errorf("%d of 3", have)
		}
		if got := c.Get(context.Background(), link); got != copies {
			t.Errorf("got the executable: %v, want %v", got, copies)
		}
		if r, _ := c.End(time.Minute); r.Prefetched != 3 {
			t.Errorf("report %+v", r)
		}
		c.Close()
	}
}

// A file in the queue that is no job is removed, not stumbled over.
func TestQueueGarbage(t *testing.T) {
	tm := startTeam(t)
	m := startMachine(t)
	old := m.put(tm, 0, 1)
	old.Time = time.Now().Add(-30 * 24 * time.Hour)
	if err := old.Write(m.place); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"1-a.job": "", "2-b.job": "{}\nxx", "3-c.job": strings.Repeat("x", 1000)} {
		if err := os.WriteFile(filepath.Join(m.place.Queue(), name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.build(tm, 1, 2)
	if names, err := m.place.Jobs(); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

// There is one agent for a place, and it leaves when it is not needed.
func TestOneAgent(t *testing.T) {
	m := startMachine(t)
	if err := agent.Run(context.Background(), agent.Options{Place: m.place, Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Idle: time.Hour}); err != nil {
		t.Errorf("the second: %v", err)
	}
	idle := startMachine(t)
	c, err := session.Connect(context.Background(), idle.place, nil, session.Hello{Version: "v1.0.0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Stop()
	if err := <-idle.ended; err != nil {
		t.Error(err)
	}
	idle.beginAgent(10 * time.Millisecond) // it may be gone before anybody looks
	if err := <-idle.ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(idle.place.Runs()[0].Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its socket: %v", err)
	}
}

// An agent that cannot be found any more ends, and leaves alone what another one
// has made in its place since.
func TestSocketGone(t *testing.T) {
	m := startMachine(t)
	if err := os.Remove(m.place.Runs()[0].Socket()); err != nil {
		t.Fatal(err)
	}
	if err := <-m.ended; err != nil {
		t.Error(err)
	}
	m.startAgent(time.Hour)
	first := m.ended
	for _, dir := range []string{m.place.Dir, filepath.Dir(m.place.Runs()[0].Socket())} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	m.startAgent(time.Hour)
	if err := <-first; err != nil {
		t.Error(err)
	}
	c, err := session.Connect(context.Background(), m.place, nil, session.Hello{Version: "v1.0.0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := os.Stat(m.place.PID()); err != nil {
		t.Error(err)
	}
}

// A plan that comes in drops, as over a line that is all but dead, is not waited for:
// gets are misses until it is there.
func TestSlowPlan(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Write([]byte{'B', 0, 1, 0, 0}) // a plan of 64 KiB
		for r.Context().Err() == nil {
			w.Write([]byte{1})
			http.NewResponseController(w).Flush()
			time.Sleep(20 * time.Millisecond) // the line's speed
		}
	}))
	t.Cleanup(srv.Close)
	m := startMachine(t)
	c := m.connect(&team{t: t, url: srv.URL}, key, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for i := range 3 {
		if c.Get(ctx, action(i)) {
			t.Errorf("get %d is a hit", i)
		}
	}
	if ctx.Err() != nil {
		t.Error("gets wait for the plan")
	}
}
