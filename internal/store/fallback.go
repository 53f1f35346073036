package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/larder-build/larder/internal/filelock"
)

// A fallback is the private directory for what cannot be put into the store's.
// The go command, and gopls and linters after it, open its files later than the
// session ends, so it is a later session that removes it (collectFallbacks).
type fallback struct {
	options Options

	mu   sync.Mutex
	dir  string   // "" until something is put into it
	why  error    // of the first put that could not go into the store
	lock *os.File // held for as long as the session lives
	next int
}

const fallbackLock = "larder.lock"

// fallbackAge is how long ago a dead session's fallback directory must have
// been used last: what is spared by trimming is spared here.
const fallbackAge = 2 * time.Hour

func fallbackPrefix() string { return fmt.Sprintf("larder-%d-", os.Getuid()) }

// create makes a file with the given ending; why is what kept it out of the store.
// After an error it may well succeed the next time (spareTries).
func (f *fallback) create(ending string, why error) (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dir == "" {
		if err := f.makeDir(); err != nil {
			return nil, err
		}
		f.why = why
	}
	f.next++
	file, err := os.OpenFile(filepath.Join(f.dir, fmt.Sprintf("%d%s", f.next, ending)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		f.makeDir() // somebody cleans the temporary directory: the next time there is another one
	}
	return file, err
}

// makeDir makes the directory and its lock. The go command is given paths in
// it, and may have another working directory.
func (f *fallback) makeDir() error {
	parent, err := filepath.Abs(f.options.fallbackParent())
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, fallbackPrefix())
	if err != nil {
		return err
	}
	lock, err := os.Create(filepath.Join(dir, fallbackLock))
	if err != nil {
		os.Remove(dir) // without its lock nobody would dare to, ever
		return err
	}
	filelock.Try(lock)
	if f.lock != nil {
		f.lock.Close()
	}
	f.dir, f.lock = dir, lock
	return nil
}

// close lets go of the directory. One that holds no output goes at once.
func (f *fallback) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lock == nil {
		return
	}
	f.lock.Close()
	f.lock = nil
	if names, err := os.ReadDir(f.dir); err == nil && len(names) == 1 {
		os.RemoveAll(f.dir)
	}
}

// collectFallbacks removes the directories of dead sessions. Only real
// directories of this user with the right name are looked at.
func collectFallbacks(o Options) (collected int, err error) {
	parent := o.fallbackParent()
	entries, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), fallbackPrefix()) || !e.IsDir() {
			continue
		}
		info, infoErr := e.Info()
		if infoErr != nil || !ownedByUser(info) || o.now().Sub(info.ModTime()) < fallbackAge {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		if free, lockErr := isFree(filepath.Join(dir, fallbackLock)); lockErr != nil || !free {
			continue
		}
		if removeErr := os.RemoveAll(dir); removeErr != nil {
			err = errors.Join(err, removeErr)
			continue
		}
		collected++
	}
	return collected, err
}
