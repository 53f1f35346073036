package helper_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/helper"
	"github.com/larder-build/larder/internal/session"
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
