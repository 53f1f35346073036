package disk

import (
	"maps"
	"slices"
	"time"
)

// Stats are what a store says of itself.
type Stats struct {
	Usage                       // of all namespaces
	Namespaces map[string]Usage // those that have anything
	Limit      int64            // MaxBytes
	Full       bool             // the disk is full: puts fail
	Waiting    int64            // changes of the index that are not on the disk yet

	// Since the store was opened:
	EvictedEntries int64 // entries and blobs dropped for want of room or for their age
	EvictedBytes   int64
	EvictedAge     time.Duration // for how long the last of them had not been used
	EvictedAges    Ages          // for how long each of them had not been used
	EvictedAgeSum  float64       // and that summed up, in seconds
	Damaged        int64         // entries found damaged, and dropped
}

// Stats is quick.
func (s *Store) Stats() Stats {
	s.state.Lock()
	defer s.state.Unlock()
	return Stats{
		Usage:          s.state.total,
		Namespaces:     maps.Clone(s.state.ns),
		Limit:          s.options.MaxBytes,
		Full:           !s.guard.takes(),
		Waiting:        int64(s.waiting.Load()),
		EvictedEntries: s.state.evict.entries,
		EvictedBytes:   s.state.evict.bytes,
		EvictedAge:     s.state.evict.age,
		EvictedAges:    s.state.evict.ages,
		EvictedAgeSum:  s.state.evict.ageSum,
		Damaged:        s.damaged.Load(),
	}
}

// Namespaces are those that have anything, in order.
func (s *Store) Namespaces() []string {
	s.state.Lock()
	defer s.state.Unlock()
	return slices.Sorted(maps.Keys(s.state.ns))
}

// Err is not nil if the store has failed: it wraps ErrFailed.
func (s *Store) Err() error { return s.guard.failure() }

func (s *Store) usage() Usage {
	s.state.Lock()
	defer s.state.Unlock()
	return s.state.total
}
