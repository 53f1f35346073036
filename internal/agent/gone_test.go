package agent_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// stop ends the machine's agent, and with it all that it may still be doing.
func (m *machine) stop() {
	m.t.Helper()
	if err := os.Remove(m.place.Runs()[0].Socket()); err != nil {
		m.t.Fatal(err)
	}
	if err := <-m.ended; err != nil { // it looks for its socket once a second
		m.t.Error(err)
	}
}

func (m *machine) wantNoStore() {
	m.t.Helper()
	if _, err := os.Lstat(m.dir); !errors.Is(err, fs.ErrNotExist) {
		m.t.Errorf("the store is there again: %v", err)
	}
}

// A store that has been removed is not made anew by what its builds left to upload.
func TestUploadsMakeNoStore(t *testing.T) {
	tm := startTeam(t)
	m := startMachine(t)
	job := m.put(tm, 0, 10)
	if err := errors.Join(os.RemoveAll(m.dir), job.Write(m.place)); err != nil {
		t.Fatal(err)
	}
	if r, err := m.flush(); err != nil || r.Queued != 0 {
		t.Errorf("flush: %+v, %v", r, err)
	}
	m.wantNoStore()
	c := m.connect(tm, "", nil) // nor by a session that finds nothing
	if c.Get(context.Background(), action(some)) {
		t.Error("found what nobody has")
	}
	c.End(time.Minute)
	m.wantNoStore()
	c.Close() // for as long as there is a session the agent stays
	m.stop()
	m.wantNoStore()
}

// When a session's end has been answered, nothing more is brought into its store,
// however much was to come: the store can be removed, and stays so.
func TestNothingComesAfterTheEnd(t *testing.T) {
	tm := startTeam(t)
	startMachine(t).build(tm, 0, 2*some)
	for range 3 {
		m := startMachine(t)
		c := m.connect(tm, key, nil)
		if !c.Get(context.Background(), action(0)) {
			t.Error("the first is not there")
		}
		if _, ok := c.End(time.Minute); !ok {
			t.Fatal("the end is not answered")
		}
		if err := removeStrictly(m.dir); err != nil {
			t.Error(err)
		}
		c.Close()
		m.stop()
		m.wantNoStore()
	}
}

// removeStrictly is rm -r: os.RemoveAll looks again for what has been made meanwhile.
func removeStrictly(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			err = removeStrictly(path)
		} else {
			err = os.Remove(path)
		}
		if err != nil {
			return err
		}
	}
	return syscall.Rmdir(dir)
}
