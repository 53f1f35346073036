package manifest

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/larder-build/larder/internal/entry"
)

// A Filter is a set of actions, nearly: it has every action that was put into it,
// and one in 4 billion others for each of those. The nil filter is empty.
type Filter struct{ prints []uint32 } // sorted, each once

// FilterMax is the most actions of a filter: 40 MB of RAM, 15 MB as sent.
const FilterMax = 10_000_000

// fingerprint is a part of an action ID, which is a hash, so that any part is as
// good as another.
func fingerprint(id entry.ActionID) uint32 { return binary.BigEndian.Uint32(id[:]) }

// NewFilter returns the filter of the actions that all yields, up to FilterMax.
func NewFilter(all func(yield func(entry.ActionID) bool)) *Filter {
	f := new(Filter)
	all(func(id entry.ActionID) bool {
		f.prints = append(f.prints, fingerprint(id))
		return len(f.prints) < FilterMax
	})
	slices.Sort(f.prints)
	f.prints = slices.Compact(f.prints)
	return f
}

// Has reports whether an action is in the set.
func (f *Filter) Has(id entry.ActionID) bool {
	if f == nil {
		return false
	}
	_, found := slices.BinarySearch(f.prints, fingerprint(id))
	return found
}

// With is the set with more actions.
func (f *Filter) With(more []entry.ActionID) *Filter {
	added := NewFilter(func(yield func(entry.ActionID) bool) {
		for _, id := range more {
			if !yield(id) {
				return
			}
		}
	})
	return f.Or(added)
}

// Or is the union of two sets.
func (f *Filter) Or(g *Filter) *Filter {
	if f.Len() == 0 || g.Len() == 0 {
		if f.Len() == 0 {
			f = g
		}
		return f
	}
	union := make([]uint32, 0, len(f.prints)+len(g.prints))
	a, b := f.prints, g.prints
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			union, a = append(union, a[0]), a[1:]
		case a[0] > b[0]:
			union, b = append(union, b[0]), b[1:]
		default:
			union, a, b = append(union, a[0]), a[1:], b[1:]
		}
	}
	return &Filter{append(append(union, a...), b...)}
}

// Moved is the set of f's actions, each XOR mask.
func (f *Filter) Moved(mask entry.ActionID) *Filter {
	if f == nil {
		return nil
	}
	moved := &Filter{slices.Clone(f.prints)}
	for i := range moved.prints {
		moved.prints[i] ^= fingerprint(mask)
	}
	slices.Sort(moved.prints)
	return moved
}

// Len is the number of fingerprints.
func (f *Filter) Len() int {
	if f == nil {
		return 0
	}
	return len(f.prints)
}

// Append appends the encoded filter: the version, the number of fingerprints,
// then each as its distance from the one before, all as varints. A fingerprint
// is the first four bytes of an action ID, as a big-endian number.
func (f *Filter) Append(b []byte) []byte {
	b = append(b, version)
	b = binary.AppendUvarint(b, uint64(f.Len()))
	if f == nil {
		return b
	}
	last := uint32(0)
	for _, print := range f.prints {
		b = binary.AppendUvarint(b, uint64(print-last))
		last = print
	}
	return b
}

// ParseFilter reads a filter. Its errors wrap ErrFormat.
func ParseFilter(b []byte) (*Filter, error) {
	if len(b) == 0 || b[0] != version {
		return nil, fmt.Errorf("%w: no filter of version %d", ErrFormat, version)
	}
	count, n := binary.Uvarint(b[1:])
	b = b[1+max(n, 0):]
	if n <= 0 || count > FilterMax || count > uint64(len(b)) {
		return nil, fmt.Errorf("%w: filter of %d actions in %d bytes", ErrFormat, count, len(b))
	}
	f := &Filter{make([]uint32, 0, count)}
	last := uint64(0)
	for i := range count {
		delta, n := binary.Uvarint(b)
		if n <= 0 || delta > 1<<32-1-last || delta == 0 && i > 0 {
			return nil, fmt.Errorf("%w: filter is not sorted", ErrFormat)
		}
		last += delta
		f.prints = append(f.prints, uint32(last))
		b = b[n:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after the filter", ErrFormat, len(b))
	}
	return f, nil
}
