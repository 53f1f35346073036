package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-build/larder/internal/filelock"
	"github.com/larder-build/larder/internal/folder"
)

// A session is the mark of a live Store in its directory, and the names of its
// temporary files: larder/live/<random>.lock, which it holds locked for as long
// as it lives, and larder/live/<random>.<number>.
//
// A crash leaves the files behind and lets go of the lock, by which others tell
// that they may collect them. The lock file's own time says since when the
// session may have been given paths.
type session struct {
	options Options
	begun   atomic.Bool
	next    atomic.Int64

	mu     sync.Mutex
	name   string    // of its files, up to the dot
	start  time.Time // since when it may have been given paths
	live   string    // the directory of its files
	owner  folder.Owner
	lock   *os.File // nil if there is none: the directory cannot be written
	closed bool
}

// liveDir is the directory, in Larder's own folder, of the files of sessions.
const liveDir = "live"

// youngAge protects files between their making and their locking.
const youngAge = time.Minute

// begin marks the session as alive, in a store that is there: to be given anything
// by one that is not, somebody has to make it first, and who only gets is not the
// one to do so. Where it cannot be done for another reason, it is not tried again.
func (s *session) begin() {
	if s.begun.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun.Load() || s.closed {
		return
	}
	s.prepare()
	if err := s.makeLock(); errors.Is(err, fs.ErrNotExist) {
		return
	}
	s.begun.Store(true)
}

// prepare names the session. The caller holds mu.
func (s *session) prepare() {
	if s.name != "" {
		return
	}
	s.name = strconv.FormatUint(rand.Uint64(), 36)
	s.start = s.options.now()
	folder.HandOver(s.options.Dir)
}

// makeLock makes the lock file, and the directories in the store that it needs.
func (s *session) makeLock() error {
	s.live = folder.Sub(s.options.Dir, liveDir)
	name := filepath.Join(s.live, s.name+".lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if errors.Is(err, fs.ErrNotExist) {
		if err := folder.MkdirSub(s.options.Dir, liveDir); err != nil {
			return err
		}
		s.live = folder.Sub(s.options.Dir, liveDir)
		name = filepath.Join(s.live, s.name+".lock")
		f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	}
	if err != nil {
		return err
	}
	s.owner = folder.OwnerOf(s.live)
	s.owner.Give(f)
	filelock.Try(f) // nobody else has a file of this name
	if s.options.now().Sub(s.start) > time.Second || s.options.Now != nil || s.lock != nil {
		os.Chtimes(name, s.start, s.start) // it is made late, or again: the session is older
	}
	if s.lock != nil {
		s.lock.Close()
	}
	s.lock = f
	return nil
}

// create makes a temporary file. A store that is not there, or has been wiped, is
// made, with the session's lock.
func (s *session) create() (*os.File, error) {
	s.begin()
	if s.hasEnded() {
		return nil, os.ErrClosed
	}
	if f, err := s.createIn(); !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	s.mu.Lock()
	err := os.MkdirAll(s.options.Dir, 0o777)
	if err == nil {
		err = s.makeLock()
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	s.begun.Store(true)
	return s.createIn()
}

func (s *session) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// createIn makes a temporary file in the directory for that.
func (s *session) createIn() (*os.File, error) {
	s.mu.Lock()
	live, name, owner := s.live, s.name, s.owner
	s.mu.Unlock()
	f, err := os.OpenFile(filepath.Join(live, name+"."+strconv.FormatInt(s.next.Add(1), 10)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err == nil {
		owner.Give(f)
	}
	return f, err
}

// end makes the session make no more files; close removes its mark.
func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lock == nil {
		return
	}
	os.Remove(s.lock.Name())
	s.lock.Close()
	s.lock = nil
}

// hiddenAge is for how long a session is taken for alive whose lock this user may
// not even read: longer than go commands run.
const hiddenAge = 24 * time.Hour

// living looks at the sessions of a store, whoever's they are: it removes the files
// of those that have died, and returns how many those were and when the oldest
// living session began (zero: none lives).
func living(o Options) (oldest time.Time, collected int, err error) {
	for _, dir := range folder.All(o.Dir, liveDir) {
		first, n, err := livingIn(o, dir)
		collected += n
		if err != nil {
			return oldest, collected, err
		}
		if oldest.IsZero() || !first.IsZero() && first.Before(oldest) {
			oldest = first
		}
	}
	return oldest, collected, nil
}

func livingIn(o Options, dir string) (oldest time.Time, collected int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return oldest, 0, err
	}
	alive := make(map[string]bool)
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".lock")
		info, err := e.Info()
		if !ok || err != nil {
			continue
		}
		age := o.now().Sub(info.ModTime())
		dead, err := isFree(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrPermission) {
			dead, err = age > hiddenAge, nil
		}
		if err != nil {
			return oldest, collected, fmt.Errorf("look at session %s: %w", name, err)
		}
		if !dead || age < youngAge {
			alive[name] = true
			if oldest.IsZero() || info.ModTime().Before(oldest) {
				oldest = info.ModTime()
			}
		}
	}
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), ".")
		info, err := e.Info()
		if alive[name] || err != nil || o.now().Sub(info.ModTime()) < youngAge {
			continue
		}
		if os.Remove(filepath.Join(dir, e.Name())) == nil {
			collected++
		}
	}
	return oldest, collected, nil
}

// isFree reports whether nobody holds the lock of a lock file, or it is gone.
func isFree(name string) (bool, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) {
		f, err = os.Open(name) // another user's; only NFS wants more
	}
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return filelock.Try(f)
}
