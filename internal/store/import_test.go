package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/store"
)

// What another machine has put is found as what it is, with the time of its put.
func TestImport(t *testing.T) {
	put := time.Unix(1700000000, 42)
	for name, data := range map[string][]byte{"empty": {}, "small": body(1, 100), "large": body(2, 3*store.CopyBytes+1)} {
		for kind, reader := range map[string]func() io.Reader{
			"whole":    func() io.Reader { return bytes.NewReader(data) },
			"streamed": func() io.Reader { return io.MultiReader(bytes.NewReader(data)) },
		} {
			t.Run(name+" "+kind, func(t *testing.T) {
				s := store.Open(store.Options{Dir: t.TempDir()})
				defer s.Close()
				for range 2 { // the second time, all is there already
					if err := s.Import(actionID(1), sha256.Sum256(data), int64(len(data)), put, reader()); err != nil {
						t.Fatal(err)
					}
				}
				o, err := s.Get(actionID(1))
				if err != nil || !o.Time.Equal(put) || o.Size != int64(len(data)) {
					t.Fatalf("%+v, %v", o, err)
				}
				if got, err := os.ReadFile(o.DiskPath); err != nil || !bytes.Equal(got, data) {
					t.Errorf("body of %d bytes, %v", len(got), err)
				}
			})
		}
	}
}

// What is not what it should be, or cannot be written, leaves nothing behind.
func TestImportRefuses(t *testing.T) {
	data := body(1, 1000)
	out := sha256.Sum256(data)
	broken := errors.New("connection reset")
	var mismatch *entry.MismatchError
	for name, tt := range map[string]struct {
		out  entry.OutputID
		size int64
		body io.Reader
		want func(error) bool
	}{
		"wrong bytes": {sha256.Sum256([]byte("other")), 1000, bytes.NewReader(data), func(err error) bool { return errors.As(err, &mismatch) }},
		"too long":    {out, 999, bytes.NewReader(data), func(err error) bool { return errors.As(err, &mismatch) }},
		"too short":   {out, 1000, bytes.NewReader(data[1:]), func(err error) bool { return errors.As(err, &mismatch) }},
		"not empty":   {entry.EmptyOutput, 0, bytes.NewReader(data), func(err error) bool { return errors.As(err, &mismatch) }},
		"cut off":     {out, 1000, io.MultiReader(bytes.NewReader(data[:500]), failingWith{broken}), func(err error) bool { return errors.Is(err, broken) }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := store.Open(store.Options{Dir: dir})
			if err := s.Import(actionID(1), tt.out, tt.size, time.Now(), tt.body); !tt.want(err) {
				t.Errorf("error %v", err)
			}
			if _, err := s.Get(actionID(1)); !errors.Is(err, store.ErrMiss) {
				t.Errorf("get: %v", err)
			}
			s.Close()
			if left := files(t, dir); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
	for _, op := range []string{"create", "write", "rename"} {
		s := store.Open(store.Options{Dir: t.TempDir()})
		s.SetFault(func(o, _ string) error {
			if o == op {
				return broken
			}
			return nil
		})
		if err := s.Import(actionID(1), out, 1000, time.Now(), bytes.NewReader(data)); !errors.Is(err, broken) {
			t.Errorf("%s fails: %v", op, err)
		}
		s.SetFault(nil)
		if _, err := s.Get(actionID(1)); !errors.Is(err, store.ErrMiss) {
			t.Errorf("%s fails, get: %v", op, err)
		}
		s.Close()
	}
}

func TestActions(t *testing.T) {
	s := store.Open(store.Options{Dir: t.TempDir()})
	defer s.Close()
	var want, got []entry.ActionID
	for i := range 300 {
		id := entry.ActionID(sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
		if err := s.Import(id, entry.EmptyOutput, 0, time.Now(), bytes.NewReader(nil)); err != nil {
			t.Fatal(err)
		}
		want = append(want, id)
	}
	s.Actions(context.Background(), func(id entry.ActionID) bool { got = append(got, id); return true })
	compare := func(a, b entry.ActionID) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(want, compare)
	slices.SortFunc(got, compare)
	if !slices.Equal(got, want) {
		t.Errorf("%d actions, want %d", len(got), len(want))
	}
	n := 0
	s.Actions(context.Background(), func(entry.ActionID) bool { n++; return n < 7 })
	if n != 7 {
		t.Errorf("went on to %d", n)
	}
}

// A body that says itself whose it is names its action when all of it has been read;
// if that is refused, nothing is stored.
func TestImportNamed(t *testing.T) {
	for name, data := range map[string][]byte{"empty": {}, "large": body(2, 3*store.CopyBytes+1)} {
		dir := t.TempDir()
		s := store.Open(store.Options{Dir: dir})
		defer s.Close()
		read := bytes.NewReader(data)
		refused := errors.New("refused")
		var answer error = refused
		named := func() (entry.ActionID, error) {
			if read.Len() > 0 {
				t.Errorf("%s: named with %d bytes unread", name, read.Len())
			}
			return actionID(1), answer
		}
		if err := s.ImportNamed(named, sha256.Sum256(data), int64(len(data)), time.Now(), read); !errors.Is(err, refused) {
			t.Errorf("%s: %v", name, err)
		}
		if files, err := filepath.Glob(filepath.Join(dir, "??", "*")); err != nil || len(files) != 0 {
			t.Errorf("%s: a refused import has left %q, %v", name, files, err)
		}
		read.Reset(data)
		answer = nil
		if err := s.ImportNamed(named, sha256.Sum256(data), int64(len(data)), time.Now(), read); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Get(actionID(1)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
