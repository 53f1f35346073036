package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

// A hall is a place where several users have a store, and a larder to put into it.
type hall struct {
	t     *testing.T
	dir   string
	store string
}

// The users of a hall. They are nobody's on any machine.
const (
	alice     = 12345
	bob       = 12346
	hallGroup = 12300
)

// newHall makes the store as a native go command of its owner does.
func newHall(t *testing.T, owner int, perm os.FileMode) *hall {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	dir := t.TempDir()
	h := &hall{t, dir, filepath.Join(dir, "cache")}
	larder, err := os.ReadFile(filepath.Join(os.Getenv("LARDER_E2E_BIN"), "larder"))
	h.check(err, os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "larder"), larder, 0o755))
	h.mkdir(h.store, owner, perm)
	for i := range 256 {
		h.mkdir(filepath.Join(h.store, fmt.Sprintf("%02x", i)), owner, perm)
	}
	return h
}

func (h *hall) check(errs ...error) {
	h.t.Helper()
	if err := errors.Join(errs...); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hall) mkdir(dir string, owner int, perm os.FileMode) {
	h.t.Helper()
	h.check(os.MkdirAll(dir, 0o777), os.Lchown(dir, owner, hallGroup), os.Chmod(dir, perm))
}

// write writes a file as an owner has left it long ago.
func (h *hall) write(name, text string, owner int, perm os.FileMode) {
	h.t.Helper()
	name = filepath.Join(h.store, name)
	old := time.Now().Add(-7 * 24 * time.Hour)
	h.check(os.WriteFile(name, []byte(text), 0o666), os.Lchown(name, owner, hallGroup), os.Chmod(name, perm), os.Chtimes(name, old, old))
}

// larder is the program, for a user with a umask.
func (h *hall) larder(user int, umask string, args ...string) *exec.Cmd {
	h.t.Helper()
	home := filepath.Join(h.dir, fmt.Sprint("home", user))
	tmp := filepath.Join(home, "tmp")
	h.check(os.MkdirAll(tmp, 0o755), os.Lchown(home, user, hallGroup), os.Lchown(tmp, user, hallGroup))
	cmd := exec.Command("sh", append([]string{"-c", "umask " + umask + ` && exec "$0" "$@"`, filepath.Join(h.dir, "larder")}, args...)...)
	cmd.Dir = home
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + tmp, "GOCACHE=" + h.store}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: hallGroup, NoSetGroups: user == 0}}
	return cmd
}

// session has a helper serve a user's go command, which is use; end is called when
// the go command is let go of. It returns when the helper has ended.
func (h *hall) session(user int, umask string, use func(c *cacheprog.Client), end func()) {
	h.t.Helper()
	cmd := h.larder(user, umask)
	in, err := cmd.StdinPipe()
	h.check(err)
	out, err := cmd.StdoutPipe()
	h.check(err)
	var said bytes.Buffer
	cmd.Stderr = &said
	h.check(cmd.Start())
	c, err := cacheprog.NewClient(context.Background(), out, in, nil)
	h.check(err)
	use(c)
	h.check(c.Close())
	if end != nil {
		end()
	}
	h.check(cmd.Wait())
	if said.Len() > 0 {
		h.t.Errorf("user %d: it says: %s", user, &said)
	}
}

// put puts an entry, which has to come to lie in the store, and returns its file.
func (h *hall) put(c *cacheprog.Client, n int) string {
	h.t.Helper()
	out, _, err := c.Put(context.Background(), cacheprog.ActionID{byte(n)}, strings.NewReader(fmt.Sprint("output ", n)))
	h.check(err)
	path := c.OutputFile(out)
	if !strings.HasPrefix(path, h.store) {
		h.t.Errorf("entry %d is put into %s", n, path)
	}
	return path
}

func (h *hall) hit(c *cacheprog.Client, n int) bool {
	e, err := c.Get(context.Background(), cacheprog.ActionID{byte(n)})
	if err != nil {
		return false
	}
	data, err := os.ReadFile(e.DiskPath)
	return err == nil && string(data) == fmt.Sprint("output ", n)
}

func (h *hall) action(n int) string {
	return filepath.Join(h.store, fmt.Sprintf("%02x", n), fmt.Sprintf("%x-a", [32]byte{byte(n)}))
}

// age makes all of the store's entries old; trimming is due, too.
func (h *hall) age(by time.Duration) {
	h.t.Helper()
	for i := range 256 {
		h.check(makeOlder(filepath.Join(h.store, fmt.Sprintf("%02x", i)), by))
	}
	name := filepath.Join(h.store, "trim.txt")
	data, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	if err == nil {
		data.WriteString("0")
		data.Close()
	}
}

// sessions is how many sessions a user's stats have.
func (h *hall) sessions(user int) int {
	h.t.Helper()
	text, err := h.larder(user, "022", "stats", "-json").Output()
	h.check(err)
	var stats struct {
		Total struct{ Sessions int } `json:"total"`
	}
	h.check(json.Unmarshal(text, &stats))
	return stats.Total.Sessions
}

// What root has left in a user's store does not shut the user out: not what this
// version leaves, nor an earlier one, which gave nothing to anybody.
func TestRootFirst(t *testing.T) {
	entries := func(c *cacheprog.Client, h *hall, from, to int) {
		for n := from; n < to; n++ {
			h.put(c, n)
		}
	}
	old := func(h *hall, perm os.FileMode, folder, subs int) {
		h.mkdir(filepath.Join(h.store, "larder"), folder, perm|0o700)
		for _, sub := range []string{"live", "sessions", "quarantine", "explain"} {
			h.mkdir(filepath.Join(h.store, "larder", sub), subs, perm|0o700)
		}
		file := perm &^ 0o111
		for _, name := range []string{"larder/usage", "larder/trim.lock", "larder/actions", "larder/sessions/000001.jsonl", "larder/sessions/built", "larder/live/dead.lock", "trim.txt"} {
			h.write(name, "0\n", 0, file)
		}
	}
	for _, tt := range []struct {
		name  string
		umask string
		prep  func(h *hall)
	}{
		{"this version", "022", func(h *hall) {}},
		{"this version, umask 077", "077", func(h *hall) {}},
		{"an earlier version made the folder", "022", func(h *hall) { old(h, 0o755, 0, 0) }},
		{"an earlier version made the folder, umask 077", "077", func(h *hall) { old(h, 0o700, 0, 0) }},
		{"an earlier version made directories in it", "022", func(h *hall) { old(h, 0o755, alice, 0) }},
		{"an earlier version made files in it", "022", func(h *hall) { old(h, 0o755, alice, alice) }},
		{"an earlier version made files in it, umask 077", "077", func(h *hall) { old(h, 0o700, alice, alice) }},
	} {
		for _, root := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, root again %v", tt.name, root), func(t *testing.T) {
				h := newHall(t, alice, 0o755)
				tt.prep(h)
				if root {
					h.session(0, tt.umask, func(c *cacheprog.Client) { entries(c, h, 0, 4) }, nil)
				}
				h.session(alice, "022", func(c *cacheprog.Client) {
					for n := range 4 {
						if h.hit(c, n) != root {
							t.Errorf("root's entry %d: hit %v", n, !root)
						}
					}
					entries(c, h, 2, 8)
				}, nil)
				h.age(7 * 24 * time.Hour)
				h.session(alice, "022", func(c *cacheprog.Client) {
					if !h.hit(c, 3) || !h.hit(c, 4) {
						t.Error("what the user has put is not there")
					}
				}, nil)
				if _, err := os.Stat(h.action(4)); err != nil {
					t.Error("trimming took what was just used")
				}
				if _, err := os.Stat(h.action(5)); err == nil {
					t.Error("nothing was trimmed")
				}
				if n := h.sessions(alice); n < 2 {
					t.Errorf("stats has %d sessions", n)
				}
				if text, err := h.larder(alice, "022", "doctor").CombinedOutput(); !strings.Contains(string(text), "can be written") {
					t.Errorf("doctor: %v: %s", err, text)
				}
				left, err := os.ReadDir(filepath.Join(h.dir, fmt.Sprint("home", alice), "tmp"))
				if err != nil || len(left) > 0 {
					t.Errorf("in TMPDIR: %v, %v", left, err)
				}
			})
		}
	}
}

// What a user has only taken from another one's entries counts as used, though the
// times of those are not this user's to set: it is not trimmed.
func TestUseOfForeignEntries(t *testing.T) {
	for _, tt := range []struct {
		name, umask string
		perm        os.FileMode
	}{
		{"group that writes", "002", 0o775 | os.ModeSetgid},
		{"group that reads files and writes directories", "022", 0o775 | os.ModeSetgid},
		{"everybody, as in /tmp", "000", 0o777 | os.ModeSticky},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHall(t, alice, tt.perm&^os.ModeSticky)
			h.check(os.Chmod(h.store, tt.perm))
			h.session(alice, tt.umask, func(c *cacheprog.Client) { h.put(c, 1); h.put(c, 2) }, nil)
			h.age(4 * 24 * time.Hour)
			h.session(bob, tt.umask, func(c *cacheprog.Client) {
				if !h.hit(c, 1) {
					t.Error("another user's entry is not found")
				}
				h.put(c, 3)
			}, nil)
			h.age(3 * 24 * time.Hour)
			h.session(alice, tt.umask, func(c *cacheprog.Client) { h.put(c, 4) }, nil)
			for n, want := range map[int]bool{1: true, 2: false, 3: true, 4: true} {
				if _, err := os.Stat(h.action(n)); (err == nil) != want {
					t.Errorf("entry %d: there %v, want %v", n, !want, want)
				}
			}
		})
	}
}

// A store that is removed as soon as the go command has gone never has a file in the
// way, and stays removed.
func TestRemovedAtOnce(t *testing.T) {
	const rounds = 25
	h := newHall(t, 0, 0o755)
	for round := range rounds {
		if round > 0 {
			for i := range 256 {
				h.mkdir(filepath.Join(h.store, fmt.Sprintf("%02x", i)), 0, 0o755)
			}
		}
		// Entries that a native go command has left, old ones to be trimmed among them.
		for n := 100; n < 164; n++ {
			writeNative(h, n, time.Duration(n%2)*10*24*time.Hour)
		}
		h.session(0, "022", func(c *cacheprog.Client) {
			for n := 100; n < 164; n += 2 {
				h.hit(c, n)
			}
			if round%2 == 0 {
				h.put(c, 1)
			}
		}, func() {
			if err := removeStrictly(h.store); err != nil {
				t.Errorf("round %d: %v", round, err)
				os.RemoveAll(h.store)
			}
		})
		if _, err := os.Lstat(h.store); err == nil {
			t.Errorf("round %d: the store is there again", round)
			os.RemoveAll(h.store)
		}
	}
}

// writeNative writes an entry as the go command does.
func writeNative(h *hall, n int, age time.Duration) {
	h.t.Helper()
	body := fmt.Sprint("output ", n)
	id, out := [32]byte{byte(n)}, [32]byte{byte(n), 1}
	then := time.Now().Add(-age)
	for name, text := range map[string]string{
		h.action(n): fmt.Sprintf("v1 %x %x %20d %20d\n", id, out, len(body), then.UnixNano()),
		strings.Replace(h.action(n), fmt.Sprintf("%x-a", id), fmt.Sprintf("%x-d", out), 1): body,
	} {
		h.check(os.WriteFile(name, []byte(text), 0o666), os.Chtimes(name, then, then))
	}
}

// removeStrictly is rm -r, which os.RemoveAll is not: that looks again for what has
// been made meanwhile.
func removeStrictly(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		path := filepath.Join(dir, e.Name())
		if e.IsDir() {
			err = removeStrictly(path)
		} else if err = syscall.Unlink(path); errors.Is(err, os.ErrNotExist) {
			err = nil // trimming has just taken it, which rm -f takes for well
		}
		if err != nil {
			return err
		}
	}
	if err := syscall.Rmdir(dir); err != nil {
		return fmt.Errorf("rmdir %s: %w", dir, err)
	}
	return nil
}
