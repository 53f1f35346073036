package store

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// A record is what trimming remembers of a file: 24 bytes, since a store may have
// millions of files and the memory is the machine's that builds. It holds prefixes of
// IDs. Two IDs of one prefix, which nobody meets by chance, live and die together,
// and what is removed has its time looked at once more, so that the worst that can
// come of it is that something is kept for longer.
type record struct {
	group uint64 // prefix of the output's ID, which an action names
	own   uint64 // prefix of the file's own ID
	used  uint32 // when, Unix seconds
	bits  uint32 // blocks on the disk, and these:
}

const (
	recordOutput = 1 << 31 // else it is an action
	recordDoomed = 1 << 30 // it is to be removed
	recordBlocks = recordDoomed - 1
)

func prefix(id [entry.HashSize]byte) uint64 { return binary.BigEndian.Uint64(id[:]) }

// seconds are those of a record. What lies beyond them is as early, or late, as can be.
func seconds(t time.Time) uint32 { return uint32(min(max(t.Unix(), 0), math.MaxUint32)) }

func (r record) is(bit uint32) bool { return r.bits&bit != 0 }

func (r record) diskBytes() int64 { return int64(r.bits&recordBlocks) * diskBlock }

// A ledger holds records in 256 lists, by the first byte of a prefix. It grows by
// pieces, which are never copied, and which two ledgers may hand on to each other.
type ledger struct {
	lists [256]ledgerList
	spare *[]*ledgerPiece
}

type ledgerList struct {
	pieces []*ledgerPiece
	n      int
}

// A ledgerPiece is of 3 KiB: 256 lists waste 400 KB with their last pieces.
type ledgerPiece [128]record

func newLedgers() (a, b *ledger) {
	spare := new([]*ledgerPiece)
	return &ledger{spare: spare}, &ledger{spare: spare}
}

func (l *ledger) at(list, i int) *record {
	return &l.lists[list].pieces[i/len(ledgerPiece{})][i%len(ledgerPiece{})]
}

func (l *ledger) add(list int, r record) {
	to := &l.lists[list]
	if to.n == len(to.pieces)*len(ledgerPiece{}) {
		var piece *ledgerPiece
		if n := len(*l.spare); n > 0 {
			piece = (*l.spare)[n-1]
			*l.spare = (*l.spare)[:n-1]
		} else {
			piece = new(ledgerPiece)
		}
		to.pieces = append(to.pieces, piece)
	}
	to.n++
	*l.at(list, to.n-1) = r
}

// cut leaves the first n records of a list, and gives the pieces of the others away.
func (l *ledger) cut(list, n int) {
	of := &l.lists[list]
	kept := (n + len(ledgerPiece{}) - 1) / len(ledgerPiece{})
	*l.spare = append(*l.spare, of.pieces[kept:]...)
	of.pieces, of.n = of.pieces[:kept], n
}

// sort sorts a list by what key says; scratch is used again.
func (l *ledger) sort(list int, scratch []record, key func(record) uint64) []record {
	of := &l.lists[list]
	scratch = scratch[:0]
	for _, p := range of.pieces {
		scratch = append(scratch, p[:min(len(p), of.n-len(scratch))]...)
	}
	slices.SortFunc(scratch, func(a, b record) int { return cmp.Compare(key(a), key(b)) })
	for i, p := range of.pieces {
		copy(p[:], scratch[i*len(p):])
	}
	return scratch
}

// find calls yield for each record of a sorted list whose own prefix is this one.
func (l *ledger) find(list int, own uint64) func(yield func(record) bool) {
	return func(yield func(record) bool) {
		low, high := 0, l.lists[list].n
		for low < high {
			if middle := int(uint(low+high) / 2); l.at(list, middle).own < own {
				low = middle + 1
			} else {
				high = middle
			}
		}
		for ; low < l.lists[list].n && l.at(list, low).own == own; low++ {
			if !yield(*l.at(list, low)) {
				return
			}
		}
	}
}
