package disk

import (
	"bytes"
	"fmt"
	"io"

	"github.com/larder-build/larder/internal/entry"
)

// A blob is a small named value, such as a manifest. It is stored, used and
// dropped like an entry.

// GetBlob is the value of a blob, and notes that it was used. The error is
// ErrNotFound if there is none, or none that is undamaged.
func (s *Store) GetBlob(ns, key string) ([]byte, error) {
	ident, err := identOf(blobKind, ns, key)
	if err != nil {
		return nil, err
	}
	i, err := s.get(ident)
	if err != nil {
		return nil, err
	}
	defer i.Close()
	if i.file == nil {
		return i.inline, nil
	}
	value := make([]byte, i.Header.Stored)
	if _, err := io.ReadFull(i.file, value); err != nil {
		return nil, fmt.Errorf("read blob %q: %w", key, err)
	}
	if i.check(entry.Checksum(value)) != nil {
		return nil, ErrNotFound
	}
	return value, nil
}

// PutBlob puts a blob in the place of what is there. It is on the disk when
// PutBlob returns nil.
func (s *Store) PutBlob(ns, key string, value []byte) error {
	ident, err := identOf(blobKind, ns, key)
	if err != nil {
		return err
	}
	b := s.NewBatch(ns)
	defer b.Close()
	r := &record{ident: ident, head: blobHead(value), size: int64(len(value))}
	if err := b.add(r, entry.Checksum(value), bytes.NewReader(value)); err != nil {
		return fmt.Errorf("put blob %q: %w", key, err)
	}
	return b.Commit()
}
