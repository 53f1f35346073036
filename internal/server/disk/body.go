package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/larder-build/larder/internal/entry"
)

const (
	bodiesDir = "bodies"
	// numberBlock is how many file numbers are reserved with one write of the
	// index; a crash leaves at most so many unused.
	numberBlock = 4096
	// copyBytes is what is copied at a time to a file.
	copyBytes = 128 << 10
)

// numbers gives out file numbers. They are reserved in the index in blocks, so
// that none is ever used twice, whatever crashes; and so that every file of
// before this Open has a smaller number than every file of after it.
type numbers struct {
	sync.Mutex
	next   uint64
	limit  uint64 // the first that is not reserved
	atOpen uint64 // limit when the store was opened
}

func (s *Store) nextNumber() (uint64, error) {
	n := &s.numbers
	n.Lock()
	defer n.Unlock()
	if n.next == n.limit {
		limit := n.limit + numberBlock
		err := s.write(true, func(t *tx) error {
			return t.batch.Set([]byte(numberKey), binary.BigEndian.AppendUint64(nil, limit), nil)
		})
		if err != nil {
			// What may have been reserved is not used: it is reserved again.
			return 0, fmt.Errorf("reserve file numbers: %w", err)
		}
		n.limit = limit
	}
	n.next++
	return n.next - 1, nil
}

func (s *Store) loadNumbers(db *pebble.DB) error {
	n := &s.numbers
	n.next = 1 // 0 is no file
	value, closer, err := db.Get([]byte(numberKey))
	if err == nil {
		defer closer.Close()
		if len(value) != 8 {
			return fmt.Errorf("%w: record of %d bytes", errDamage, len(value))
		}
		n.next = binary.BigEndian.Uint64(value)
	} else if !errors.Is(err, pebble.ErrNotFound) {
		return err
	}
	// A number in use is below what is reserved, unless part of the log was lost. It costs
	// little not to depend on that, and much to write into a file in use.
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{filePrefix}, UpperBound: []byte{filePrefix + 1}})
	if err != nil {
		return err
	}
	if it.Last() && len(it.Key()) == 9 {
		n.next = max(n.next, binary.BigEndian.Uint64(it.Key()[1:])+1)
	}
	n.limit, n.atOpen = n.next, n.next
	return it.Close()
}

func (s *Store) openBodies() error {
	return s.fs.MkdirAll(s.path(bodiesDir), 0o777)
}

// bodyDir is the directory of a file: 256 consecutive numbers share one, so that
// a batch has few directories to sync.
func (s *Store) bodyDir(number uint64) string {
	return s.path(bodiesDir, fmt.Sprintf("%02x", byte(number>>8)))
}

func (s *Store) bodyPath(number uint64) string {
	return s.path(bodiesDir, fmt.Sprintf("%02x", byte(number>>8)), strconv.FormatUint(number, 16))
}

func (s *Store) createBody(number uint64) (f vfs.File, dir string, err error) {
	create := func() (vfs.File, error) {
		return s.fs.Create(s.bodyPath(number), vfs.WriteCategoryUnspecified)
	}
	dir = s.bodyDir(number)
	f, err = create()
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.fs.MkdirAll(dir, 0o777); err != nil {
			return nil, "", err
		}
		if err := syncDir(s.fs, s.path(bodiesDir)); err != nil {
			return nil, "", err
		}
		f, err = create()
	}
	return f, dir, err
}

// A bodyReader is an open file with a body.
type bodyReader interface {
	io.ReadCloser
	io.ReaderAt
}

// openBody opens the file of a body, which on the system's own file system is an
// *os.File: only of such io.Copy can hand on the bytes without reading them.
func (s *Store) openBody(number uint64) (f bodyReader, size int64, err error) {
	if s.fs != vfs.Default {
		f, err := s.fs.Open(s.bodyPath(number))
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		if err != nil {
			return nil, 0, errors.Join(err, f.Close())
		}
		return f, info.Size(), nil
	}
	file, err := os.Open(s.bodyPath(number))
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, info.Size(), nil
}

// removeBody removes a file that nothing refers to. What cannot be removed (on
// Windows, while it is read) is found by the sweep after the next Open.
func (s *Store) removeBody(number uint64) { s.fs.Remove(s.bodyPath(number)) }

// readInto fills p from r, and returns the sum of it. It calls r.Read no more
// once p is full, but minds an error that comes with the last bytes.
func readInto(p []byte, r io.Reader) (sum uint32, err error) {
	for n := 0; n < len(p); {
		m, err := r.Read(p[n:])
		n += m
		if err != nil && (err != io.EOF || n < len(p)) {
			return 0, unexpected(err)
		}
	}
	return entry.Checksum(p), nil
}

// copyExactly is readInto to a file. The writes are large; an error of r is
// told from one of f by the wrapping of the latter, which is a *fs.PathError.
func copyExactly(f io.Writer, r io.Reader, size int64) (sum uint32, err error) {
	buf := make([]byte, copyBytes)
	for size > 0 {
		p := buf[:min(size, copyBytes)]
		if _, err := readInto(p, r); err != nil {
			return 0, err
		}
		sum = entry.UpdateChecksum(sum, p)
		if _, err := f.Write(p); err != nil {
			return 0, err
		}
		size -= int64(len(p))
	}
	return sum, nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// syncDir brings the names in a directory to the disk, where the system can do it.
func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
