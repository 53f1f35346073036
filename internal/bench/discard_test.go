package bench_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/larder-build/larder/internal/bench"
)

func TestDiscard(t *testing.T) {
	work := t.TempDir()
	dir, bin := filepath.Join(work, "machine"), filepath.Join(work, "bin")
	for range 2 { // a name can be used again
		file := filepath.Join(dir, "sub", "file")
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, make([]byte, 1000), 0o444); err != nil {
			t.Fatal(err)
		}
		if err := bench.Discard(dir, bin); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			t.Errorf("the directory is still there: %v", err)
		}
	}
	left, err := filepath.Glob(filepath.Join(bin, "*", "machine", "sub", "file"))
	if err != nil || len(left) != 2 {
		t.Fatalf("left: %v, %v", left, err)
	}
	for _, file := range left {
		if info, err := os.Stat(file); err != nil || info.Size() != 0 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	if err := bench.Discard(dir, bin); err != nil {
		t.Errorf("what is not there: %v", err)
	}
}
