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

	mu    sync.Mutex
	name  string    // of its files, up to the dot
	start time.Time // since when it may have been given paths
	lock  *os.File  // nil if there is none: the directory cannot be written
}

// youngAge protects files between their making and their locking.
const youngAge = time.Minute

// begin marks the session as alive. Where that cannot be done, nobody who
// trims can write here either.
func (s *session) begin() {
	if s.begun.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun.Load() {
		return
	}
	s.name = strconv.FormatUint(rand.Uint64(), 36)
	s.start = s.options.now()
	s.makeLock()
	s.begun.Store(true)
}

// makeLock makes the lock file, and the directories that it needs.
func (s *session) makeLock() error {
	dir := s.options.own("live")
	name := filepath.Join(dir, s.name+".lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	}
	if err != nil {
		return err
	}
	filelock.Try(f) // nobody else has a file of this name
	if s.options.Now != nil || s.lock != nil {
		os.Chtimes(name, s.start, s.start) // it is made again: the session is older
	}
	if s.lock != nil {
		s.lock.Close()
	}
	s.lock = f
	return nil
}

// create makes a temporary file. If the directory has been wiped it is made
// again, with the session's lock.
func (s *session) create() (*os.File, error) {
	s.begin()
	name := filepath.Join(s.options.own("live"), s.name+"."+strconv.FormatInt(s.next.Add(1), 10))
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	s.mu.Lock()
	err = s.makeLock()
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
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

// living looks at the sessions of a store: it removes the files of those that
// have died, and returns how many those were and when the oldest living session
// began (zero: none lives).
func living(o Options) (oldest time.Time, collected int, err error) {
	dir := o.own("live")
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
		dead, err := isFree(filepath.Join(dir, e.Name()))
		if err != nil {
			return oldest, collected, fmt.Errorf("look at session %s: %w", name, err)
		}
		if !dead || o.now().Sub(info.ModTime()) < youngAge {
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
