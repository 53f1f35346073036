package helper_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/helper"
	"github.com/larder-build/larder/internal/stats"
	"github.com/larder-build/larder/internal/store"
)

func open(dir string) *helper.Session {
	return helper.New(helper.Options{Store: store.Open(store.Options{Dir: dir}), Costs: stats.OpenCosts(dir)})
}

func put(t *testing.T, s *helper.Session, id cacheprog.ActionID, body string) string {
	t.Helper()
	path, err := s.Put(context.Background(), cacheprog.Put{
		ActionID: id, OutputID: sha256.Sum256([]byte(body)), Size: int64(len(body)), Body: strings.NewReader(body),
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A session counts what it did, and the next one knows what its hits saved.
func TestSessionCounts(t *testing.T) {
	dir := t.TempDir()
	one, two, three := cacheprog.ActionID{1}, cacheprog.ActionID{2}, cacheprog.ActionID{3}
	s := open(dir)
	if _, err := s.GetNow(one); !errors.Is(err, cacheprog.ErrMiss) {
		t.Fatalf("get: %v", err)
	}
	put(t, s, one, "one")
	put(t, s, two, "two, which nobody asked for")
	first := s.Finish()
	if c := first.Counts; c.Gets != 1 || c.Hits != 0 || c.Misses.Absent != 1 || c.Puts != 2 || c.PutBytes != 30 || c.BuildSeconds <= 0 {
		t.Errorf("first session: %+v", c)
	}

	native := store.Open(store.Options{Dir: dir}) // built without a session
	if _, err := native.Put(entry.ActionID(three), sha256.Sum256([]byte("three")), 5, bytes.NewReader([]byte("three"))); err != nil {
		t.Fatal(err)
	}
	native.Close()
	s = open(dir)
	for _, id := range []cacheprog.ActionID{one, two, three} {
		e, err := s.Get(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(e.DiskPath); err != nil || sha256.Sum256(data) != e.OutputID || int64(len(data)) != e.Size || e.Time.IsZero() {
			t.Errorf("entry %+v: %q, %v", e, data, err)
		}
	}
	if c := s.Finish().Counts; c.Gets != 3 || c.Hits != 3 || c.HitBytes != 35 || c.CostUnknown != 1 || c.SavedSeconds > first.BuildSeconds {
		t.Errorf("second session: %+v", c)
	}
}

// Trouble is a miss, counted by kind, and never an error.
func TestTroubleIsAMiss(t *testing.T) {
	dir := t.TempDir()
	s := open(dir)
	var names [4]string
	for i := range names {
		id := cacheprog.ActionID{byte(i)}
		put(t, s, id, strings.Repeat("x", 10+i))
		names[i] = filepath.Join(dir, "0"+string('0'+byte(i)), entry.ActionID(id).String()+"-a")
	}
	output := put(t, s, cacheprog.ActionID{1}, "gone")
	if err := errors.Join(
		os.Truncate(names[0], 7), os.Remove(output), os.Remove(names[2]), os.Mkdir(names[2], 0o777), os.Remove(names[3]),
	); err != nil {
		t.Fatal(err)
	}
	for i := range names {
		if e, err := s.GetNow(cacheprog.ActionID{byte(i)}); !errors.Is(err, cacheprog.ErrMiss) {
			t.Errorf("get %d: %+v, %v", i, e, err)
		}
	}
	want := stats.Misses{Damaged: 1, OutputMissing: 1, Unreadable: 1, Absent: 1}
	if c := s.Finish().Counts; c.Misses != want {
		t.Errorf("misses %+v, want %+v", c.Misses, want)
	}
}

// A body that is not what it should be is the client's error, and says so.
func TestWrongBody(t *testing.T) {
	s := open(t.TempDir())
	_, err := s.Put(context.Background(), cacheprog.Put{ActionID: cacheprog.ActionID{1}, OutputID: cacheprog.OutputID{2}, Size: 3, Body: strings.NewReader("abc")})
	var mismatch *entry.MismatchError
	if !errors.As(err, &mismatch) {
		t.Errorf("put: %v", err)
	}
	if c := s.Finish().Counts; c.PutErrors != 1 || c.Puts != 0 {
		t.Errorf("counts %+v", c)
	}
}
