// Package disk is the storage of the team server: an embedded store that needs
// no set-up.
//
// What it promises. What Commit or PutBlob has acknowledged is there after a
// crash, at any moment, of the process or the machine. What Get answers is what
// was put: a body that is damaged or cut short is a miss. The store stays within
// MaxBytes and MaxAge by dropping what has been unused for longest, at a cost per
// entry dropped that does not grow with the number of entries. A full disk is an
// error, ErrFull, that passes when there is room again; reading goes on.
//
// The format. Dir holds
//
//	index/         a Pebble database: all records, and bodies of up to 64 KiB
//	bodies/xx/n    one file for each larger body; n is a number that is never used again
//	reserve        room set aside, so that the index can be written on a full disk
//	damaged-time/  the last index that could not be opened, for a look at it
//
// Records refer to a file only once it is on the disk, and a file is removed only
// once no record on the disk refers to it. A crash in between leaves files that
// nothing refers to; they are removed after the next Open. See key.go for what is
// in the index.
//
// Concurrency. All methods of a Store may be called at the same time; a Batch and
// an Item are for one goroutine each. Changes of the index are made under one
// lock, which is not held while they are written to the disk: those that come
// meanwhile share the next fsync.
//
// It trusts its own directory, but for damage, and its caller for the content of
// headers; not the sums of bodies, which it checks when they come and when they go.
package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// ErrNotFound is what Get, Stat and GetBlob answer for what is not there.
	ErrNotFound = errors.New("not found")
	// ErrFull is what errors wrap when the disk has no room. Nothing was
	// acknowledged, and the next attempt may succeed.
	ErrFull = errors.New("disk is full")
	// ErrClosed is what every method answers after Close.
	ErrClosed = errors.New("store is closed")
	// ErrFailed is what errors wrap after the disk refused a write of the index
	// for another reason than being full. The store can still be read. To be
	// written it must be opened anew, by another process: this one holds its lock.
	ErrFailed = errors.New("store cannot be written any more")
)

const (
	// inlineMax is the largest stored body that is kept in the index. Nine of ten
	// bodies are smaller; each as a file of its own would cost an fsync and a block.
	inlineMax = 64 << 10
	// defaultReserve is enough for the log of the index to take the deletion of
	// some 100,000 entries, with a flush, and a compaction of a few tables. There
	// is a good deal more as long as nobody else uses the disk: see scarce.
	defaultReserve = 64 << 20
)

// Options say where a Store is and what bounds it.
type Options struct {
	Dir      string           // made if it is missing; for one process at a time
	MaxBytes int64            // what bodies and their records may take; 0: no limit
	MaxAge   time.Duration    // entries unused for longer go; 0: no limit
	Reserve  int64            // bytes set aside for a full disk, which is one with less than four times that; 0: 64 MiB
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: none

	fs vfs.FS // of tests; nil: the system's
}

// A Store is an open store.
type Store struct {
	options Options
	fs      vfs.FS
	lock    *pebble.Lock // of Dir
	db      *pebble.DB
	guard   *guard
	numbers numbers
	uses    uses

	life struct {
		sync.Mutex
		closed bool
		users  sync.WaitGroup // calls that are under way
	}
	cancel     context.CancelFunc
	background sync.WaitGroup
	wake       chan struct{} // of capacity 1: there may be something to evict
	wantRoom   atomic.Bool   // a put found the disk full
	putBytes   atomic.Int64  // that were put since the store was opened
	damaged    atomic.Int64  // entries dropped because of it

	commit  sync.Mutex // see write
	waiting atomic.Int32
	writes  sync.WaitGroup // running write calls, waited for or not
	state   state
}

// Open opens the store in a directory. It does not look at all entries: what it
// takes does not depend on their number.
//
// An index that is damaged is set aside, and the store starts empty.
func Open(o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.fs == nil {
		o.fs = vfs.Default
	}
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	s := &Store{options: o, fs: o.fs, wake: make(chan struct{}, 1)}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", o.Dir, full(err))
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.background.Add(2)
	go func() {
		defer s.background.Done()
		s.keep(ctx)
	}()
	go func() {
		defer s.background.Done()
		s.sweep(ctx)
	}()
	return s, nil
}

func (s *Store) open() (err error) {
	dir := s.options.Dir
	if err := s.makeDir(); err != nil {
		return err
	}
	if s.lock, err = pebble.LockDirectory(dir, s.fs); err != nil {
		return fmt.Errorf("lock it, which another process may have done: %w", err)
	}
	defer func() {
		if err != nil && s.lock != nil {
			s.lock.Close()
		}
	}()
	if err := s.openBodies(); err != nil {
		return err
	}
	err = s.openIndex()
	if err == nil {
		return syncDir(s.fs, dir) // Pebble does not do it for the directory that it makes
	}
	if !isDamage(err) {
		return err
	}
	s.options.Log.Error("the index of the store is damaged: it is set aside and the store starts empty",
		"dir", dir, "error", err)
	if err := s.setAside(); err != nil {
		return fmt.Errorf("set the damaged index aside: %w", err)
	}
	if err := s.openIndex(); err != nil {
		return err
	}
	return syncDir(s.fs, dir)
}

// makeDir makes the store's directory, so that it is there after a crash.
func (s *Store) makeDir() error {
	var made []string
	for dir := s.options.Dir; dir != s.fs.PathDir(dir); dir = s.fs.PathDir(dir) {
		if _, err := s.fs.Stat(dir); err == nil {
			break
		}
		made = append(made, dir)
	}
	if err := s.fs.MkdirAll(s.options.Dir, 0o777); err != nil {
		return err
	}
	for _, dir := range made {
		if err := syncDir(s.fs, s.fs.PathDir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// Close ends all that the store does by itself, and waits for calls that are
// under way. On a disk that is full to the last byte it may leave the index as a
// crash would, and say so; nothing acknowledged is lost.
func (s *Store) Close() error {
	s.life.Lock()
	closed := s.life.closed
	s.life.closed = true
	s.life.Unlock()
	if closed {
		return ErrClosed
	}
	s.life.users.Wait()
	s.cancel()
	s.background.Wait()
	if s.guard.failure() == nil && !s.guard.full() {
		s.renewUses() // an error loses no more than the order of eviction
	}
	if err := s.closeIndex(); err != nil {
		return fmt.Errorf("close store %s: %w", s.options.Dir, full(err))
	}
	return s.lock.Close()
}

// enter begins a call, which leave ends.
func (s *Store) enter() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.life.closed {
		return ErrClosed
	}
	s.life.users.Add(1)
	return nil
}

func (s *Store) leave() { s.life.users.Done() }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.options.Dir}, elem...)...)
}

// full makes errors of a full disk wrap ErrFull.
func full(err error) error {
	if noRoom(err) && !errors.Is(err, ErrFull) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// wakeKeeper makes the keeper look around at once.
func (s *Store) wakeKeeper() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
