package agent_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/faulttest"
	"github.com/larder-build/larder/internal/session"
)

// pull has what a manifest names brought in, and waits for it.
func (m *machine) pull(tm *team, hello session.Hello) (session.Report, error) {
	m.t.Helper()
	hello.Version, hello.Store, hello.Remote.URL, hello.Pull = "v1.0.0", m.dir, tm.url, true
	if hello.Manifest == "" {
		hello.Manifest = key
	}
	c, err := session.Connect(context.Background(), m.place, nil, hello, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	return c.Pull(context.Background(), func(r session.Report) {
		if r.Prefetched > r.Planned || r.FetchedBytes > r.PlannedBytes {
			m.t.Errorf("more than was planned: %+v", r)
		}
	})
}

// have is how many of the actions are in the store.
func (m *machine) have(from, to int) (n int) {
	for i := from; i < to; i++ {
		if m.check(i) {
			n++
		}
	}
	return n
}

// A pull brings what the last session used and this store lacks, in one round trip,
// and is over when it is there.
func TestPull(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, some)
	m := startMachine(t)
	m.put(tm, 0, 5)
	before := tm.requests.Load()
	r, err := m.pull(tm, session.Hello{})
	if err != nil || r.Pending || r.Planned != some-5 || r.Prefetched != some-5 || r.FetchedBytes != r.PlannedBytes || r.Problem != "" || r.RoundTrips != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if n := tm.requests.Load() - before; n != 1 {
		t.Errorf("%d requests", n)
	}
	if n := m.have(0, some); n != some {
		t.Errorf("%d of %d are there", n, some)
	}
	if r, err := m.pull(tm, session.Hello{}); err != nil || r.Planned != 0 || r.Problem != "" {
		t.Errorf("once more: %+v, %v", r, err)
	}
	if r, err := m.pull(tm, session.Hello{Manifest: strings.Repeat("00", 32)}); err != nil || r.Planned != 0 || r.Problem != "" {
		t.Errorf("of a kind that nobody knows: %+v, %v", r, err)
	}
}

// What the last session did not use comes only to who asks for what is older.
func TestPullOlder(t *testing.T) {
	tm := startTeam(t)
	one := startMachine(t)
	one.build(tm, 0, some)
	one.build(tm, some/2, some+some/2) // half of it is used again
	m := startMachine(t)
	if r, err := m.pull(tm, session.Hello{}); err != nil || r.Prefetched != some {
		t.Errorf("%+v, %v", r, err)
	}
	if n := m.have(0, some/2); n != 0 {
		t.Errorf("%d older ones have come", n)
	}
	if r, err := m.pull(tm, session.Hello{Older: true}); err != nil || r.Prefetched != some/2 || r.Planned != some/2 {
		t.Errorf("older: %+v, %v", r, err)
	}
	if n := m.have(0, some/2); n != some/2 {
		t.Errorf("%d of %d older ones are there", n, some/2)
	}
}

// A pull while a build of the same kind fetches is over when all is there, however
// the build ends.
func TestPullBesideBuild(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, some)
	m := startMachine(t)
	tm.proxy.SetRTT(100 * time.Millisecond)
	build := m.connect(tm, key, nil)
	go build.Close()
	if r, err := m.pull(tm, session.Hello{}); err != nil || r.Pending || r.Problem != "" {
		t.Errorf("%+v, %v", r, err)
	}
	if n := m.have(0, some); n != some {
		t.Errorf("%d of %d are there", n, some)
	}
}

// Whatever the server does, a pull ends, says why, and keeps what came.
func TestPullFaults(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, some)
	for name, fault := range map[string]faulttest.Fault{
		"drops":         {Kind: faulttest.Drop},
		"resets late":   {Kind: faulttest.Reset, After: 500},
		"resets midway": {Kind: faulttest.Reset, After: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMachine(t)
			tm.proxy.SetFault(fault)
			defer tm.proxy.SetFault(faulttest.Fault{})
			r, err := m.pull(tm, session.Hello{})
			if err != nil || r.Pending || r.Problem == "" && r.Prefetched < some {
				t.Errorf("%+v, %v", r, err)
			}
			if n := int64(m.have(0, some)); n < r.Prefetched {
				t.Errorf("%d of %d that came are there", n, r.Prefetched)
			}
		})
	}
	t.Run("is down", func(t *testing.T) {
		m := startMachine(t)
		tm.proxy.Down()
		for range 2 { // the second time the breaker knows
			if r, err := m.pull(tm, session.Hello{}); err != nil || r.Problem+r.Breaker == "" || r.Planned != 0 {
				t.Errorf("%+v, %v", r, err)
			}
		}
		if err := tm.proxy.Up(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("is too slow", func(t *testing.T) {
		m := startMachine(t)
		tm.proxy.SetRTT(2 * time.Second)
		defer tm.proxy.SetRTT(0)
		c, err := session.Connect(context.Background(), m.place, nil,
			session.Hello{Version: "v1.0.0", Store: m.dir, Remote: session.Remote{URL: tm.url}, Manifest: key, Pull: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		if r, err := c.Pull(ctx, func(session.Report) {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// Of what a job is unsure of, only that is uploaded which the server lacks.
func TestUploadUnsure(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, 10)
	m := startMachine(t)
	job := m.put(tm, 0, 20) // 0 to 9 are there already
	job.Puts = append(job.Puts[5:], job.Puts[:5]...)
	job.Unsure = 18 // all but 5 and 6
	if err := job.Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, err := m.flush(); err != nil || r.Queued != 0 || r.Problem != "" || r.Uploaded != 12 {
		t.Errorf("%+v, %v", r, err)
	}
	other := startMachine(t)
	if r, err := other.pull(tm, session.Hello{}); err != nil || r.Prefetched != 20 {
		t.Errorf("%+v, %v", r, err)
	}
	// Again, now that the agent knows what the server has.
	if err := job.Write(m.place); err != nil {
		t.Fatal(err)
	}
	if r, err := m.flush(); err != nil || r.Queued != 0 || r.Uploaded != 14 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Who waits for uploads to a server that takes none is told why.
func TestFlushRefused(t *testing.T) {
	tm := startTeam(t)
	tm.readOnly.Store(true)
	m := startMachine(t)
	job := m.put(tm, 0, 3)
	job.Unsure = 3
	if err := job.Write(m.place); err != nil {
		t.Fatal(err)
	}
	c, err := session.Connect(context.Background(), m.place, nil, session.Hello{Version: "v1.0.0", Remote: session.Remote{URL: tm.url}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Flush(context.Background(), func(session.Report) {})
	if err != nil || r.Queued != 0 || r.Uploaded != 0 || !strings.Contains(r.Refused, "may not write") {
		t.Errorf("%+v, %v", r, err)
	}
}
