package disk

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardPause is how long Pebble waits before it tries again to write to a disk
// that is full to the last byte.
const guardPause = 100 * time.Millisecond

// A guard is the file system that Pebble sees. It exists because Pebble ends the
// process, or panics where nobody can recover, when it cannot write its log or
// its manifest.
//
// On a full disk it first gives up the reserve, and the write is repeated. While
// the reserve is gone the store is full: it takes no puts, and what it writes
// itself (to make room) has the reserve to live on, of which what Pebble compacts
// may take a half and what it flushes three eighths more: these it can try again,
// and without a flush there is nothing to compact. Where even that is used up, because somebody else wants it too, the write waits
// for room, and whoever waits for it is told by stuck.
//
// After any other error of the log or the manifest what is on the disk is not
// known. Then the guard has failed: nothing more of them is written until the
// store is opened anew, which starts from what is there, as after a crash.
type guard struct {
	vfs.FS
	path string // of the reserve
	size int64  // of the reserve
	logf func(format string, args ...any)

	fault  atomic.Pointer[func(name string) error] // of tests
	opened atomic.Bool                             // Open is done: before that, errors but those of a full disk are returned as they are

	mu      sync.Mutex
	low     bool          // the reserve is gone
	isStuck atomic.Bool   // changed under mu
	stuckC  chan struct{} // closed while it is
	failed  chan struct{} // closed by fail
	err     error         // why
}

func newGuard(fs vfs.FS, path string, size int64, logf func(string, ...any)) *guard {
	return &guard{FS: fs, path: path, size: size, logf: logf,
		stuckC: make(chan struct{}), failed: make(chan struct{})}
}

// scarce reports whether room should be made before it is too late: to get room
// by compacting the index takes room, the size of the first two levels at a time.
func (g *guard) scarce() bool { return g.free() < 8*g.size }

// plenty is the room to make then.
func (g *guard) plenty() int64 { return 10 * g.size }

// takes reports whether there is room for puts.
func (g *guard) takes() bool { return !g.full() && g.free() >= 4*g.size }

// full reports whether the reserve is gone.
func (g *guard) full() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.low
}

// stuck is closed when a write waits for room.
func (g *guard) stuck() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stuckC
}

func (g *guard) setStuck(is bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if is == g.isStuck.Load() {
		return
	}
	if g.isStuck.Store(is); is {
		close(g.stuckC)
	} else {
		g.stuckC = make(chan struct{})
	}
}

// failure is why nothing can be written any more. It wraps ErrFailed.
func (g *guard) failure() error {
	if !isClosed(g.failed) {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

func (g *guard) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = fmt.Errorf("%w: %w", ErrFailed, err)
		close(g.failed)
		g.logf("the index cannot be written any more: %v", err)
	}
}

// release gives up the reserve, and reports whether there was one.
func (g *guard) release() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.low {
		g.low = true
		g.logf("the disk is full")
	}
	info, err := g.FS.Stat(g.path)
	return err == nil && info.Size() > 0 && g.FS.Remove(g.path) == nil
}

// refill makes the reserve again if it is gone and there is room for more than
// it. It reports whether the disk is not full.
func (g *guard) refill() bool {
	if !g.full() {
		return true
	}
	if g.free() < g.size+g.size/4 || g.makeReserve() != nil {
		return false // until the next time
	}
	g.mu.Lock()
	g.low = false
	g.mu.Unlock()
	g.setStuck(false)
	g.logf("the disk has room again")
	return true
}

// makeReserve makes the reserve, unless it is there. It writes what no file
// system can keep in less than its size.
func (g *guard) makeReserve() error {
	if info, err := g.FS.Stat(g.path); err == nil && info.Size() == g.size {
		return nil
	}
	f, err := g.FS.Create(g.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{}), g.size)
	if err = errors.Join(err, f.Close()); err != nil {
		g.FS.Remove(g.path)
	}
	return err
}

// free is the room on the disk; where it is not known, it is enough.
func (g *guard) free() int64 {
	u, err := g.FS.GetDiskUsage(filepath.Dir(g.path))
	if err != nil {
		return 1 << 62
	}
	return int64(min(u.AvailBytes, 1<<62))
}

// table reports whether a file is one that Pebble can write again.
func table(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// floor is the room that is left for more important files when the disk is full.
func (g *guard) floor(name string, c vfs.DiskWriteCategory) int64 {
	switch {
	case !table(name):
		return 0
	case strings.Contains(string(c), "flush"):
		return g.size / 8
	default:
		return g.size / 2
	}
}

// do does op on a file, for as long as it takes.
func (g *guard) do(name string, floor int64, op func() error) error {
	for {
		if !table(name) && isClosed(g.failed) {
			select {} // see fail: this goroutine is Pebble's, and nobody waits for it
		}
		err := g.try(name, floor, op)
		if err == nil {
			if g.isStuck.Load() {
				g.setStuck(false)
			}
			return nil
		}
		if !noRoom(err) {
			if g.opened.Load() && !table(name) {
				g.fail(fmt.Errorf("write %s: %w", filepath.Base(name), err))
				continue
			}
			return err
		}
		if g.release() {
			continue
		}
		g.setStuck(true)
		time.Sleep(guardPause)
		if table(name) {
			return err // Pebble tries again, at once
		}
	}
}

func (g *guard) try(name string, floor int64, op func() error) error {
	if fault := g.fault.Load(); fault != nil {
		if err := (*fault)(filepath.Base(name)); err != nil {
			return err
		}
	}
	if g.full() && g.free() < floor {
		return syscall.ENOSPC
	}
	return op()
}

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	if strings.HasPrefix(filepath.Base(name), "marker.") {
		// Pebble's markers name a file that it has made just before. On a file system
		// that may keep the one and lose the other, the index would be damaged.
		if err := syncDir(g.FS, filepath.Dir(name)); err != nil {
			return nil, err
		}
	}
	err = g.do(name, g.floor(name, c), func() (err error) { f, err = g.FS.Create(name, c); return err })
	return g.wrap(name, g.floor(name, c), f, err)
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (f vfs.File, err error) {
	err = g.do(name, g.floor(name, c), func() (err error) { f, err = g.FS.OpenReadWrite(name, c, o...); return err })
	return g.wrap(name, g.floor(name, c), f, err)
}

func (g *guard) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = g.do(name, g.floor(name, c), func() (err error) { f, err = g.FS.ReuseForWrite(old, name, c); return err })
	return g.wrap(name, g.floor(name, c), f, err)
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return g.wrap(name, 0, f, err)
}

func (g *guard) Link(old, name string) error {
	return g.do(name, 0, func() error { return g.FS.Link(old, name) })
}

func (g *guard) Rename(old, name string) error {
	return g.do(name, 0, func() error { return g.FS.Rename(old, name) })
}

func (g *guard) MkdirAll(name string, perm os.FileMode) error {
	return g.do(name, 0, func() error { return g.FS.MkdirAll(name, perm) })
}

// Unwrap keeps Pebble from going round the guard.
func (g *guard) Unwrap() vfs.FS { return nil }

func (g *guard) wrap(name string, floor int64, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &guardedFile{File: f, guard: g, name: name, floor: floor}, nil
}

// A guardedFile is a file that Pebble writes.
type guardedFile struct {
	vfs.File
	guard *guard
	name  string
	floor int64
}

func (f *guardedFile) Write(p []byte) (n int, err error) {
	err = f.guard.do(f.name, f.floor, func() error {
		m, err := f.File.Write(p[n:])
		n += m
		return err
	})
	return n, err
}

func (f *guardedFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.guard.do(f.name, f.floor, func() error {
		m, err := f.File.WriteAt(p[n:], at+int64(n))
		n += m
		return err
	})
	return n, err
}

func (f *guardedFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *guardedFile) SyncData() error { return f.sync(f.File.SyncData) }

// sync does not repeat a sync that failed: what it should have written may have
// been forgotten by the system, so that the next one would succeed for nothing.
func (f *guardedFile) sync(op func() error) error {
	return f.guard.do(f.name, f.floor, func() error {
		err := op()
		if noRoom(err) && f.guard.opened.Load() {
			f.guard.release()
			err = errors.New(err.Error()) // no longer one about room
		}
		return err
	})
}

// Close hides the error of a file that was synced before: there is nothing that
// Pebble could do about it but panic.
func (f *guardedFile) Close() error {
	err := f.File.Close()
	if err != nil && f.guard.opened.Load() && !table(f.name) {
		f.guard.fail(fmt.Errorf("close %s: %w", filepath.Base(f.name), err))
		return nil
	}
	return err
}

// noRoom reports whether an error is one of a full disk or quota.
func noRoom(err error) bool {
	if runtime.GOOS == "windows" {
		const handleDiskFull, diskFull = syscall.Errno(39), syscall.Errno(112)
		if errors.Is(err, handleDiskFull) || errors.Is(err, diskFull) {
			return true
		}
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
