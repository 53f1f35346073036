package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/cockroachdb/pebble/v2"
	"github.com/larder-build/larder/internal/entry"
)

// An Item is an entry that was found. Close it when done with it. It does not
// change when the entry is replaced or dropped, and may be read after that.
type Item struct {
	Header entry.Header

	s      *Store
	ident  string
	value  []byte     // the record, of an entry with a file
	file   bodyReader // nil: the body is in inline
	sum    uint32
	inline []byte
	body   io.Reader
}

// Body reads the stored body, Header.Stored bytes. It is a *bytes.Reader, and
// was checked; or a *io.LimitedReader of an *os.File, for io.Copy to hand on
// without reading it, and was not: see Verify and Checked.
func (i *Item) Body() io.Reader { return i.body }

// Verify reads the body on its own and checks its sum. If that is wrong the
// entry is dropped and the error wraps entry.ErrFormat.
func (i *Item) Verify() error {
	if i.file == nil {
		return nil
	}
	buf := make([]byte, copyBytes)
	var sum uint32
	r := io.NewSectionReader(i.file, 0, i.Header.Stored)
	for {
		n, err := r.Read(buf)
		sum = entry.UpdateChecksum(sum, buf[:n])
		if err == io.EOF {
			return i.check(sum)
		}
		if err != nil {
			return err
		}
	}
}

// Checked is Body with a check: where the body ends, and its sum is wrong, the
// entry is dropped and the error wraps entry.ErrFormat.
func (i *Item) Checked() io.Reader {
	if i.file == nil {
		return i.body
	}
	return &checkedReader{item: i, left: i.Header.Stored}
}

type checkedReader struct {
	item *Item
	left int64
	sum  uint32
	err  error
}

func (c *checkedReader) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.item.body.Read(p)
	c.sum = entry.UpdateChecksum(c.sum, p[:n])
	c.left -= int64(n)
	if c.left == 0 {
		// With the last bytes, so that one who counts does not miss it.
		if err = c.item.check(c.sum); err == nil {
			err = io.EOF
		}
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	c.err = err
	return n, err
}

func (i *Item) check(sum uint32) error {
	if sum == i.sum {
		return nil
	}
	i.s.drop(i.ident, i.value)
	return mismatch(i.sum, sum)
}

// Close closes the file, if there is one.
func (i *Item) Close() error {
	if i.file == nil {
		return nil
	}
	return i.file.Close()
}

// Get finds an entry and notes that it was used. The error is ErrNotFound if
// there is none, or none that is undamaged.
func (s *Store) Get(ns string, id entry.ActionID) (*Item, error) {
	ident, err := actionIdent(ns, id)
	if err != nil {
		return nil, err
	}
	return s.get(ident)
}

func (s *Store) get(ident string) (*Item, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	i, err := s.open1(ident)
	if errors.Is(err, errGone) {
		// It was replaced since its record was read. If it is gone again, it is
		// rather that the file went missing.
		i, err = s.open1(ident)
	}
	if errors.Is(err, errGone) {
		s.drop(ident, i.value)
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	s.uses.note(s, ident)
	return i, nil
}

// errGone says that a record's file is not there. The Item with it has the record.
var errGone = errors.New("file is gone")

func (s *Store) open1(ident string) (*Item, error) {
	r, value, err := s.record(ident, true)
	if err != nil {
		return nil, err
	}
	i := &Item{Header: r.header, s: s, ident: ident, value: value, sum: r.sum}
	if r.number == 0 {
		i.value, i.inline = nil, r.inline
		i.body = bytes.NewReader(i.inline)
		return i, nil
	}
	i.Header.Stored = r.size // what an Item of a blob goes by
	var size int64
	i.file, size, err = s.openBody(r.number)
	if errors.Is(err, fs.ErrNotExist) {
		return i, errGone
	}
	if err != nil {
		return nil, err
	}
	if size != r.size {
		i.file.Close()
		s.drop(ident, value)
		return nil, ErrNotFound
	}
	i.body = &io.LimitedReader{R: i.file, N: r.size}
	return i, nil
}

// record reads and checks a record. A damaged one is dropped, and not found.
func (s *Store) record(ident string, keep bool) (stored, []byte, error) {
	value, closer, err := s.db.Get(recordKey(ident))
	if errors.Is(err, pebble.ErrNotFound) {
		return stored{}, nil, ErrNotFound
	}
	if pebble.IsCorruptionError(err) {
		s.damaged.Add(1) // Pebble's own sums; there is nothing that could be deleted
		return stored{}, nil, ErrNotFound
	}
	if err != nil {
		return stored{}, nil, fmt.Errorf("read the index: %w", err)
	}
	defer closer.Close()
	r, err := parseRecord(ident, value)
	if err != nil {
		s.drop(ident, bytes.Clone(value))
		return stored{}, nil, ErrNotFound
	}
	if !keep {
		return r, nil, nil
	}
	value = bytes.Clone(value)
	r.inline = value[len(value)-len(r.inline):]
	return r, value, nil
}

// Stat is the header of an entry. It reads no file and notes no use.
func (s *Store) Stat(ns string, id entry.ActionID) (entry.Header, error) {
	ident, err := actionIdent(ns, id)
	if err != nil {
		return entry.Header{}, err
	}
	if err := s.enter(); err != nil {
		return entry.Header{}, err
	}
	defer s.leave()
	r, _, err := s.record(ident, false)
	return r.header, err
}

// Actions calls yield with each action of a namespace, in the order of their
// IDs, until it answers false.
func (s *Store) Actions(ns string, yield func(entry.ActionID) bool) error {
	first, err := identOf(actionKind, ns, "")
	if err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	lower := metaKey(first)
	upper := bytes.Clone(lower)
	upper[len(upper)-1]++ // after the zero byte that ends the namespace
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	for it.First(); it.Valid(); it.Next() {
		name := it.Key()[len(lower):]
		if len(name) == entry.HashSize && !yield(entry.ActionID(name)) {
			break
		}
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("read the index: %w", err)
	}
	return nil
}

// Delete removes an entry, if it is there.
func (s *Store) Delete(ns string, id entry.ActionID) error {
	ident, err := actionIdent(ns, id)
	if err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.remove(ident, nil); err != nil {
		return fmt.Errorf("delete action %v: %w", id, err)
	}
	return nil
}

// drop removes a damaged entry, if its record still is this one. If that cannot
// be done now, the next one who finds the damage tries again.
func (s *Store) drop(ident string, value []byte) {
	if s.enter() != nil {
		return
	}
	defer s.leave()
	s.damaged.Add(1)
	err := s.remove(ident, value)
	s.options.Log.Warn("a stored entry was damaged and is dropped", "namespace", namespaceOf(ident),
		"name", fmt.Sprintf("%x", ident[len(namespaceOf(ident))+2:]), "error", err)
}

// remove removes what is there, if its record is value or value is nil.
func (s *Store) remove(ident string, value []byte) error {
	return s.write(true, func(t *tx) error {
		if value != nil {
			now, closer, err := s.db.Get(recordKey(ident))
			if errors.Is(err, pebble.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			same := bytes.Equal(now, value)
			closer.Close()
			if !same {
				return nil
			}
		}
		m, ok, err := t.meta(ident)
		if ok {
			t.remove(ident, m)
		}
		return err
	})
}
