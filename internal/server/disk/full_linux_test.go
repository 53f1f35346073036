package disk_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/server/disk"
)

// smallDisk is a directory on a disk of so many MiB.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fillDisk writes a file as large as there is room, but for what is left.
func fillDisk(t *testing.T, name string, left int) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for p := make([]byte, 64<<10); len(p) > 0; {
		n, err := f.Write(p)
		size += int64(n)
		if err != nil {
			p = p[:len(p)/2]
		}
	}
	if err := f.Truncate(max(0, size-int64(left))); err != nil {
		t.Fatal(err)
	}
}

// A store that is allowed more than there is room goes on by dropping the oldest.
func TestFullBySelf(t *testing.T) {
	for _, size := range []int{10_000, 100 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := smallDisk(t, 512)
			s, err := disk.Open(disk.Options{Dir: filepath.Join(dir, "store"), Reserve: 16 << 20})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			if testing.Short() || raceEnabled {
				t.Skip("writes a gigabyte")
			}
			// Twice what there is room for.
			fulls, puts := 0, 0
			putMany := func() error {
				b := s.NewBatch("")
				defer b.Close()
				for n := 0; n < 1<<20; n += size {
					puts++
					p := body(uint64(puts), size)
					if err := b.Add(header(action(puts), p), bytes.NewReader(p)); err != nil {
						return err
					}
				}
				return b.Commit()
			}
			for range 800 {
				until(t, "there is room", func() bool {
					err := putMany()
					if err != nil && !errors.Is(err, disk.ErrFull) {
						t.Fatal(err)
					}
					if err != nil {
						fulls++
					}
					return err == nil
				})
			}
			if err := s.Check(true); err != nil {
				t.Error(err)
			}
			t.Logf("full %d times; %+v", fulls, s.Stats())
			if s.Err() != nil {
				t.Error(s.Err())
			}
		})
	}
}

// While somebody else takes all the room, to the last byte, puts are refused at
// once and gets are served; when they give it back, puts go on.
func TestFullByOthers(t *testing.T) {
	for _, left := range []int{0, 100 << 10, 3 << 20} {
		t.Run(fmt.Sprint(left), func(t *testing.T) {
			dir := smallDisk(t, 128)
			o := disk.Options{Dir: filepath.Join(dir, "store"), Reserve: 1 << 20}
			s, err := disk.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { s.Close() }()
			for i := range 500 {
				put(t, s, "", action(i), body(uint64(i), 1000+i%2*100<<10))
			}
			other := filepath.Join(dir, "other")
			fillDisk(t, other, left)
			i, fulls := 1000, 0
			acked := []int{}
			for ; fulls < 5; i++ {
				err := tryPut(s, "", action(i), body(uint64(i), 30<<10+i%2*100<<10))
				if errors.Is(err, disk.ErrFull) {
					// Whatever is made free is taken.
					fillDisk(t, fmt.Sprintf("%s%d", other, fulls), 0)
					fulls++
				} else if err != nil {
					t.Fatal(err)
				} else {
					acked = append(acked, i)
				}
			}
			until(t, "puts are refused at once", func() bool {
				start := time.Now()
				err := tryPut(s, "", action(999), nil)
				return errors.Is(err, disk.ErrFull) && time.Since(start) < 100*time.Millisecond
			})
			n := 0
			for i := range 500 {
				_, got, err := get(s, "", action(i))
				if err == nil && !bytes.Equal(got, body(uint64(i), 1000+i%2*100<<10)) {
					t.Errorf("%d: another body", i)
				}
				if err == nil {
					n++
				} else if !errors.Is(err, disk.ErrNotFound) {
					t.Error(err)
				}
			}
			t.Logf("acknowledged %d while it filled up, %d of 500 left, stuck: %v", len(acked), n, s.Stuck())
			others, _ := filepath.Glob(other + "*")
			for _, name := range others {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			until(t, "puts are taken", func() bool { return tryPut(s, "", action(5000), body(1, 100<<10)) == nil })
			if err := s.Check(true); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = disk.Open(o); err != nil {
				t.Fatal(err)
			}
			want(t, s, "", action(5000), body(1, 100<<10))
			if err := s.Check(true); err != nil {
				t.Error(err)
			}
		})
	}
}

// A store can be opened and read when there is no room at all, or says that it is full.
func TestOpenFull(t *testing.T) {
	for _, name := range []string{"with the reserve", "without"} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t, 64)
			o := disk.Options{Dir: filepath.Join(dir, "store"), Reserve: 4 << 20}
			s, err := disk.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, "", action(1), body(1, 10<<10))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if name == "without" {
				os.Remove(filepath.Join(o.Dir, "reserve"))
			}
			fillDisk(t, filepath.Join(dir, "other"), 0)
			s, err = disk.Open(o)
			if name == "without" && errors.Is(err, disk.ErrFull) {
				t.Log(err)
				os.Remove(filepath.Join(dir, "other"))
				// The index is opened on its own, and closed, before it can be again.
				until(t, "it is unlocked", func() bool {
					s, err = disk.Open(o)
					return err == nil
				})
			}
			if err != nil {
				t.Fatal(err)
			}
			want(t, s, "", action(1), body(1, 10<<10))
			if err := s.Close(); err != nil && !errors.Is(err, disk.ErrFull) {
				t.Fatal(err)
			}
		})
	}
}
