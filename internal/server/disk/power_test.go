package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/larder-build/larder/internal/server/disk"
)

// A haltFS calls halt before and after every operation that changes something.
type haltFS struct {
	vfs.FS
	halt func()
}

func (h haltFS) around(op func() error) error {
	h.halt()
	defer h.halt()
	return op()
}

func (h haltFS) Create(name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = h.around(func() (err error) { f, err = h.FS.Create(name, c); return err })
	return haltFile{f, h}, err
}

func (h haltFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (f vfs.File, err error) {
	err = h.around(func() (err error) { f, err = h.FS.OpenReadWrite(name, c, o...); return err })
	return haltFile{f, h}, err
}

func (h haltFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = h.around(func() (err error) { f, err = h.FS.ReuseForWrite(old, name, c); return err })
	return haltFile{f, h}, err
}

func (h haltFS) OpenDir(name string) (vfs.File, error) {
	f, err := h.FS.OpenDir(name)
	return haltFile{f, h}, err
}

func (h haltFS) Link(old, name string) error {
	return h.around(func() error { return h.FS.Link(old, name) })
}

func (h haltFS) Rename(old, name string) error {
	return h.around(func() error { return h.FS.Rename(old, name) })
}

func (h haltFS) Remove(name string) error {
	return h.around(func() error { return h.FS.Remove(name) })
}

func (h haltFS) RemoveAll(name string) error {
	return h.around(func() error { return h.FS.RemoveAll(name) })
}

func (h haltFS) MkdirAll(name string, perm os.FileMode) error {
	return h.around(func() error { return h.FS.MkdirAll(name, perm) })
}

func (h haltFS) Unwrap() vfs.FS { return nil }

type haltFile struct {
	vfs.File
	fs haltFS
}

func (f haltFile) Write(p []byte) (n int, err error) {
	err = f.fs.around(func() (err error) { n, err = f.File.Write(p); return err })
	return n, err
}

func (f haltFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.fs.around(func() (err error) { n, err = f.File.WriteAt(p, at); return err })
	return n, err
}

func (f haltFile) Sync() error     { return f.fs.around(f.File.Sync) }
func (f haltFile) SyncData() error { return f.fs.around(f.File.SyncData) }

func (f haltFile) SyncTo(n int64) (full bool, err error) {
	err = f.fs.around(func() (err error) { full, err = f.File.SyncTo(n); return err })
	return full, err
}

// A crash is what a machine finds when it comes up again, and what it must find.
type crash struct {
	disk  *vfs.MemFS
	acked map[int]int // actions and the generation of their bodies; negative: deleted
	what  string
}

// Wherever the power fails, before or after any write, rename, removal or sync of
// the storage, and whatever of the unsynced has reached the disk: the next start
// succeeds, all that was acknowledged is there, and no body is damaged.
func TestPowerCut(t *testing.T) {
	seeds := uint64(3)
	if raceEnabled {
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { powerCuts(t, seed) })
	}
}

func powerCuts(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	mem := vfs.NewCrashableMem()
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 40, TotalBytes: 1 << 40})

	crashes := make(chan crash)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for c := range crashes {
			if !t.Failed() {
				checkAfterCrash(t, c)
			}
		}
	}()
	var (
		mu     sync.Mutex // of what follows, and of random
		acked  = map[int]int{}
		ops    int
		cuts   int
		paused atomic.Bool
	)
	// Each of the first operations, in which the directory is made, and one in
	// so many of the later.
	halt := func() {
		if paused.Load() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		ops++
		every := 5
		if testing.Short() || raceEnabled {
			every = 50
		}
		if ops > 100 && random.IntN(every) != 0 {
			return
		}
		cuts++
		percent := []int{0, 50, 100}[random.IntN(3)]
		known := maps.Clone(acked)
		clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, uint64(ops)))})
		crashes <- crash{clone, known, fmt.Sprintf("operation %d, %d%% of the unsynced", ops, percent)}
	}
	note := func(id, generation int) {
		mu.Lock()
		defer mu.Unlock()
		acked[id] = generation
	}
	intn := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}

	generation := 0
	for range 3 { // restarts
		s, err := disk.OpenOn(haltFS{mem, halt}, disk.Options{Dir: "/srv/larder/store", Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			generation++
			switch n := intn(20); n {
			case 0:
				id := intn(40)
				note(id, -generation)
				if err := s.Delete("ns", action(id)); err != nil {
					t.Fatal(err)
				}
			case 1:
				s.Flush()
			default:
				var ids []int
				b := s.NewBatch("ns")
				for range 1 + n/4 {
					id := intn(40)
					p := crashBody(id, generation)
					if err := b.Add(header(action(id), p), bytes.NewReader(p)); err != nil {
						t.Fatal(err)
					}
					ids = append(ids, id)
				}
				if err := b.Commit(); err != nil {
					t.Fatal(err)
				}
				b.Close()
				for _, id := range ids {
					note(id, generation)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	paused.Store(true)
	close(crashes)
	wg.Wait()
	t.Logf("%d operations, %d power cuts", ops, cuts)
}

func checkAfterCrash(t *testing.T, c crash) {
	t.Helper()
	c.disk.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 40, TotalBytes: 1 << 40})
	var said bytes.Buffer
	s, err := disk.OpenOn(c.disk, disk.Options{Dir: "/srv/larder/store", Reserve: 1, Log: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		t.Errorf("%s: %v", c.what, err)
		return
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if said.Len() > 0 {
			t.Errorf("%s: %s", c.what, said.String())
		}
	}()
	for id, generation := range c.acked {
		_, got, err := get(s, "ns", action(id))
		if err != nil && !errors.Is(err, disk.ErrNotFound) {
			t.Errorf("%s: action %d: %v", c.what, id, err)
		}
		if generation < 0 {
			continue // what is put anew may be there or not
		}
		if err != nil {
			t.Errorf("%s: action %d was acknowledged in %d: %v", c.what, id, generation, err)
			continue
		}
		var gotID, gotGeneration int
		if len(crashBody(id, generation)) > 0 {
			if fmt.Sscan(string(got[:min(40, len(got))]), &gotID, &gotGeneration); gotID != id || gotGeneration < generation {
				t.Errorf("%s: action %d has the body of %d, %d; acknowledged was %d", c.what, id, gotID, gotGeneration, generation)
			}
		}
	}
	if n := s.Stats().Damaged; n != 0 {
		t.Errorf("%s: %d damaged", c.what, n)
	}
	if err := s.Sweep(); err != nil {
		t.Errorf("%s: %v", c.what, err)
	}
	if err := s.Check(true); err != nil {
		t.Errorf("%s: %v", c.what, err)
	}
}
