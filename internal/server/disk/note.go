package disk

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// A note is a small named value of the server's own, such as what it knows of
// its past. Notes are not evicted and not counted: who writes them bounds them.

// noteMax bounds a note: it is held in memory, and is not a body.
const noteMax = 1 << 20

// WriteNotes changes notes, all of them or, after an error, none: a nil value
// deletes. It is on the disk when WriteNotes returns nil.
func (s *Store) WriteNotes(changes map[string][]byte) error {
	for key, value := range changes {
		if len(key) > nameMax || len(value) > noteMax {
			return fmt.Errorf("note %.40q: %d bytes of key, %d of value", key, len(key), len(value))
		}
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.refuse(); err != nil {
		return fmt.Errorf("write notes: %w", err)
	}
	err := s.write(true, func(t *tx) error {
		for key, value := range changes {
			if value == nil {
				t.batch.Delete(noteKey(key), nil)
			} else {
				t.batch.Set(noteKey(key), value, nil)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write notes: %w", s.noteFull(err))
	}
	return nil
}

// Notes calls yield with each note whose key is from or after it and before to,
// in the order of the keys, until it answers false. The value is good until then.
func (s *Store) Notes(from, to string, yield func(key string, value []byte) bool) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: noteKey(from), UpperBound: noteKey(to)})
	if err != nil {
		return fmt.Errorf("read notes: %w", err)
	}
	for it.First(); it.Valid(); it.Next() {
		if !yield(strings.TrimPrefix(string(it.Key()), string(rune(notePrefix))), it.Value()) {
			break
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return fmt.Errorf("read notes: %w", err)
	}
	return nil
}

func noteKey(key string) []byte { return append([]byte{notePrefix}, key...) }
