package touch

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

// Machines share test results only if all their versions of Larder agree on these.
func TestTimesNeverChange(t *testing.T) {
	file, err := fileTime("dir/a.go", strings.NewReader("package a\n"))
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{"a.go": {}, "sub/b.go": {}, "to": {Mode: os.ModeSymlink}, ".git/HEAD": {}}
	entries, err := fsys.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what string
		got  time.Time
		want string
	}{
		{"file", file, "1997-05-28T06:28:34.33266Z"},
		{"link", linkTime("dir/to", "a.go"), "2005-01-11T18:56:40.982903Z"},
		{"directory", directoryTime("dir", entries), "1990-06-05T12:50:39.265003Z"},
		{"root", directoryTime(".", entries), "1996-03-13T13:41:52.05645Z"},
	} {
		if got := tt.got.Format(time.RFC3339Nano); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.what, got, tt.want)
		}
	}
}

// Contents of one size have different times, even in whole seconds nearly always.
func TestTimesAreSpread(t *testing.T) {
	const n = 50_000
	micros, inSeconds := make(map[int64]bool), make(map[int64]bool)
	for i := range n {
		mtime, err := fileTime("a", strings.NewReader(strconv.Itoa(100_000+i)))
		if err != nil {
			t.Fatal(err)
		}
		micros[mtime.UnixMicro()] = true
		inSeconds[mtime.Unix()] = true
	}
	// Of 50,000 contents 1.2 pairs are expected to share one of 2^30 seconds.
	if len(micros) != n || len(inSeconds) < n-10 {
		t.Errorf("%d contents have %d times, %d in whole seconds", n, len(micros), len(inSeconds))
	}
}
