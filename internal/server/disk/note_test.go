package disk_test

import (
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/larder-build/larder/internal/server/disk"
)

func notes(t *testing.T, s *disk.Store, from, to string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	last := ""
	err := s.Notes(from, to, func(key string, value []byte) bool {
		if key <= last {
			t.Errorf("%q comes after %q", key, last)
		}
		last = key
		got[key] = string(value)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Notes are there after a crash, are changed together, and are no entries.
func TestNotes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, disk.Options{Dir: dir, MaxBytes: 1, MaxAge: 1})
	if err := s.WriteNotes(map[string][]byte{"a/1": []byte("one"), "a/2": []byte("two"), "a/3": {}, "b": []byte("other")}); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteNotes(map[string][]byte{"a/1": nil, "a/2": []byte("2"), "nothing": nil}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a/2": "2", "a/3": ""}
	if got := notes(t, s, "a/", "a0"); !reflect.DeepEqual(got, want) {
		t.Errorf("notes %q", got)
	}
	n := 0
	s.Notes("", "z", func(string, []byte) bool { n++; return false })
	if n != 1 {
		t.Errorf("yielded %d after no", n)
	}
	if stats := s.Stats(); stats.Usage != (disk.Usage{}) || len(s.Namespaces()) != 0 {
		t.Errorf("notes count: %+v", stats.Usage)
	}
	if err := s.WriteNotes(map[string][]byte{"c": make([]byte, 2<<20)}); err == nil {
		t.Error("a huge note was taken")
	}

	crashed := t.TempDir() // what a crash now would leave
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again := open(t, disk.Options{Dir: crashed})
	if got := notes(t, again, "a/", "a0"); !reflect.DeepEqual(got, want) {
		t.Errorf("after a crash: %q", got)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := again.Notes("", "z", nil); !errors.Is(err, disk.ErrClosed) {
		t.Errorf("notes of a closed store: %v", err)
	}
	if err := again.WriteNotes(nil); !errors.Is(err, disk.ErrClosed) {
		t.Errorf("write to a closed store: %v", err)
	}
}
