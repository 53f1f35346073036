package store_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/store"
)

// body returns n bytes that depend on seed.
func body(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func actionID(n int) entry.ActionID { return sha256.Sum256([]byte{byte(n), byte(n >> 8), 'a'}) }

func put(t testing.TB, s *store.Store, id entry.ActionID, data []byte) string {
	t.Helper()
	path, err := s.Put(id, sha256.Sum256(data), int64(len(data)), bytes.NewReader(data))
	if err != nil {
		t.Fatalf("put: %v", err)
	}
	return path
}

// wantHit fails unless the store has data for id.
func wantHit(t testing.TB, s *store.Store, id entry.ActionID, data []byte) entry.Object {
	t.Helper()
	o, err := s.Get(id)
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	got, err := os.ReadFile(o.DiskPath)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) || o.OutputID != sha256.Sum256(data) || o.Size != int64(len(data)) {
		t.Fatalf("get: %d bytes of output %v, want %d", len(got), o.OutputID, len(data))
	}
	return o
}

func wantMiss(t testing.TB, s *store.Store, id entry.ActionID, want store.Reason) {
	t.Helper()
	o, err := s.Get(id)
	if !errors.Is(err, store.ErrMiss) {
		t.Fatalf("get: %+v, %v; want a miss", o, err)
	}
	if got := store.MissReason(err); got != want {
		t.Errorf("reason %v (%v), want %v", got, err, want)
	}
}

// files lists the store's files that have a final or a temporary name.
func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, ".lock") {
			names = append(names, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}

func TestPutThenGet(t *testing.T) {
	dir := t.TempDir()
	now := time.Unix(1_700_000_000, 123456789)
	s := store.Open(store.Options{Dir: dir, Now: func() time.Time { return now }})
	defer s.Close()
	for i, size := range []int{0, 1, store.CopyBytes - 1, store.CopyBytes, store.CopyBytes + 1, 3 << 20} {
		data := body(byte(i), size)
		path := put(t, s, actionID(i), data)
		if !filepath.IsAbs(path) || filepath.Ext(path) != "" {
			t.Errorf("path %s: want an absolute one without extension", path)
		}
		if o := wantHit(t, s, actionID(i), data); o.DiskPath != path || !o.Time.Equal(now) {
			t.Errorf("object %+v, want path %s, time %v", o, path, now)
		}
		// Another process sees it too.
		other := store.Open(store.Options{Dir: dir})
		wantHit(t, other, actionID(i), data)
		other.Close()
	}
	s.Close()
	if live := files(t, filepath.Join(dir, "larder")); len(live) > 0 {
		t.Errorf("left behind: %v", live)
	}
}

// The last put of an action counts, and a file that was handed out before keeps
// its bytes.
func TestLastPutCounts(t *testing.T) {
	s := store.Open(store.Options{Dir: t.TempDir()})
	defer s.Close()
	first, second := body(1, 1000), body(2, 2000)
	old, err := os.Open(put(t, s, actionID(1), first))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	put(t, s, actionID(1), second)
	put(t, s, actionID(2), first) // the same output again
	wantHit(t, s, actionID(1), second)
	wantHit(t, s, actionID(2), first)
	if got, err := io.ReadAll(old); err != nil || !bytes.Equal(got, first) {
		t.Errorf("the first file has changed: %v", err)
	}
}

// failing fails after some bytes.
type failing struct{ r io.Reader }

var errBody = errors.New("the body broke off")

func (f failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err == io.EOF {
		err = errBody
	}
	return n, err
}

func TestWrongBodiesAreRefused(t *testing.T) {
	data := body(1, 300_000)
	out := entry.OutputID(sha256.Sum256(data))
	for _, tt := range []struct {
		name string
		out  entry.OutputID
		size int64
		body io.Reader
		want error // nil: an *entry.MismatchError
	}{
		{"other bytes", out, 300_000, bytes.NewReader(body(2, 300_000)), nil},
		{"too short", out, 300_001, bytes.NewReader(data), nil},
		{"too long", out, 299_999, bytes.NewReader(data), nil},
		{"empty", out, 300_000, bytes.NewReader(nil), nil},
		{"not empty", entry.EmptyOutput, 0, bytes.NewReader(data), nil},
		{"breaks off", out, 300_000, failing{bytes.NewReader(data[:200_000])}, errBody},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := store.Open(store.Options{Dir: dir, FallbackParent: t.TempDir()})
			defer s.Close()
			path, err := s.Put(actionID(1), tt.out, tt.size, tt.body)
			var mismatch *entry.MismatchError
			if tt.want != nil && !errors.Is(err, tt.want) || tt.want == nil && !errors.As(err, &mismatch) {
				t.Errorf("put: %q, %v", path, err)
			}
			if left := files(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			wantMiss(t, s, actionID(1), store.Absent)
		})
	}
}

func TestMissReasons(t *testing.T) {
	dir := t.TempDir()
	s := store.Open(store.Options{Dir: dir})
	defer s.Close()
	data := body(1, 5000)
	id := actionID(1)
	name := store.FileName(dir, id, 'a')
	rewrite := func(b []byte) func(string) error {
		return func(string) error { return os.WriteFile(name, b, 0o666) }
	}
	for _, tt := range []struct {
		name   string
		damage func(output string) error
		want   store.Reason
	}{
		{"no action", func(string) error { return os.Remove(name) }, store.Absent},
		{"empty action", rewrite(nil), store.Damaged},
		{"garbage", rewrite(bytes.Repeat([]byte("v1 "), 60)), store.Damaged},
		{"too long", func(string) error {
			b, err := os.ReadFile(name)
			return errors.Join(err, os.WriteFile(name, append(b, '\n'), 0o666))
		}, store.Damaged},
		{"another's", func(string) error {
			put(t, s, actionID(2), data)
			b, err := os.ReadFile(store.FileName(dir, actionID(2), 'a'))
			return errors.Join(err, os.WriteFile(name, b, 0o666))
		}, store.Damaged},
		{"no output", os.Remove, store.OutputMissing},
		{"output cut short", func(output string) error { return os.Truncate(output, 4999) }, store.OutputMissing},
		{"a directory as action", func(string) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o777)) }, store.Unreadable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			os.RemoveAll(name)
			if err := tt.damage(put(t, s, id, data)); err != nil {
				t.Fatal(err)
			}
			wantMiss(t, s, id, tt.want)
			if tt.want != store.Unreadable {
				put(t, s, id, data) // which mends it
				wantHit(t, s, id, data)
			}
		})
	}
}

// An executable that a native go command kept is a directory with one file.
func TestExecutables(t *testing.T) {
	dir := t.TempDir()
	s := store.Open(store.Options{Dir: dir})
	defer s.Close()
	data := body(1, 5000)
	output := put(t, s, actionID(1), data)
	if err := errors.Join(os.Remove(output), os.Mkdir(output, 0o777)); err != nil {
		t.Fatal(err)
	}
	wantMiss(t, s, actionID(1), store.OutputMissing)
	inner := filepath.Join(output, "hello.test")
	if err := os.WriteFile(inner, data, 0o777); err != nil {
		t.Fatal(err)
	}
	if o := wantHit(t, s, actionID(1), data); o.DiskPath != inner {
		t.Errorf("path %s, want %s", o.DiskPath, inner)
	}
	// Putting the same output finds it in the way, and that it will do.
	if path := put(t, s, actionID(2), data); path != inner {
		t.Errorf("put: path %s, want %s", path, inner)
	}
	if dir, why := s.Fallback(); dir != "" {
		t.Errorf("fallback %s: %v", dir, why)
	}
	os.WriteFile(filepath.Join(output, "second"), nil, 0o777)
	wantMiss(t, s, actionID(1), store.OutputMissing)
}

// wiper removes a directory when half of the body has been read.
type wiper struct {
	t    *testing.T
	dir  string
	rest []byte
	half int
}

func (w *wiper) Read(p []byte) (int, error) {
	if len(w.rest) == 0 {
		return 0, io.EOF
	}
	if len(w.rest) <= w.half && w.dir != "" {
		if err := os.RemoveAll(w.dir); err != nil {
			w.t.Error(err)
		}
		w.dir = ""
	}
	n := copy(p, w.rest[:min(len(w.rest), 10_000)])
	w.rest = w.rest[n:]
	return n, nil
}

func TestStoreIsWiped(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := store.Open(store.Options{Dir: dir, FallbackParent: t.TempDir()})
	defer s.Close()
	put(t, s, actionID(1), body(1, 5000))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	put(t, s, actionID(2), body(2, 5000))
	wantHit(t, s, actionID(2), body(2, 5000))
	wantMiss(t, s, actionID(1), store.Absent)

	data := body(3, 1<<20)
	path, err := s.Put(actionID(3), sha256.Sum256(data), int64(len(data)), &wiper{t, dir, data, len(data) / 2})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%s does not have the body: %v", path, err)
	}
	wantHit(t, s, actionID(3), data)
}

// A use renews the times of the action and the output once they are an hour
// old. Times in the future are left alone.
func TestUseIsNoted(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().Truncate(time.Second)
	s := store.Open(store.Options{Dir: dir, Now: func() time.Time { return now }})
	defer s.Close()
	data := body(1, 5000)
	output := put(t, s, actionID(1), data)
	names := []string{output, store.FileName(dir, actionID(1), 'a')}
	for _, tt := range []struct{ ago, want time.Duration }{
		{59 * time.Minute, 59 * time.Minute}, {time.Hour, 0}, {100 * time.Hour, 0}, {-100 * time.Hour, -100 * time.Hour},
	} {
		for _, name := range names {
			if err := os.Chtimes(name, now, now.Add(-tt.ago)); err != nil {
				t.Fatal(err)
			}
		}
		wantHit(t, s, actionID(1), data)
		for _, name := range names {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := now.Sub(info.ModTime()); got != tt.want {
				t.Errorf("%s: used %v ago, after a use noted %v ago; want %v", filepath.Base(name), got, tt.ago, tt.want)
			}
		}
	}
}
