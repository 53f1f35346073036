package store_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/store"
)

// failAt makes the operations on paths in dir fail.
func failAt(dir string, err error) func(op, path string) error {
	return func(op, path string) error {
		if strings.HasPrefix(path, dir) {
			return err
		}
		return nil
	}
}

// After a failure most puts pass the directory by. Once one succeeds there, all go
// there again.
func TestPutsReturnToTheDirectory(t *testing.T) {
	dir := t.TempDir()
	s := store.Open(store.Options{Dir: dir, FallbackParent: t.TempDir()})
	defer s.Close()
	within := func(path string) bool { return strings.HasPrefix(path, dir) }
	s.SetFault(failAt(dir, syscall.ENOSPC))
	if within(put(t, s, actionID(0), body(0, 1000))) {
		t.Fatal("the fault did not work")
	}
	s.SetFault(nil)
	for i := 1; i < store.RetryPuts; i++ {
		if within(put(t, s, actionID(i), body(byte(i), 1000))) {
			t.Fatalf("put %d tried the directory again", i)
		}
	}
	for i := store.RetryPuts; i < store.RetryPuts+3; i++ {
		if !within(put(t, s, actionID(i), body(byte(i), 1000))) {
			t.Errorf("put %d did not go to the directory", i)
		}
	}
	for i := range store.RetryPuts + 3 {
		wantHit(t, s, actionID(i), body(byte(i), 1000))
	}
}

// What stands in the way of one name does not keep the others out.
func TestOneNameInTheWay(t *testing.T) {
	dir := t.TempDir()
	s := store.Open(store.Options{Dir: dir, FallbackParent: t.TempDir()})
	defer s.Close()
	in := func(name string) {
		if err := os.MkdirAll(filepath.Join(name, "something"), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	in(store.FileName(dir, sum(body(1, 1000)), 'd'))
	in(store.FileName(dir, actionID(2), 'a'))
	for i := range 5 {
		data := body(byte(i), 1000)
		path := put(t, s, actionID(i), data)
		wantHit(t, s, actionID(i), data)
		if got, want := strings.HasPrefix(path, dir), i != 1; got != want {
			t.Errorf("put %d went to %s", i, path)
		}
	}
}

// A fallback directory that somebody cleans away is made anew, and what was in
// it is a miss.
func TestFallbackIsCleanedAway(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(t.TempDir())
	s := store.Open(store.Options{Dir: dir, FallbackParent: "."})
	defer s.Close()
	s.SetFault(failAt(dir, syscall.EROFS))
	path := put(t, s, actionID(1), body(1, 1000))
	if !filepath.IsAbs(path) {
		t.Errorf("path %s is not absolute", path)
	}
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	wantMiss(t, s, actionID(1), store.Absent)
	put(t, s, actionID(2), body(2, 1000))
	wantHit(t, s, actionID(2), body(2, 1000))
}

// Where the store cannot be written there are fallback directories; they are
// collected though nothing can be trimmed.
func TestFallbackIsCollectedWithoutStore(t *testing.T) {
	for _, kind := range []string{"a file", "nothing"} {
		t.Run(kind, func(t *testing.T) {
			now, parent := time.Now(), t.TempDir()
			o := store.Options{Dir: filepath.Join(t.TempDir(), "store"), FallbackParent: parent, Now: func() time.Time { return now }}
			if kind == "a file" {
				os.WriteFile(o.Dir, nil, 0o666)
			}
			s := store.Open(o)
			s.SetFault(failAt(o.Dir, syscall.EROFS))
			put(t, s, actionID(1), body(1, 1000))
			s.Close()
			if kind == "nothing" {
				os.RemoveAll(o.Dir)
			}
			now = now.Add(3 * time.Hour)
			_, err := store.TrimIfDue(t.Context(), o, store.Limits{}, 0)
			if (err != nil) != (kind == "a file") {
				t.Errorf("trim: %v", err)
			}
			if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// The body's own errors come back as they are, even the one that could be
// taken for its end.
func TestBodyErrorsComeBack(t *testing.T) {
	dir := t.TempDir()
	s := store.Open(store.Options{Dir: dir, FallbackParent: t.TempDir()})
	defer s.Close()
	data := body(1, 1000)
	for _, want := range []error{io.ErrUnexpectedEOF, errBody} {
		for _, n := range []int{0, 500, 1000} {
			r := io.MultiReader(bytes.NewReader(data[:n]), failingWith{want})
			if path, err := s.Put(actionID(1), sum(data), 1000, r); err != want {
				t.Errorf("after %d bytes: %s, %v; want %v", n, path, err, want)
			}
		}
	}
	wantMiss(t, s, actionID(1), store.Absent)

	put(t, s, actionID(2), nil)
	if path, err := s.Put(actionID(3), sum(nil), 0, strings.NewReader("not empty")); err == nil {
		t.Errorf("an empty output with a body: %s", path)
	}
}

type failingWith struct{ err error }

func (f failingWith) Read([]byte) (int, error) { return 0, f.err }

// A session whose directory is wiped is as old afterwards as it was before.
func TestWipedSessionKeepsItsStart(t *testing.T) {
	h := newShelf(t)
	s := store.Open(h.options())
	defer s.Close()
	h.add(0, 1000, 0)
	wantHit(t, s, actionID(0), body(0, 1000))
	if err := os.RemoveAll(filepath.Join(h.dir, "larder")); err != nil {
		t.Fatal(err)
	}
	h.now = h.now.Add(9 * day)
	put(t, s, actionID(1), body(1, 1000))
	h.trim(store.Limits{})
	if !exists(h.action(0)) {
		t.Error("what the session was given before has gone")
	}
}

// A file where a subdirectory should be is reported, and the rest is trimmed
// and verified all the same.
func TestScanPassesOver(t *testing.T) {
	h := newShelf(t)
	h.add(0, 1000, 9*day)
	for i := range 256 {
		name := filepath.Join(h.dir, string("0123456789abcdef"[i>>4])+string("0123456789abcdef"[i&15]))
		if !exists(name) {
			os.WriteFile(name, nil, 0o666)
			break
		}
	}
	if _, err := store.Trim(t.Context(), h.options(), store.Limits{}, nil); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("trim: %v", err)
	}
	if exists(h.action(0)) {
		t.Error("the rest was not trimmed")
	}
}
