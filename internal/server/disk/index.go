package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	indexDir    = "index"
	reserveName = "reserve"
	asidePrefix = "damaged-"
	// damageMark is a file that says that the index was found damaged while it
	// was in use, and is to be set aside by the next Open.
	damageMark = "index-is-damaged"

	// What Pebble may take of memory: the cache, and up to three tables of changes,
	// of which there is usually one.
	cacheBytes    = 32 << 20
	memTableBytes = 8 << 20
	memTablesMax  = 3
	openTablesMax = 500
	// tableBytes is the largest table. Pebble's own choice is up to 128 MiB: fewer
	// files, but more room for a compaction, which is needed to get room at all.
	tableBytes = 8 << 20
	// baseBytes is the size of the first level after the tables just flushed, with
	// all of which it is compacted at once.
	baseBytes = 32 << 20

	// indexFormat is the version of Pebble's format that is written: a later one
	// would be made by an Open, and could not be read by an older larderd.
	indexFormat = pebble.FormatValueSeparation

	// closeWait is how long Close waits for room on a disk that is full to the
	// last byte.
	closeWait = 2 * time.Second
)

// errDamage is what errors about an index that makes no sense wrap.
var errDamage = errors.New("index is damaged")

// openIndex opens Pebble and reads the little that is needed to start.
func (s *Store) openIndex() error {
	if _, err := s.fs.Stat(s.path(damageMark)); err == nil {
		return fmt.Errorf("%w: it was found so in use", errDamage)
	}
	log := s.options.Log
	g := newGuard(s.fs, s.path(reserveName), s.options.Reserve, func(format string, args ...any) {
		log.Warn("store: "+fmt.Sprintf(format, args...), "dir", s.options.Dir)
	})
	if err := g.makeReserve(); noRoom(err) {
		g.release()
	} else if err != nil {
		return err
	}
	if err := s.checkFormat(); err != nil {
		return err
	}
	db, err := s.openPebble(g)
	if err != nil {
		return err
	}
	s.state.ns, s.state.total = make(map[string]Usage), Usage{}
	s.state.oldest = []byte{usePrefix}
	if err := errors.Join(s.loadNumbers(db), s.loadTotals(db)); err != nil {
		return errors.Join(err, db.Close())
	}
	s.db, s.guard = db, g
	g.opened.Store(true)
	return nil
}

// openPebble opens Pebble on a goroutine of its own: an error that Pebble calls
// fatal ends that goroutine and not the process. Where the disk is full to the
// last byte it does not wait for room; then the directory stays locked until
// Pebble has found some.
func (s *Store) openPebble(g *guard) (*pebble.DB, error) {
	type result struct {
		db  *pebble.DB
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r = result{err: fmt.Errorf("%w: %v", errDamage, p)}
			}
			done <- r
		}()
		r.db, r.err = pebble.Open(s.path(indexDir), s.pebbleOptions(g))
	}()
	select {
	case r := <-done:
		return r.db, r.err
	case <-g.failed:
		return nil, g.failure()
	case <-g.stuck():
	}
	lock := s.lock
	s.lock = nil
	go func() {
		if r := <-done; r.db != nil {
			r.db.Close()
		}
		lock.Close()
	}()
	return nil, ErrFull
}

func (s *Store) pebbleOptions(g *guard) *pebble.Options {
	o := &pebble.Options{
		FS:                          g,
		CacheSize:                   cacheBytes,
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: memTablesMax,
		MaxOpenFiles:                openTablesMax,
		FormatMajorVersion:          indexFormat,
		LBaseMaxBytes:               baseBytes,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       64,
		CompactionConcurrencyRange:  func() (lower, upper int) { return 1, 1 },
		Logger:                      pebbleLog{s, g},
		EventListener:               s.listen(g),
	}
	// Reads start no compactions: they need no lock then, which a goroutine that
	// ended in Fatalf may hold.
	o.Experimental.ReadSamplingMultiplier = -1
	for i := range o.Levels {
		o.TargetFileSizes[i] = min(int64(2<<20)<<i, tableBytes)
		o.Levels[i].BlockSize = 16 << 10
		// Most of what is put is new, and most of what is asked for is not there.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// listen minds what Pebble finds out in the background. Damage of the index does
// not end its use: what can be read is served, until it cannot be written any more.
func (s *Store) listen(g *guard) *pebble.EventListener {
	var damaged atomic.Bool
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			if noRoom(err) {
				s.wantRoom.Store(true)
				s.wakeKeeper()
				return
			}
			s.options.Log.Warn("store: the index in the background", "dir", s.options.Dir, "error", err)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			if damaged.Swap(true) {
				return
			}
			s.options.Log.Error("store: the index is damaged; it will start empty when it is opened anew",
				"dir", s.options.Dir, "file", info.Path, "error", info.Details)
			if err := s.markDamaged(); err != nil {
				s.log("mark the index as damaged", err)
			}
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			if damaged.Load() {
				// It cannot be compacted, and would not take a write ever again.
				g.fail(fmt.Errorf("%w, and writes stall: %s", errDamage, info.Reason))
			} else if g.full() {
				g.setStuck(true)
			}
		},
	}
}

// pebbleLog hears what Pebble logs.
type pebbleLog struct {
	s *Store
	g *guard
}

func (l pebbleLog) Infof(string, ...any) {}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.s.options.Log.Warn("store: index: "+fmt.Sprintf(format, args...), "dir", l.s.options.Dir)
}

// Fatalf is called where Pebble cannot go on, and must not return. The goroutine
// stays here, with what locks it holds; nobody waits for it.
func (l pebbleLog) Fatalf(format string, args ...any) {
	l.g.fail(fmt.Errorf(format, args...))
	select {}
}

// checkFormat refuses an index of a later larderd, which is not a damaged one.
func (s *Store) checkFormat() error {
	desc, err := pebble.Peek(s.path(indexDir), s.fs)
	if err == nil && desc.Exists && desc.FormatMajorVersion > indexFormat {
		return fmt.Errorf("index has format %d, of a later version of larderd", desc.FormatMajorVersion)
	}
	return nil // other errors are those of opening it
}

// loadTotals reads the totals. There are as many as namespaces.
func (s *Store) loadTotals(db *pebble.DB) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{totalPrefix}, UpperBound: []byte{totalPrefix + 1}})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		u, ok := parseUsage(it.Value())
		if !ok {
			return errors.Join(fmt.Errorf("%w: record of %d bytes", errDamage, len(it.Value())), it.Close())
		}
		s.state.ns[string(it.Key()[1:])] = u
		s.state.total = s.state.total.plus(u)
	}
	return it.Close()
}

// isDamage tells an index that cannot be opened because of what is in it from
// one that cannot be opened now. What the system calls an error is the latter,
// but for a file that is missing.
func isDamage(err error) bool {
	var errno syscall.Errno
	switch {
	case err == nil, errors.Is(err, ErrFailed), noRoom(err):
		return false
	case errors.Is(err, errDamage), pebble.IsCorruptionError(err), errors.Is(err, fs.ErrNotExist),
		errors.Is(err, pebble.ErrDBNotPristine): // as where the file with the format is gone
		return true
	case errors.As(err, &errno), errors.Is(err, fs.ErrPermission):
		return false
	}
	// What else Pebble finds wrong on opening: a table of the wrong size, an
	// OPTIONS file that it cannot read.
	return strings.Contains(err.Error(), "size mismatch") || strings.Contains(err.Error(), "pebble: invalid")
}

// markDamaged has the next Open set the index aside.
func (s *Store) markDamaged() error {
	f, err := s.fs.Create(s.path(damageMark), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return f.Close()
}

// setAside moves the index away, with its bodies, which nothing else refers to.
// Only the last such index is kept; the sweep removes the bodies.
func (s *Store) setAside() error {
	if err := s.removeAside(); err != nil {
		return err
	}
	aside := s.path(asidePrefix + s.options.Now().UTC().Format("20060102T150405Z"))
	if err := s.fs.MkdirAll(aside, 0o777); err != nil {
		return err
	}
	// The bodies first: a crash in between leaves an index that is as damaged as it
	// was, and not bodies that a new index would take for its own.
	for _, name := range []string{bodiesDir, indexDir} {
		if err := s.fs.Rename(s.path(name), filepath.Join(aside, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := syncDir(s.fs, s.options.Dir); err != nil {
			return err
		}
	}
	if err := s.fs.Remove(s.path(damageMark)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.openBodies()
}

// removeAside removes what setAside has kept.
func (s *Store) removeAside() error {
	names, err := s.fs.List(s.options.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, asidePrefix) {
			if err := s.fs.RemoveAll(s.path(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// closeIndex closes Pebble, unless it cannot be closed: then it is left as it
// is, and what is on the disk is what a crash would leave.
func (s *Store) closeIndex() error {
	done := make(chan error, 1)
	go func() {
		s.writes.Wait()
		done <- s.db.Close()
	}()
	wait := time.NewTimer(closeWait)
	defer wait.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-s.guard.failed:
			return s.guard.failure()
		case <-wait.C:
			if s.guard.full() {
				return fmt.Errorf("index is left as it is: %w", ErrFull)
			}
			wait.Reset(closeWait)
		}
	}
}
