package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/store"
)

// A put survives the failure of any operation in the store's directory, once or
// from then on: its path has the right bytes, and the action is found in this
// session.
func TestPutSurvivesEveryFault(t *testing.T) {
	data := body(1, 300_000) // three writes
	for _, op := range []string{"create", "write", "rename", "close"} {
		for _, forever := range []bool{false, true} {
			for nth := 1; nth <= 4; nth++ {
				t.Run(fmt.Sprintf("%s %d forever=%v", op, nth, forever), func(t *testing.T) {
					dir, parent := t.TempDir(), t.TempDir()
					s := store.Open(store.Options{Dir: dir, FallbackParent: parent})
					defer s.Close()
					calls := 0
					s.SetFault(func(o, path string) error {
						if strings.HasPrefix(path, parent) || path == "fallback" {
							return nil
						}
						if o == op {
							calls++
						}
						if o == op && calls == nth || forever && calls >= nth {
							return syscall.ENOSPC
						}
						return nil
					})
					path := put(t, s, actionID(1), data)
					if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
						t.Fatalf("%s does not have the body: %v", path, err)
					}
					s.SetFault(nil)
					wantHit(t, s, actionID(1), data)
					wantSound(t, dir)
					wantNoTemporary(t, dir)
				})
			}
		}
	}
}

// No put fails if calls that make files do so now and then, whatever directory
// they are for: too many files are open, or a disk is in trouble.
func TestPutSurvivesEveryOtherCreate(t *testing.T) {
	for first := range 2 {
		s := store.Open(store.Options{Dir: t.TempDir(), FallbackParent: t.TempDir()})
		defer s.Close()
		creates := first
		s.SetFault(func(op, path string) error {
			if op != "create" {
				return nil
			}
			if creates++; creates%2 == 0 {
				return nil
			}
			return syscall.EMFILE
		})
		for i := range 2 * store.RetryPuts {
			data := body(byte(i), 1000)
			path := put(t, s, actionID(i), data)
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s does not have the body: %v", path, err)
			}
			wantHit(t, s, actionID(i), data)
		}
	}
}

// If the fallback directory cannot be written either, that is an error, and
// nothing wrong is left.
func TestPutFailsOnlyWithoutFallback(t *testing.T) {
	dir := t.TempDir()
	s := store.Open(store.Options{Dir: dir, FallbackParent: filepath.Join(dir, "no", "such")})
	defer s.Close()
	s.SetFault(func(op, path string) error { return syscall.ENOSPC })
	data := body(1, 1000)
	if path, err := s.Put(actionID(1), sha256.Sum256(data), 1000, bytes.NewReader(data)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("put: %q, %v", path, err)
	}
	wantMiss(t, s, actionID(1), store.Absent)
	wantNoTemporary(t, dir)
	s.SetFault(nil)
	for i := range store.RetryPuts {
		s.Put(actionID(i+1), sha256.Sum256(data), 1000, bytes.NewReader(data))
	}
	wantHit(t, s, actionID(store.RetryPuts), data) // it is tried again in time
}

// Whatever stands where the directory or one of its parts should be.
func TestPutSurvivesFilesInTheWay(t *testing.T) {
	data := body(1, 1000)
	out := sha256.Sum256(data)
	for _, tt := range []struct {
		name string
		file func(dir string) string
	}{
		{"the directory", func(dir string) string { return dir }},
		{"larder", func(dir string) string { return filepath.Join(dir, "larder") }},
		{"live", func(dir string) string { return filepath.Join(dir, "larder", "live") }},
		{"the output's subdirectory", func(dir string) string { return filepath.Dir(store.FileName(dir, out, 'd')) }},
		{"the action's subdirectory", func(dir string) string { return filepath.Dir(store.FileName(dir, actionID(1), 'a')) }},
		{"a symbolic link to nowhere", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			if tt.file == nil {
				if err := os.Symlink(filepath.Join(dir, "nowhere"), dir); err != nil {
					t.Skip(err)
				}
			} else if err := errors.Join(os.MkdirAll(filepath.Dir(tt.file(dir)), 0o777), os.WriteFile(tt.file(dir), nil, 0o666)); err != nil {
				t.Fatal(err)
			}
			s := store.Open(store.Options{Dir: dir, FallbackParent: t.TempDir()})
			defer s.Close()
			path := put(t, s, actionID(1), data)
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s does not have the body: %v", path, err)
			}
			wantHit(t, s, actionID(1), data)
		})
	}
}

// The fallback directory says why it is there and is gone when it is safe.
func TestFallbackIsCollected(t *testing.T) {
	dir, parent := t.TempDir(), t.TempDir()
	now := time.Now()
	o := store.Options{Dir: dir, FallbackParent: parent, Now: func() time.Time { return now }}
	s := store.Open(o)
	s.SetFault(func(op, path string) error {
		if strings.HasPrefix(path, parent) || path == "fallback" {
			return nil
		}
		return syscall.EROFS
	})
	path := put(t, s, actionID(1), body(1, 1000))
	if fallback, why := s.Fallback(); filepath.Dir(path) != fallback || !errors.Is(why, syscall.EROFS) {
		t.Fatalf("path %s, fallback %s: %v", path, fallback, why)
	}
	stranger := filepath.Join(parent, fmt.Sprintf("larder-%d-link", os.Getuid()))
	if err := os.Symlink(dir, stranger); err != nil {
		t.Fatal(err)
	}
	trim := func() {
		t.Helper()
		if _, err := store.Trim(t.Context(), o, store.Limits{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(24 * time.Hour)
	trim() // it is old, but its session lives
	s.Close()
	now = now.Add(-23 * time.Hour)
	trim() // its session has ended, but its paths may be in use
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, body(1, 1000)) {
		t.Fatalf("gone too early: %v", err)
	}
	now = now.Add(2 * time.Hour)
	trim()
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
	if _, err := os.Lstat(stranger); err != nil {
		t.Errorf("a link that is not ours: %v", err)
	}
}

// A process that is killed in the middle of a put leaves a temporary file, which
// is collected; one that lives keeps its own.
func TestTemporaryFilesAreCollected(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	o := store.Options{Dir: dir, Now: func() time.Time { return now }}
	child := startChild(t, dir, "half")
	child.awaitLine(t)
	child.kill(t)

	data := body(2, 400_000)
	r, w := io.Pipe()
	s := store.Open(store.Options{Dir: dir})
	defer s.Close()
	done := make(chan error)
	go func() {
		_, err := s.Put(actionID(2), sha256.Sum256(data), int64(len(data)), r)
		done <- err
	}()
	if _, err := w.Write(data[:300_000]); err != nil {
		t.Fatal(err)
	}
	if n := len(files(t, filepath.Join(dir, "larder", "live"))); n != 2 {
		t.Fatalf("%d temporary files, want the dead one's and the living one's", n)
	}
	now = now.Add(time.Hour)
	report, err := store.Trim(t.Context(), o, store.Limits{}, nil)
	if err != nil || report.Collected != 2 { // its lock and its temporary file
		t.Errorf("trim: %+v, %v", report, err)
	}
	if n := len(files(t, filepath.Join(dir, "larder", "live"))); n != 1 {
		t.Errorf("%d temporary files, want the living one's", n)
	}
	w.Write(data[300_000:])
	w.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantHit(t, s, actionID(2), data)
}

// wantSound fails if a file under a final name is not what its name says.
func wantSound(t *testing.T, dir string) {
	t.Helper()
	report, err := store.Verify(t.Context(), store.Options{Dir: dir}, false, nil)
	if err != nil || report.ProblemCount > 0 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

func wantNoTemporary(t *testing.T, dir string) {
	t.Helper()
	if left := files(t, filepath.Join(dir, "larder")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
