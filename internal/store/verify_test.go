package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/store"
)

func sum(data []byte) entry.OutputID { return sha256.Sum256(data) }

// flip changes one bit of a file.
func flip(t *testing.T, name string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, h *shelf, output string)
		check  int // problems that a look without hashing finds
		what   string
	}{
		{"a flipped bit", func(t *testing.T, h *shelf, output string) { flip(t, output) }, 0, "SHA-256"},
		{"cut short", func(t *testing.T, h *shelf, output string) { os.Truncate(output, 10) }, 1, ""},
		{"a garbled action", func(t *testing.T, h *shelf, output string) { os.Truncate(h.action(1), 10) }, 1, "not an action file"},
		{"another's action", func(t *testing.T, h *shelf, output string) {
			data, _ := os.ReadFile(h.action(2))
			os.WriteFile(h.action(1), data, 0o666)
		}, 1, "another action"},
		{"an action with another size", func(t *testing.T, h *shelf, output string) {
			data, _ := os.ReadFile(h.action(1))
			os.WriteFile(h.action(1), bytes.Replace(data, []byte("1000 "), []byte("1001 "), 1), 0o666)
		}, 1, "not 1001"},
		{"a damaged executable", func(t *testing.T, h *shelf, output string) {
			os.Remove(output)
			os.Mkdir(output, 0o777)
			os.WriteFile(filepath.Join(output, "hello"), body(3, 1000), 0o777)
		}, 0, "SHA-256"},
		{"an executable's empty directory", func(t *testing.T, h *shelf, output string) {
			os.Remove(output)
			os.Mkdir(output, 0o777)
		}, 1, "not one executable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newShelf(t)
			output := h.add(1, 1000, 0)
			h.add(2, 2000, 0)
			tt.damage(t, h, output)
			o := store.Options{Dir: h.dir}
			if found, err := store.Check(t.Context(), o); err != nil || found.ProblemCount != tt.check {
				t.Errorf("check: %+v, %v; want %d problems", found, err, tt.check)
			}
			for _, quarantine := range []bool{false, true} {
				report, err := store.Verify(t.Context(), o, quarantine, nil)
				if err != nil || report.ProblemCount != 1 || len(report.Problems) != 1 || report.Actions != 2 || report.Outputs != 2 {
					t.Fatalf("verify: %+v, %v; want one problem", report, err)
				}
				if p := report.Problems[0]; !strings.Contains(p.What, tt.what) || p.Quarantined != quarantine {
					t.Errorf("problem %+v", p)
				}
			}
			if report, err := store.Verify(t.Context(), o, true, nil); err != nil || report.ProblemCount != 0 {
				t.Errorf("verify after quarantine: %+v, %v", report, err)
			}
			h.now = time.Now()
			if got := h.left(3); got != "2" {
				t.Errorf("hits on %q, want 2 alone", got)
			}
		})
	}
}

func TestVerifyListsOnlySome(t *testing.T) {
	h := newShelf(t)
	for i := range 120 {
		flip(t, h.add(i, 100, 0))
	}
	calls := 0
	report, err := store.Verify(t.Context(), store.Options{Dir: h.dir}, false, func(done, total int) { calls++ })
	if err != nil || report.ProblemCount != 120 || len(report.Problems) != 100 || calls != 120 {
		t.Errorf("%d problems, %d listed, %d calls, %v", report.ProblemCount, len(report.Problems), calls, err)
	}
}

// What changes while it is looked at is being written by the go command, in place
// (cmd/go/internal/cache/cache.go, copyFile), and is not taken away from it.
func TestVerifySparesWhatIsBeingWritten(t *testing.T) {
	h := newShelf(t)
	outputs := []string{h.add(1, 1000, day), h.add(2, 1000, day)}
	for _, name := range outputs {
		flip(t, name)
		h.age(name, day)
	}
	calls := 0
	report, err := store.Verify(t.Context(), store.Options{Dir: h.dir}, true, func(done, total int) {
		if calls++; calls == 1 {
			for _, name := range outputs {
				if exists(name) {
					os.WriteFile(name, body(3, 2000), 0o666) // not yet all of it
				}
			}
		}
	})
	if err != nil || report.ProblemCount != 1 {
		t.Errorf("%+v, %v; want the one that was looked at first", report, err)
	}
	if n := len(files(t, filepath.Join(h.dir, "larder", "quarantine"))); n != 2 {
		t.Errorf("%d files in quarantine, want one output and its action", n)
	}
}

func TestVerifyEnds(t *testing.T) {
	h := newShelf(t)
	h.add(1, 1000, 0)
	h.add(2, 1000, 0)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := store.Verify(ctx, store.Options{Dir: h.dir}, true, func(done, total int) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	wantSound(t, h.dir)
}

func TestVerifyOfNoStore(t *testing.T) {
	if report, err := store.Verify(t.Context(), store.Options{Dir: filepath.Join(t.TempDir(), "none")}, true, nil); err != nil || report.Actions != 0 {
		t.Errorf("%+v, %v", report, err)
	}
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o666)
	var pe *os.PathError
	if _, err := store.Verify(t.Context(), store.Options{Dir: file}, true, nil); !errors.As(err, &pe) {
		t.Errorf("a file: %v", err)
	}
}
