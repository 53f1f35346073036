package disk_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/server/disk"
)

func TestDamagedRecord(t *testing.T) {
	for name, at := range map[string]func(n int) int{
		"file number": func(int) int { return 7 },
		"version":     func(int) int { return 8 },
		"output":      func(int) int { return 8 + 50 },
		"body":        func(n int) int { return n - 1 },
	} {
		s := open(t, disk.Options{})
		put(t, s, "ns", action(1), body(1, 1000))
		put(t, s, "ns", action(2), body(2, 1000))
		if err := s.Damage("ns", action(1), at); err != nil {
			t.Fatal(err)
		}
		wantNone(t, s, "ns", action(1))
		if st := s.Stats(); st.Damaged != 1 || st.Entries != 1 {
			t.Errorf("%s: stats %+v", name, st)
		}
		want(t, s, "ns", action(2), body(2, 1000))
		check(t, s)
		put(t, s, "ns", action(1), body(1, 1000))
		want(t, s, "ns", action(1), body(1, 1000))
	}
}

func TestDamagedFile(t *testing.T) {
	damage := map[string]func(name string) error{
		"missing":   os.Remove,
		"truncated": func(name string) error { return os.Truncate(name, 99<<10) },
		"longer":    func(name string) error { return os.Truncate(name, 101<<10) },
		"changed": func(name string) error {
			p := body(1, 100<<10)
			p[70<<10] ^= 1
			return os.WriteFile(name, p, 0o666)
		},
	}
	read := map[string]func(i *disk.Item) error{
		"verify": (*disk.Item).Verify,
		"read":   func(i *disk.Item) error { _, err := io.Copy(io.Discard, i.Checked()); return err },
		"exactly": func(i *disk.Item) error {
			_, err := io.ReadFull(i.Checked(), make([]byte, i.Header.Stored))
			return err
		},
	}
	for name, damage := range damage {
		for how, read := range read {
			s := open(t, disk.Options{})
			put(t, s, "", action(1), body(1, 100<<10))
			if err := damage(s.BodyPath("", action(1))); err != nil {
				t.Fatal(err)
			}
			i, err := s.Get("", action(1))
			if name == "changed" {
				if err != nil {
					t.Fatal(err)
				}
				if err := read(i); !errors.Is(err, entry.ErrFormat) && !(how == "exactly" && err == nil) {
					t.Errorf("%s, %s: %v", name, how, err)
				}
				i.Close()
			} else if !errors.Is(err, disk.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
			wantNone(t, s, "", action(1))
			if st := s.Stats(); st.Damaged != 1 || st.Entries != 0 {
				t.Errorf("%s, %s: stats %+v", name, how, st)
			}
			check(t, s)
		}
	}
}

// Damage that is found late does not take away what has been put since.
func TestDamageOfReplaced(t *testing.T) {
	s := open(t, disk.Options{})
	put(t, s, "", action(1), body(1, 100<<10))
	name := s.BodyPath("", action(1))
	i, err := s.Get("", action(1))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if err := os.WriteFile(name, make([]byte, 100<<10), 0o666); err != nil {
		t.Fatal(err)
	}
	put(t, s, "", action(1), body(2, 100<<10))
	if err := i.Verify(); !errors.Is(err, entry.ErrFormat) {
		t.Error(err)
	}
	want(t, s, "", action(1), body(2, 100<<10))
}

// A directory whose index is damaged can be opened and used.
func TestDamagedIndex(t *testing.T) {
	fill := func(t *testing.T) (dir string) {
		dir = t.TempDir()
		s, err := disk.Open(disk.Options{Dir: dir, Reserve: 1})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			put(t, s, "", action(i), body(uint64(i), i*10<<10))
		}
		// Opened twice, so that there is a table and a log.
		s = reopen(t, s, disk.Options{Dir: dir, Reserve: 1})
		for i := range 3 {
			put(t, s, "", action(100+i), body(1, 10<<10))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	damage := map[string]func(name string) error{
		"missing": os.Remove,
		"empty":   func(name string) error { return os.Truncate(name, 0) },
		"cut short": func(name string) error {
			info, err := os.Stat(name)
			if err != nil {
				return err
			}
			return os.Truncate(name, info.Size()*2/3)
		},
		"changed": func(name string) error {
			b, err := os.ReadFile(name)
			for i := len(b) / 3; i < len(b); i += 50 {
				b[i] ^= 0x55
			}
			return errors.Join(err, os.WriteFile(name, b, 0o666))
		},
	}
	for what, damage := range damage {
		for _, pattern := range []string{"*.sst", "*.log", "MANIFEST-*", "OPTIONS-*", "marker.manifest*", "marker.format*"} {
			t.Run(what+" "+strings.Trim(pattern, "*.-"), func(t *testing.T) {
				dir := fill(t)
				names, err := filepath.Glob(filepath.Join(dir, "index", pattern))
				if err != nil || len(names) == 0 {
					t.Fatalf("no %s: %v", pattern, err)
				}
				for _, name := range names {
					if err := damage(name); err != nil {
						t.Fatal(err)
					}
				}
				s, err := disk.Open(disk.Options{Dir: dir, Reserve: 1})
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for i := range 20 {
					_, got, err := get(s, "", action(i))
					if err == nil && !bytes.Equal(got, body(uint64(i), i*10<<10)) {
						t.Errorf("%d: another body", i)
					}
					if err == nil {
						n++
					} else if !errors.Is(err, disk.ErrNotFound) {
						t.Error(err)
					}
				}
				err = tryPut(s, "", action(1000), body(5, 100<<10))
				if err == nil {
					want(t, s, "", action(1000), body(5, 100<<10))
				}
				t.Logf("%d of 20 left; put: %v", n, err)
				s.Close()
				s, err = disk.Open(disk.Options{Dir: dir, Reserve: 1})
				if err != nil {
					t.Fatal(err)
				}
				put(t, s, "", action(1000), body(5, 100<<10))
				want(t, s, "", action(1000), body(5, 100<<10))
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if aside, _ := filepath.Glob(filepath.Join(dir, "damaged-*")); len(aside) > 1 {
					t.Errorf("kept %q", aside)
				}
			})
		}
	}
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	s := open(t, disk.Options{Dir: dir})
	put(t, s, "", action(1), nil)
	if _, err := disk.Open(disk.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("opened twice: %v", err)
	}
	want(t, s, "", action(1), nil)
}
