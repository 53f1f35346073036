package helper_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/helper"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/stats"
	"github.com/larder-build/larder/internal/store"
)

// An agent that takes connections and says nothing lets one session wait, not each.
func TestSilentAgent(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	place, err := session.FindPlace()
	if err != nil {
		t.Fatal(err)
	}
	if err := place.Make(); err != nil {
		t.Fatal(err)
	}
	agent, err := net.Listen("unix", place.Runs()[0].Socket())
	if err != nil {
		t.Skip(err)
	}
	defer agent.Close()
	var asked atomic.Int32
	go func() {
		for {
			c, err := agent.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			asked.Add(1)
		}
	}()
	for range 3 {
		var said []string
		l := &helper.Link{
			Place: place,
			Hello: func() session.Hello { return session.Hello{Version: "v1.0.0"} },
			Say:   func(line string) { said = append(said, line) },
		}
		for i := range 2 {
			if l.Get(context.Background(), entry.ActionID{byte(i)}) {
				t.Error("it is there")
			}
		}
		if len(said) != 1 || !strings.HasSuffix(said[0], "; this build goes on without the remote") {
			t.Errorf("said %q", said)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the agent was asked %d times", n)
	}
}

// What was put when there was no agent to be had is whose nobody knows, and so is the
// store: a push is not to take it for that of who was there before.
func TestPutsWithoutAgent(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	place, err := session.FindPlace()
	if err != nil {
		t.Fatal(err)
	}
	for _, puts := range []bool{false, true} {
		dir := t.TempDir()
		note := session.IdentityFile(dir)
		if err := os.MkdirAll(filepath.Dir(note), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(note, []byte("{}"), 0o666); err != nil {
			t.Fatal(err)
		}
		s := store.Open(store.Options{Dir: dir})
		h := helper.New(helper.Options{Store: s, Costs: stats.OpenCosts(dir), Job: new(session.Job), Link: &helper.Link{
			Place: place, Starter: session.Starter{Place: place, Larderd: filepath.Join(home, "none")},
			Hello: func() session.Hello { return session.Hello{Version: "v1.0.0", Store: dir} },
			Say:   func(string) {}, Outputs: func() []string { return nil },
		}})
		h.Get(context.Background(), cacheprog.ActionID{1})
		if puts {
			body := []byte("body")
			if _, err := h.Put(context.Background(), cacheprog.Put{ActionID: cacheprog.ActionID{1}, OutputID: sha256.Sum256(body), Size: int64(len(body)), Body: bytes.NewReader(body)}); err != nil {
				t.Fatal(err)
			}
		}
		h.Finish()
		if _, err := os.Stat(note); (err == nil) == puts {
			t.Errorf("puts: %v; whose the store is: %v", puts, err)
		}
	}
}
