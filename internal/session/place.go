package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Place is where an agent lives: its files, its socket, its lock.
//
// Each world (World) of a user has one agent and one place. The places of all worlds
// lie side by side in a directory that is the user's alone (Base), which everybody
// finds by the same rule (bases), whatever is missing, full or somebody else's. The
// files are in Dir. The socket and the lock are there as well where that works, and
// else in the next of a few other directories (runs): paths of sockets are short, and
// not every file system has sockets or locks.
type Place struct {
	Base  string // for what all of the user's agents share
	Dir   string // for the files of this world's: the queue, the log
	World string // the world's name, as in greetings
	runs  []string
}

// socketBytesMax is the longest path of a unix socket: 104 bytes with the final
// zero on macOS, 108 on Linux.
const socketBytesMax = 103

// FindPlace returns the place of this user's agent for this process's world. It makes
// Base if it is not there. The error is that of the last directory tried.
func FindPlace() (Place, error) {
	base, err := findBase()
	if err != nil {
		return Place{}, fmt.Errorf("find a place for the agent: %w", err)
	}
	return PlaceIn(base), nil
}

// PlaceIn returns the place of this process's world in a Base that the caller has made:
// one of its own, apart from the user's.
func PlaceIn(base string) Place { return placeOf(base, ownWorld().name()) }

// placeOf is the place of a world in a base.
func placeOf(base, world string) Place {
	p := Place{Base: base, Dir: filepath.Join(base, world), World: world}
	p.runs = []string{p.Dir}
	for _, dir := range sharedDirs() {
		// Bases differ for those whose homes do, so that their agents do.
		p.runs = append(p.runs, filepath.Join(dir, world+"-"+short(p.Dir)))
	}
	return p
}

// Others are the places of the other worlds' agents of this user.
func (p Place) Others() (others []Place) {
	entries, _ := os.ReadDir(p.Base)
	for _, e := range entries {
		if e.IsDir() && isWorld(e.Name()) && e.Name() != p.World {
			others = append(others, placeOf(p.Base, e.Name()))
		}
	}
	return others
}

// findBase is the first directory of bases that is this user's alone and can be
// written, or made so.
func findBase() (dir string, err error) {
	err = errors.New("there is neither a cache directory nor one for temporary files")
	for _, b := range bases() {
		if err = b.make(); err == nil {
			return b.dir, nil
		}
	}
	return "", err
}

// A base is a directory that may be a Base.
type base struct {
	dir string
	// home says that it is in the user's home. Where that belongs to somebody else,
	// as after "sudo -E" or in a container, nothing is made in it: what root leaves
	// there would shut its owner out.
	home bool
}

// bases are the directories that may be a Base, in the order in which they are tried:
// that in the user's cache directory, then the same for everybody who has none, or
// another one each time.
func bases() (list []base) {
	if dir, err := os.UserCacheDir(); err == nil {
		list = append(list, base{filepath.Join(dir, "larder"), true})
	}
	for _, dir := range sharedDirs() {
		list = append(list, base{dir, false})
	}
	return list
}

// sharedDirs are this user's directories where everybody may make one. TMPDIR decides
// about none of the usual ones, since not all of a user's processes have the same.
func sharedDirs() (dirs []string) {
	name := "larder-" + strconv.Itoa(os.Getuid())
	if runtime.GOOS != "windows" {
		for _, parent := range []string{"/var/tmp", "/tmp", "/dev/shm"} {
			dirs = append(dirs, filepath.Join(parent, name))
		}
	}
	if dir := filepath.Join(os.TempDir(), name); filepath.IsAbs(dir) && !slices.Contains(dirs, dir) {
		dirs = append(dirs, dir)
	}
	return dirs
}

func (b base) make() error {
	_, err := os.Lstat(b.dir)
	if errors.Is(err, fs.ErrNotExist) && b.home {
		err = ownedAbove(b.dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return makePrivate(b.dir)
}

// ownedAbove is nil if the first directory above dir that is there is this user's.
func ownedAbove(dir string) error {
	for {
		parent := filepath.Dir(dir)
		info, err := os.Stat(parent)
		switch {
		case err == nil && !ownedByUser(info):
			return &os.PathError{Op: "use", Path: parent, Err: errors.New("it is somebody else's")}
		case err == nil:
			return nil
		case !errors.Is(err, fs.ErrNotExist) || parent == dir:
			return err
		}
		dir = parent
	}
}

// makePrivate makes a directory that is the user's alone, which is what keeps others
// from what is in it. If others may enter one of the user's, they may not any more; if
// it is not the user's, or cannot be written, that is an error.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	err := checkPrivate(dir)
	if errors.Is(err, errNotPrivate) && os.Chmod(dir, 0o700) == nil { // only its owner can do that
		err = checkPrivate(dir)
	}
	if err != nil {
		return err
	}
	return writable(dir)
}

var errNotPrivate = errors.New("it must belong to you and to nobody else (chmod 700)")

func checkPrivate(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() || !private(info) {
		return &os.PathError{Op: "use", Path: dir, Err: errNotPrivate}
	}
	return nil
}

// A Run is where an agent has its socket and its lock.
type Run struct{ dir string }

// Runs are where this place's agent may be, in the order in which it tries them.
func (p Place) Runs() (runs []Run) {
	for _, dir := range p.runs {
		if r := (Run{dir}); len(r.Socket()) <= socketBytesMax {
			runs = append(runs, r)
		}
	}
	return runs
}

// Make makes the run's directory.
func (r Run) Make() error {
	if err := makePrivate(filepath.Dir(r.dir)); err != nil {
		return err
	}
	return makePrivate(r.dir)
}

// Socket is the path of the agent's socket.
func (r Run) Socket() string { return filepath.Join(r.dir, "agent.sock") }

// Lock is the path of the file that a running agent holds locked.
func (r Run) Lock() string { return filepath.Join(r.dir, "agent.lock") }

// Clean removes the run's directory, if that is for nothing but the run. Its agent has
// ended.
func (r Run) Clean(p Place) {
	if r.dir != p.Dir {
		os.Remove(r.Lock())
		os.Remove(r.dir)
	}
}

// PID is the path of the file with the running agent's process ID.
func (p Place) PID() string { return filepath.Join(p.Dir, "agent.pid") }

// Log is the path of the agent's log.
func (p Place) Log() string { return filepath.Join(p.Dir, "agent.log") }

// starting is the path of the file that whoever starts an agent holds locked.
func (p Place) starting() string { return filepath.Join(p.Dir, "agent.start") }

// silence is the path of a file that was written when an agent last let somebody wait.
func (p Place) silence() string { return filepath.Join(p.Dir, "agent.silent") }

// silentFor is how long builds do without an agent after that.
const silentFor = time.Minute

// Silent reports whether the agent, or one that was to start, has lately let somebody
// wait in vain (Connect), so that others need not: each go command of a script would
// wait as long. One that has begun to listen since is another matter.
func (p Place) Silent() bool {
	info, err := os.Stat(p.silence())
	if err != nil || time.Since(info.ModTime()).Abs() >= silentFor {
		return false
	}
	for _, r := range p.Runs() {
		if socket, err := os.Lstat(r.Socket()); err == nil && socket.ModTime().After(info.ModTime()) {
			return false
		}
	}
	return true
}

// noteSilent makes Silent true for a while. Where that cannot be written, others wait, too.
func (p Place) noteSilent() { os.WriteFile(p.silence(), nil, 0o600) }

// Queue is the directory of what is to be uploaded.
func (p Place) Queue() string { return filepath.Join(p.Dir, "queue") }

// Make makes the place's directory.
func (p Place) Make() error { return Run{p.Dir}.Make() }

// isWorld reports whether a directory in a Base is a world's, by its name.
func isWorld(name string) bool {
	kin, rest, ok := strings.Cut(name, "-")
	return ok && isHash(kin) && isHash(rest)
}
