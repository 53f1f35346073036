package session_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/stats"
)

func notice(machine string) session.Notice {
	return session.Notice{Remote: session.Remote{URL: "https://larder.example"}, Report: stats.Report{ID: stats.NewID(), Start: time.Unix(1700000000, 0), Machine: machine}}
}

// What is left in the outbox is set aside until it is sent, and may come meanwhile.
func TestOutbox(t *testing.T) {
	p := place(t)
	os.RemoveAll(p.Dir) // it is made when it is needed
	aside := func(want ...string) (notices []session.Notice) {
		t.Helper()
		notices, err := p.SetAside()
		if err != nil || len(notices) != len(want) {
			t.Fatalf("set aside %+v, %v; want %q", notices, err, want)
		}
		for i, n := range notices {
			if n.Report.Machine != want[i] || n.Remote.URL == "" {
				t.Errorf("set aside %+v, want %s", n, want[i])
			}
		}
		return notices
	}
	leave := func(n session.Notice) {
		t.Helper()
		if err := p.Leave(n); err != nil {
			t.Fatal(err)
		}
	}
	if p.HasNotices() {
		t.Error("notices from nowhere")
	}
	aside()
	leave(notice("one"))
	leave(notice("two"))
	both := aside("one", "two")
	leave(notice("three"))
	aside("one", "two") // they were not sent
	if err := p.Sent(both[1:]); err != nil {
		t.Fatal(err)
	}
	aside("two")
	if err := p.Sent(nil); err != nil {
		t.Fatal(err)
	}
	aside("three")
	if err := p.Sent(nil); err != nil {
		t.Fatal(err)
	}
	if p.HasNotices() {
		t.Error("notices that were sent")
	}

	// Half a line costs that line, a full outbox what comes later.
	if err := os.WriteFile(filepath.Join(p.Dir, "reports"), []byte("{\"report\":{\n{}\nnull\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	leave(notice("after"))
	aside("after")
	for range 3000 {
		leave(notice("many"))
	}
	if info, err := os.Stat(filepath.Join(p.Dir, "reports")); err != nil || info.Size() > 520<<10 {
		t.Errorf("an outbox of %v bytes, %v", info.Size(), err)
	}
}

// What is left while the agent sets aside and sends is not lost.
func TestOutboxMeanwhile(t *testing.T) {
	p := place(t)
	const writers, each = 8, 50 // less than fills it
	var writing sync.WaitGroup
	for range writers {
		writing.Add(1)
		go func() {
			defer writing.Done()
			for range each {
				if err := p.Leave(notice("one")); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	written := make(chan struct{})
	go func() {
		writing.Wait()
		close(written)
	}()
	read := make(map[string]bool)
	for last := false; !last; {
		select {
		case <-written:
			last = true
		default:
		}
		for range 2 { // what was set aside, and the rest
			notices, err := p.SetAside()
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range notices {
				read[n.Report.ID] = true
			}
			if err := p.Sent(nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
	if len(read) != writers*each {
		t.Errorf("%d of %d are read", len(read), writers*each)
	}
}
