package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/remote"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/store"
)

// startTokens is a team whose server knows a pull request's tokens and main's.
func startTokens(t *testing.T) *team {
	tm := startTeam(t)
	pr := auth.Grant{Name: "pr-ci", Read: []string{"pr-1", auth.Trusted}, Write: "pr-1"}
	main := auth.Grant{Name: "main-ci", Read: []string{auth.Trusted}, Write: auth.Trusted}
	tm.grants = map[string]auth.Grant{"pr": pr, "pr-renewed": pr, "main": main, "main-renewed": main}
	tm.token = filepath.Join(t.TempDir(), "token")
	return tm
}

// as has the token's file hold another token.
func (tm *team) as(token string) {
	tm.t.Helper()
	if err := os.WriteFile(tm.token, []byte(token+"\n"), 0o600); err != nil {
		tm.t.Fatal(err)
	}
}

// session is what a helper does that builds some actions: it leaves a job as whom it is.
func (m *machine) session(tm *team, from, to int) {
	m.t.Helper()
	c := m.connect(tm, key, nil)
	id := c.Welcome.Identity
	m.getAll(c, from, to)
	j := m.put(tm, from, to)
	report, ok := c.End(time.Minute)
	if !ok || id == nil || report.Identity == nil || report.Identity.Token != id.Token {
		m.t.Fatalf("began as %+v, ended as %+v", id, report.Identity)
	}
	j.Identity = report.Identity
	c.Close()
	if err := j.Write(m.place); err != nil {
		m.t.Fatal(err)
	}
}

// has is how many of the actions the holder of a token can read.
func (tm *team) has(token string, from, to int) (n int) {
	tm.t.Helper()
	file := filepath.Join(tm.t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		tm.t.Fatal(err)
	}
	c, err := remote.New(remote.Options{URL: tm.url, TokenFile: file})
	if err != nil {
		tm.t.Fatal(err)
	}
	defer c.Close()
	filter, _, err := c.Filter(context.Background(), "")
	if err != nil {
		tm.t.Fatal(err)
	}
	for i := from; i < to; i++ {
		if filter.Has(action(i)) {
			n++
		}
	}
	return n
}

// What was built with one token is not uploaded with another one's namespace, whenever
// the file changes; a renewed token of the same one will do.
func TestTokenChangesBeforeUpload(t *testing.T) {
	for name, tt := range map[string]struct {
		then, now string
		down      bool // while it is built
		goes      bool
	}{
		"not at all":             {"pr", "pr", false, true},
		"renewed":                {"pr", "pr-renewed", false, true},
		"another":                {"pr", "main", false, false},
		"the other way":          {"main", "pr", false, false},
		"nobody has asked":       {"pr", "pr", true, true},
		"nobody has asked, then": {"pr", "main", true, false},
		// Whether it is the same namespace, nobody can say.
		"nobody has asked, renewed": {"main", "main-renewed", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			tm := startTokens(t)
			m := startMachine(t)
			tm.as(tt.then)
			if tt.down {
				tm.proxy.Down()
			}
			m.session(tm, 0, 5)
			tm.as(tt.now)
			if tt.down {
				if err := tm.proxy.Up(); err != nil {
					t.Fatal(err)
				}
			}
			r, said := m.flushAll(tm)
			if r.Queued != 0 || (r.Uploaded == 5) != tt.goes || !tt.goes && r.Uploaded != 0 {
				t.Errorf("flush: %+v", r)
			}
			dropped := 0
			for _, line := range said {
				if strings.Contains(line, "the token has changed since the build") {
					dropped++
				}
			}
			if dropped > 1 || (dropped == 0) != tt.goes {
				t.Errorf("said %q", said)
			}
			if n := tm.has("main", 0, 5); tt.then == "pr" && n != 0 {
				t.Errorf("trusted has %d entries of the pull request", n)
			}
			if n := tm.has(tt.then, 0, 5); (n == 5) != tt.goes {
				t.Errorf("%d of 5 are where they belong", n)
			}
		})
	}
}

// A job is uploaded with one token from its beginning to its end.
func TestTokenChangesBetweenBatches(t *testing.T) {
	tm := startTokens(t)
	b := tm.stand(t)
	m := startMachine(t)
	tm.as("pr")
	c := m.connect(tm, key, nil)
	m.getAll(c, 0, 1)
	report, _ := c.End(time.Minute)
	c.Close()
	j := m.put(tm, 0, 1)
	for i := 1; i < 700; i++ { // more than go into a batch
		m.putBody(j, action(i), nil)
	}
	j.Identity = report.Identity
	var once sync.Once
	swap := func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/put") {
			once.Do(func() { tm.as("main") })
		}
		return false
	}
	b.refuse.Store(&swap)
	if err := j.Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, _ := m.flushAll(tm); r.Queued != 0 || r.Uploaded != 700 {
		t.Errorf("flush: %+v", r)
	}
	if n := tm.has("main", 0, 700); n != 0 {
		t.Errorf("trusted has %d entries of the pull request", n)
	}
}

// A job of an older version does not say whose it is: it is not uploaded where there are
// tokens.
func TestJobOfNobody(t *testing.T) {
	tm := startTokens(t)
	m := startMachine(t)
	tm.as("main")
	if err := m.put(tm, 0, 5).Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, said := m.flushAll(tm); r.Queued != 0 || r.Uploaded != 0 || len(said) != 1 {
		t.Errorf("flush: %+v, said %q", r, said)
	}
}

// What has been put under the same action since by somebody else is not what a job is about.
func TestReplacedBeforeUpload(t *testing.T) {
	tm := startTeam(t)
	m := startMachine(t)
	j := m.put(tm, 0, 5)
	for i := range j.Puts {
		j.Puts[i].Output = sha256.Sum256(content(i))
	}
	m.putBody(&session.Job{}, action(2), []byte("another one"))
	if err := j.Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, _ := m.flushAll(tm); r.Queued != 0 || r.Uploaded != 4 {
		t.Errorf("flush: %+v", r)
	}
}

// since is since when a store has been only its present user's, as a push is told.
func (m *machine) since(tm *team) time.Time {
	m.t.Helper()
	c, err := session.Connect(context.Background(), m.place, nil,
		session.Hello{Version: "v1.0.0", Store: m.dir, Remote: session.Remote{URL: tm.url, TokenFile: tm.token}, Identify: true}, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	r, ok := c.End(time.Minute)
	if !ok || r.Identity == nil {
		m.t.Fatalf("report %+v", r)
	}
	return r.Since
}

// pullAs pulls what is there for the token of the moment.
func (m *machine) pullAs(tm *team) session.Report {
	m.t.Helper()
	c, err := session.Connect(context.Background(), m.place, nil,
		session.Hello{Version: "v1.0.0", Store: m.dir, Remote: session.Remote{URL: tm.url, TokenFile: tm.token}, Manifest: key, Pull: true}, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Pull(context.Background(), func(session.Report) {})
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

func (m *machine) object(n int) entry.Object {
	m.t.Helper()
	s := store.Open(store.Options{Dir: m.dir})
	defer s.Close()
	o, err := s.Get(action(n))
	if err != nil {
		m.t.Fatal(err)
	}
	return o
}

// What was put or came with another token is not for a push with this one, neither when
// the other comes back; a renewed token changes nothing.
func TestStoreOfAnother(t *testing.T) {
	tm := startTokens(t)
	tm.as("pr")
	one := startMachine(t)
	one.session(tm, 0, 5)
	if r, _ := one.flushAll(tm); r.Uploaded != 5 {
		t.Fatalf("flush: %+v", r)
	}

	m := startMachine(t)
	if since := m.since(tm); !since.IsZero() {
		t.Errorf("a store where nobody has been is ours since %v", since)
	}
	if r := m.pullAs(tm); r.Prefetched != 5 {
		t.Errorf("pull: %+v", r)
	}
	m.put(tm, 5, 10) // natively
	tm.as("pr-renewed")
	if since := m.since(tm); !since.IsZero() {
		t.Errorf("with a renewed token it is ours since %v", since)
	}
	tm.as("main")
	since := m.since(tm)
	for i := range 10 {
		if at := m.object(i).Time; at.After(since) {
			t.Errorf("entry %d of the pull request, of %v, is main's, since %v", i, at, since)
		}
	}
	m.put(tm, 10, 15)
	if again := m.since(tm); !again.Equal(since) {
		t.Errorf("since %v, then since %v", since, again)
	}
	for i := 10; i < 15; i++ {
		if at := m.object(i).Time; !at.After(since) {
			t.Errorf("entry %d, of %v, is not main's, since %v", i, at, since)
		}
	}
	tm.as("pr")
	since = m.since(tm)
	for i := range 15 {
		if at := m.object(i).Time; at.After(since) {
			t.Errorf("entry %d, of %v, is the pull request's, since %v", i, at, since)
		}
	}
}

// Who cannot be told apart from another one is another one, until it turns out that it
// is not.
func TestStoreWhileServerIsDown(t *testing.T) {
	tm := startTokens(t)
	tm.as("main")
	m := startMachine(t)
	if err := os.Mkdir(m.dir, 0o777); err != nil { // as the go command does, before all else
		t.Fatal(err)
	}
	m.since(tm)
	m.put(tm, 0, 5)
	tm.proxy.Down()
	tm.as("main-renewed")
	if since := m.since(tm); m.object(4).Time.After(since) {
		t.Error("whoever this is has what main has put")
	}
	if err := tm.proxy.Up(); err != nil {
		t.Fatal(err)
	}
	if since := m.since(tm); !since.IsZero() {
		t.Errorf("it was main, and has the store since %v", since)
	}
}

// A store in which another version was, which did not note whose it is, is nobody's.
func TestStoreOfNobody(t *testing.T) {
	tm := startTokens(t)
	tm.as("main")
	m := startMachine(t)
	m.put(tm, 0, 5)
	if err := os.MkdirAll(filepath.Join(m.dir, "larder"), 0o777); err != nil {
		t.Fatal(err)
	}
	if since := m.since(tm); m.object(4).Time.After(since) {
		t.Error("main has what was there")
	}
}

// An entry has no time after it came, whatever its header says: else who has put it
// would say when.
func TestTimeOfWhatComes(t *testing.T) {
	tm := startTokens(t)
	tm.as("pr")
	c, err := remote.New(remote.Options{URL: tm.url, TokenFile: tm.token})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	data := []byte("from the future")
	h := entry.Header{ActionID: action(0), OutputID: sha256.Sum256(data), Size: int64(len(data)), Stored: int64(len(data)), Sum: entry.Checksum(data), Time: time.Now().Add(24 * time.Hour)}
	if _, _, err := c.Put(context.Background(), func(w *entry.StreamWriter) error { return w.Entry(&h, bytes.NewReader(data)) }); err != nil {
		t.Fatal(err)
	}
	m := startMachine(t)
	if !m.connect(tm, "", nil).Get(context.Background(), action(0)) {
		t.Fatal("it does not come")
	}
	if at := m.object(0).Time; at.After(time.Now()) {
		t.Errorf("it is of %v", at)
	}
}

// What comes with a token that has changed in the middle of a session is not the session's.
func TestTokenChangesInSession(t *testing.T) {
	tm := startTokens(t)
	tm.as("pr")
	one := startMachine(t)
	one.session(tm, 0, 5)
	if r, _ := one.flushAll(tm); r.Uploaded != 5 {
		t.Fatalf("flush: %+v", r)
	}
	m := startMachine(t)
	tm.as("main")
	m.since(tm)
	c := m.connect(tm, "", nil)
	if c.Get(context.Background(), action(0)) {
		t.Error("main has got what is the pull request's")
	}
	tm.as("pr")
	if have := m.getAll(c, 1, 5); have != 4 {
		t.Errorf("%d of 4", have)
	}
	c.Close()
	tm.as("main")
	since := m.since(tm)
	for i := 1; i < 5; i++ {
		if at := m.object(i).Time; at.After(since) {
			t.Errorf("entry %d of the pull request, of %v, is main's, since %v", i, at, since)
		}
	}
}
