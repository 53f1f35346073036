// Package helper is one go command's session: it answers the go command's gets
// and puts from the local store, and afterwards says what it did.
//
// The promise is that of the whole program: nothing that happens to the cache
// breaks a build. A get never answers an error: what cannot be read is a miss.
// A put answers one only if the body is not what the go command said it was, or
// if no directory at all can be written; either would break a build without a
// cache too. A close never answers one.
//
// A Session is used by one cacheprog.Serve, from any number of goroutines.
package helper

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/stats"
	"github.com/larder-build/larder/internal/store"
)

// A Session answers one go command.
type Session struct {
	store *store.Store
	costs stats.Costs
	start time.Time

	mu     sync.Mutex
	counts stats.Counts
	waited time.Duration
	hits   []stats.Key                  // of the actions that hit, to sum up what they cost
	missed map[entry.ActionID]time.Time // when, of the actions that were not put yet
	built  map[stats.Key]time.Duration  // from miss to put
}

var _ interface {
	cacheprog.Getter
	cacheprog.NowGetter
	cacheprog.Putter
} = (*Session)(nil)

// New returns a session on s. It does no I/O.
func New(s *store.Store, costs stats.Costs) *Session {
	return &Session{
		store:  s,
		costs:  costs,
		start:  time.Now(),
		missed: make(map[entry.ActionID]time.Time),
		built:  make(map[stats.Key]time.Duration),
	}
}

// GetNow answers from the local store.
func (s *Session) GetNow(action cacheprog.ActionID) (cacheprog.Entry, error) {
	begin := time.Now()
	id := entry.ActionID(action)
	object, err := s.store.Get(id)
	end := time.Now()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Gets++
	s.waited += end.Sub(begin)
	if err != nil {
		s.missed[id] = end
		s.countMiss(store.MissReason(err))
		return cacheprog.Entry{}, cacheprog.ErrMiss
	}
	s.counts.Hits++
	s.counts.HitBytes += object.Size
	s.hits = append(s.hits, stats.KeyOf(id))
	return cacheprog.Entry{
		OutputID: cacheprog.OutputID(object.OutputID),
		Size:     object.Size,
		Time:     object.Time,
		DiskPath: object.DiskPath,
	}, nil
}

func (s *Session) countMiss(r store.Reason) {
	switch r {
	case store.Absent:
		s.counts.Misses.Absent++
	case store.Damaged:
		s.counts.Misses.Damaged++
	case store.OutputMissing:
		s.counts.Misses.OutputMissing++
	default:
		s.counts.Misses.Unreadable++
	}
}

// Get answers what GetNow could not; the local store always can.
func (s *Session) Get(_ context.Context, action cacheprog.ActionID) (cacheprog.Entry, error) {
	return s.GetNow(action)
}

// Put stores a body. Its error reaches the go command, which in some places
// gives up then (vet and export builds; cmd/go/internal/work/buildid.go).
func (s *Session) Put(_ context.Context, p cacheprog.Put) (diskPath string, err error) {
	begin := time.Now()
	id := entry.ActionID(p.ActionID)
	path, err := s.store.Put(id, entry.OutputID(p.OutputID), p.Size, p.Body)
	end := time.Now()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.waited += end.Sub(begin)
	if err != nil {
		s.counts.PutErrors++
		return "", err
	}
	s.counts.Puts++
	s.counts.PutBytes += p.Size
	s.noteCost(id, begin)
	return path, nil
}

// noteCost takes the time from an action's miss to its put for what it cost to
// build. An action that was put without being asked for came with another one
// (the listing of a package's files, say) and cost nothing by itself.
func (s *Session) noteCost(id entry.ActionID, put time.Time) {
	missed, ok := s.missed[id]
	if !ok {
		if _, again := s.built[stats.KeyOf(id)]; !again {
			s.built[stats.KeyOf(id)] = 0
		}
		return
	}
	delete(s.missed, id)
	cost := put.Sub(missed)
	s.built[stats.KeyOf(id)] = cost
	s.counts.BuildSeconds += cost.Seconds()
}

// Finish ends the session: it lets go of the store, records what the actions
// cost, and returns what the session did. It is called once, when Serve has
// returned. Costs that cannot be recorded are dropped.
func (s *Session) Finish() stats.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	saved, unknown := s.costs.Sum(s.hits)
	s.counts.SavedSeconds, s.counts.CostUnknown = saved.Seconds(), unknown
	s.counts.WaitSeconds = s.waited.Seconds()
	_, fallback := s.store.Fallback()
	if fallback == nil {
		s.costs.Add(s.built)
	}
	s.store.Close()
	record := stats.Session{Start: s.start, Seconds: time.Since(s.start).Seconds(), Counts: s.counts}
	if fallback != nil {
		record.Fallback = reason(fallback)
	}
	return record
}

// reason is the end of an error's chain: what the system said.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
