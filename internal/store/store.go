// Package store is the local store: the go command's own cache directory, in
// the go command's own format (cmd/go/internal/cache/cache.go).
//
// A store holds, for each action, the file xx/<action ID>-a, which names the
// output, its size and the time of the put; and for each output the file
// xx/<output ID>-d, its body (xx is the ID's first byte in hexadecimal). Native
// go commands may use the directory at the same time. What is Larder's own is
// in the folder larder/, which "go clean -cache" leaves alone.
//
// What it promises:
//
//   - A file has its final name only when its bytes have been hashed and are
//     what its name says. A path that was handed out keeps its bytes for as long
//     as the file is open or the path exists: files are replaced, not rewritten.
//   - A put fails only if the body is not what it should be, or if neither the
//     directory nor a private temporary one can be written (see Put).
//   - Trimming spares what was used in the last hour, and what a session that is
//     still alive may have been given, in whatever process (see Trim).
//
// Any number of goroutines and processes may use one directory. Like the go
// command, a Store trusts whoever can write the directory: a get compares
// sizes, not hashes. Verify hashes.
package store

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/folder"
)

// Options say where a store is.
type Options struct {
	Dir string // absolute path of the directory; made when something is put

	// FallbackParent is where a private directory is made for what cannot be
	// put into Dir. "" is os.TempDir().
	FallbackParent string

	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

func (o Options) now() time.Time {
	if o.Now != nil {
		return o.Now()
	}
	return time.Now()
}

func (o Options) fallbackParent() string {
	if o.FallbackParent != "" {
		return o.FallbackParent
	}
	return os.TempDir()
}

// own is a path in Larder's own folder.
func (o Options) own(elem ...string) string {
	return filepath.Join(append([]string{folder.Of(o.Dir)}, elem...)...)
}

// A Store is one session's use of a store. Its methods are safe for concurrent use.
type Store struct {
	options Options
	fault   func(op, path string) error // tests: what an operation answers instead

	session  session
	fallback fallback
	buffers  sync.Pool // of *[copyBytes]byte

	// Puts into Dir that failed: why the last one did, and how many puts have
	// gone by since (retryPuts).
	failure      atomic.Pointer[error]
	sinceFailure atomic.Int64

	cannotAdopt atomic.Bool  // another user's entries cannot be made this one's (adopt)
	importing   sync.RWMutex // held by imports, and by Close until they are done

	// Actions that could not be written to Dir.
	remembering atomic.Bool
	mu          sync.Mutex
	remembered  map[entry.ActionID]entry.Object
}

// copyBytes is how much of a body is read, hashed and written at a time. With
// 128 KiB a body of 10 MB is put as fast as with 1 MiB, and faster than with 32.
const copyBytes = 128 << 10

// Open returns the store. It does no I/O: what is missing is made when it is needed.
func Open(o Options) *Store {
	s := &Store{options: o}
	s.session.options = o
	s.fallback.options = o
	s.buffers.New = func() any { return new([copyBytes]byte) }
	return s
}

// Close ends the session: what it was given may be trimmed from now on, by the
// usual rules. Errors leave files that trimming collects.
//
// Nothing is made in the directory from then on: imports under way are waited for,
// later ones are refused.
func (s *Store) Close() {
	s.session.end()
	s.importing.Lock()
	defer s.importing.Unlock()
	s.session.close()
	s.fallback.close()
}

// Fallback returns the private directory that holds what could not be put into
// the store, and why it could not; "" and nil if there was nothing.
func (s *Store) Fallback() (dir string, why error) {
	s.fallback.mu.Lock()
	defer s.fallback.mu.Unlock()
	return s.fallback.dir, s.fallback.why
}

// failed runs the tests' fault for an operation.
func (s *Store) failed(op, path string) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(op, path)
}

// subdir is the directory, of 256, of the files of an ID.
func subdir(dir string, id [entry.HashSize]byte) string {
	const hex = "0123456789abcdef"
	return dir + string(filepath.Separator) + string([]byte{hex[id[0]>>4], hex[id[0]&15]})
}

// fileName is the name of the file of an action (kind 'a') or an output ('d').
func fileName(dir string, id [entry.HashSize]byte, kind byte) string {
	var space [nameBytes]byte
	return string(appendName(space[:0], dir, id, kind))
}

// nameBytes is room for nearly all names: 71 bytes and the directory.
const nameBytes = 256

// appendName appends what fileName returns. A get that misses must not allocate.
func appendName(b []byte, dir string, id [entry.HashSize]byte, kind byte) []byte {
	const hex = "0123456789abcdef"
	b = append(b, dir...)
	b = append(b, filepath.Separator, hex[id[0]>>4], hex[id[0]&15], filepath.Separator)
	for _, c := range id {
		b = append(b, hex[c>>4], hex[c&15])
	}
	return append(b, '-', kind)
}
