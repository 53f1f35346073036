package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/larder-build/larder/internal/server/disk"
)

// After the disk has refused a write of the index, what is there is served, what
// comes is refused and does not wait, and the process lives. Whoever opens the
// directory then finds all that was acknowledged.
func TestIndexCannotBeWritten(t *testing.T) {
	tests := []struct {
		name   string
		files  string // whose writes fail
		fatal  bool   // for the store
		passes int    // writes that pass before
	}{
		{"log", ".log", true, 0},
		{"log, later", ".log", true, 7},
		{"manifest", "MANIFEST", true, 0},
		{"tables", ".sst", false, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			s, err := disk.Open(disk.Options{Dir: dir, Reserve: 1})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 20 {
				put(t, s, "", action(i), body(uint64(i), i*10<<10))
			}
			var passes, faults atomic.Int64
			s.SetFault(func(name string) error {
				if strings.Contains(name, test.files) && passes.Add(1) > int64(test.passes) {
					faults.Add(1)
					return syscall.EIO
				}
				return nil
			})
			s.Flush()
			var mu sync.Mutex
			acked := map[int]bool{}
			var wg sync.WaitGroup
			for g := range 4 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for i := 100 + g; i < 1500; i += 4 {
						err := tryPut(s, "", action(i), body(uint64(i), 20<<10+i%10/9*60<<10))
						if err != nil {
							if !errors.Is(err, disk.ErrFailed) {
								t.Error(err)
							}
							return
						}
						mu.Lock()
						acked[i] = true
						mu.Unlock()
						if !test.fatal && faults.Load() > 3 {
							return
						}
					}
				}()
			}
			wg.Wait()
			if faults.Load() == 0 {
				t.Fatal("nothing failed")
			}
			if err := s.Err(); (err != nil) != test.fatal {
				t.Fatalf("the store says %v", err)
			}
			look := func(s *disk.Store) {
				t.Helper()
				for i := range 20 {
					want(t, s, "", action(i), body(uint64(i), i*10<<10))
				}
				for i := range acked {
					want(t, s, "", action(i), body(uint64(i), 20<<10+i%10/9*60<<10))
				}
			}
			look(s)
			if !test.fatal {
				s.SetFault(func(string) error { return nil })
				put(t, s, "", action(1), body(1, 10<<10))
				s.Flush()
				look(s)
				check(t, s)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				return
			}
			for name, err := range map[string]error{
				"put": tryPut(s, "", action(3), nil), "delete": s.Delete("", action(1)), "blob": s.PutBlob("", "", nil),
			} {
				if !errors.Is(err, disk.ErrFailed) {
					t.Errorf("%s: %v, want ErrFailed", name, err)
				}
			}
			if err := s.Close(); !errors.Is(err, disk.ErrFailed) {
				t.Errorf("close: %v, want ErrFailed", err)
			}
			// This process keeps the lock, so that another one is played with a copy.
			again := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(again, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			s, err = disk.Open(disk.Options{Dir: again, Reserve: 1})
			if err != nil {
				t.Fatal(err)
			}
			look(s)
			if err := s.Sweep(); err != nil {
				t.Error(err)
			}
			check(t, s)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			t.Logf("%d acknowledged", len(acked))
		})
	}
}
