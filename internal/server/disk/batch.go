package disk

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/larder-build/larder/internal/entry"
)

const (
	// chunkMax bounds the bodies in one change of the index: it is a small part
	// of the memory that Pebble collects changes in, and others get their turn
	// after a few milliseconds.
	chunkMax = 2 << 20
	// openFilesMax is how many files a batch leaves unsynced until Commit, which
	// does them together.
	openFilesMax = 32
	// syncers is how many files a batch has synced at the same time: enough for a
	// journal to take them in one go.
	syncers = 4
)

// A Batch puts entries of one namespace. When Commit returns nil, all of them
// are on the disk. Of several entries of one action, the last one counts.
type Batch struct {
	s       *Store
	ns      string
	records []*record
	index   map[string]int // of an ident in records
	files   []bodyFile     // written, not synced
	dirs    map[string]struct{}
	inline  int64 // bytes
	done    bool
	kept    bool // files are, or may be, referred to
}

type bodyFile struct {
	vfs.File
	number uint64
}

// NewBatch returns an empty batch. Close it when done with it.
func (s *Store) NewBatch(ns string) *Batch {
	return &Batch{s: s, ns: ns, index: make(map[string]int), dirs: make(map[string]struct{})}
}

// Size is how many bytes the batch holds in memory. There is no limit but what
// the caller sets by calling Commit.
func (b *Batch) Size() int64 { return b.inline }

// Add reads exactly h.Stored bytes from body. An error from body, also one that
// comes with the last of these bytes, is returned as it is, or wrapped; if the
// bytes are not what h.Sum says, the error wraps entry.ErrFormat. In each case
// nothing is added, and the batch is as it was.
func (b *Batch) Add(h *entry.Header, body io.Reader) error {
	ident, err := actionIdent(b.ns, h.ActionID)
	if err != nil {
		return err
	}
	head, err := h.Append(nil)
	if err != nil {
		return err
	}
	return b.add(&record{ident: ident, head: head, size: h.Stored}, h.Sum, body)
}

func (b *Batch) add(r *record, sum uint32, body io.Reader) error {
	if b.done {
		return errors.New("batch is committed or closed")
	}
	if err := b.s.enter(); err != nil {
		return err
	}
	defer b.s.leave()
	if err := b.s.refuse(); err != nil {
		return err
	}
	if r.size <= inlineMax {
		r.inline = make([]byte, r.size)
		got, err := readInto(r.inline, body)
		if err != nil {
			return err
		}
		if got != sum {
			return mismatch(sum, got)
		}
	} else if err := b.addFile(r, sum, body); err != nil {
		return b.s.noteFull(err)
	}
	b.inline += int64(len(r.inline))
	if i, ok := b.index[r.ident]; ok {
		old := b.records[i]
		b.inline -= int64(len(old.inline))
		b.drop(old.number)
		b.records[i] = r
		return nil
	}
	b.index[r.ident] = len(b.records)
	b.records = append(b.records, r)
	return nil
}

func (b *Batch) addFile(r *record, sum uint32, body io.Reader) error {
	if len(b.files) >= openFilesMax {
		if err := b.sync(); err != nil {
			return err
		}
	}
	number, err := b.s.nextNumber()
	if err != nil {
		return err
	}
	f, dir, err := b.s.createBody(number)
	if err != nil {
		return err
	}
	got, err := copyExactly(f, body, r.size)
	if err == nil && got != sum {
		err = mismatch(sum, got)
	}
	if err != nil {
		f.Close()
		b.s.removeBody(number)
		return err
	}
	r.number = number
	b.files = append(b.files, bodyFile{f, number})
	b.dirs[dir] = struct{}{}
	return nil
}

// drop removes a file that was added and is not wanted any more.
func (b *Batch) drop(number uint64) {
	if number == 0 {
		return
	}
	for i, f := range b.files {
		if f.number == number {
			f.Close()
			b.files = append(b.files[:i], b.files[i+1:]...)
			break
		}
	}
	b.s.removeBody(number)
}

// sync brings the content of the files to the disk, and closes them.
func (b *Batch) sync() error {
	files := b.files
	b.files = nil
	errs := make([]error, len(files))
	var turn = make(chan struct{}, syncers)
	var wg sync.WaitGroup
	for i, f := range files {
		wg.Add(1)
		turn <- struct{}{}
		go func() {
			defer wg.Done()
			errs[i] = errors.Join(f.Sync(), f.Close())
			<-turn
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Commit puts what was added. After an error some of it may be there, or come
// to be; none of it is promised.
func (b *Batch) Commit() error {
	if b.done {
		return errors.New("batch is committed or closed")
	}
	if err := b.s.enter(); err != nil {
		return err
	}
	defer b.s.leave()
	if err := b.commit(); err != nil {
		return fmt.Errorf("put %d entries: %w", len(b.records), b.s.noteFull(err))
	}
	b.s.changed()
	return nil
}

func (b *Batch) commit() error {
	if err := b.s.refuse(); err != nil {
		return err
	}
	if err := b.sync(); err != nil {
		return err
	}
	for dir := range b.dirs {
		if err := syncDir(b.s.fs, dir); err != nil {
			return err
		}
	}
	b.done = true
	if len(b.records) == 0 {
		return nil
	}
	b.kept = true // from here on records may refer to them, error or not
	var gone []uint64
	for rest := b.records; ; {
		n, size := 0, int64(0)
		for n < len(rest) && (n == 0 || size < chunkMax) {
			size += rest[n].bytes()
			n++
		}
		chunk := rest[:n]
		rest = rest[n:]
		last := len(rest) == 0
		err := b.s.write(last, func(t *tx) error {
			for _, r := range chunk {
				if err := t.put(r); err != nil {
					return err
				}
			}
			if gone = append(gone, t.gone...); last {
				t.gone = gone
			} else {
				t.gone = nil // until it is on the disk that they are not in use
			}
			return nil
		})
		if err != nil || last {
			return err
		}
	}
}

// Close removes what was not committed.
func (b *Batch) Close() {
	b.done = true
	for _, f := range b.files {
		f.Close()
	}
	b.files = nil
	if !b.kept {
		for _, r := range b.records {
			if r.number != 0 {
				b.s.removeBody(r.number)
			}
		}
	}
	b.records, b.index = nil, nil
}

// refuse answers why nothing can be put now.
func (s *Store) refuse() error {
	if err := s.guard.failure(); err != nil {
		return err
	}
	if !s.guard.takes() {
		return s.noteFull(ErrFull)
	}
	if s.guard.scarce() && !s.wantRoom.Swap(true) {
		s.wakeKeeper()
	}
	return nil
}

// noteFull has room made if that is what err asks for.
func (s *Store) noteFull(err error) error {
	if err = full(err); errors.Is(err, ErrFull) {
		s.wantRoom.Store(true)
		s.wakeKeeper()
	}
	return err
}

// changed has the keeper look at what a commit brought, if it may be too much.
func (s *Store) changed() {
	if s.options.MaxBytes > 0 && s.usage().Bytes > s.options.MaxBytes {
		s.wakeKeeper()
	}
}

func mismatch(want, got uint32) error {
	return fmt.Errorf("%w: body has CRC-32C %08x, want %08x", entry.ErrFormat, got, want)
}
