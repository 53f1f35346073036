// Package helper is one go command's session: it answers the go command's gets
// and puts from the local store, asks the agent for what is not there, and
// afterwards says what it did.
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
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/stats"
	"github.com/larder-build/larder/internal/store"
)

// A Session answers one go command.
type Session struct {
	store *store.Store
	costs stats.Costs
	link  *Link        // nil: there is no remote
	job   *session.Job // what is to be uploaded; nil: nothing ever
	note  func(entry.ActionID, Access)
	start time.Time

	mu     sync.Mutex
	counts stats.Counts
	waited time.Duration
	hits   []entry.ActionID             // that were in the store, to sum up what is known of them
	came   []entry.ActionID             // that came while their get waited
	missed map[entry.ActionID]time.Time // when, of the actions that were not put yet
	built  map[stats.Key]made           // what was put
	noKind []stats.Key                  // of the hits, once the session has ended, those of which nobody knows what they are
}

// made is what is known of an action that was put.
type made struct {
	entry stats.Entry
	asked bool // it was missed before
}

var _ interface {
	cacheprog.Getter
	cacheprog.NowGetter
	cacheprog.Putter
} = (*Session)(nil)

// Options are a session's parts.
type Options struct {
	Store *store.Store
	Costs stats.Costs
	Link  *Link                        // nil: there is no remote
	Job   *session.Job                 // is filled in for the agent to upload; nil: nothing is
	Note  func(entry.ActionID, Access) // is told each, one at a time; may be nil
}

// An Access is what became of one request.
type Access string

// The kinds of accesses.
const (
	Hit    Access = "hit"
	Missed Access = "missed"
	Put    Access = "put"
)

// New returns a session. It does no I/O.
func New(o Options) *Session {
	return &Session{
		store:  o.Store,
		costs:  o.Costs,
		link:   o.Link,
		job:    o.Job,
		note:   o.Note,
		start:  time.Now(),
		missed: make(map[entry.ActionID]time.Time),
		built:  make(map[stats.Key]made),
	}
}

// GetNow answers from the local store.
func (s *Session) GetNow(action cacheprog.ActionID) (cacheprog.Entry, error) {
	begin := time.Now()
	object, err := s.store.Get(entry.ActionID(action))
	if err != nil && s.link != nil {
		return cacheprog.Entry{}, cacheprog.ErrNotNow
	}
	return s.got(entry.ActionID(action), object, err, begin, near)
}

// Get asks the agent for what GetNow did not find. The local store has the last
// word: what another process has put meanwhile is there too.
func (s *Session) Get(ctx context.Context, action cacheprog.ActionID) (cacheprog.Entry, error) {
	begin := time.Now()
	id := entry.ActionID(action)
	from := near
	if s.link != nil && s.link.Get(ctx, id) {
		from = far
	}
	object, err := s.store.Get(id)
	return s.got(id, object, err, begin, from)
}

// A source is where a hit is from.
type source int

const (
	near source = iota // it was in the store
	far                // it came from the remote while the get waited
)

// got counts a get and answers it.
func (s *Session) got(id entry.ActionID, object entry.Object, err error, begin time.Time, from source) (cacheprog.Entry, error) {
	end := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Gets++
	s.waited += end.Sub(begin)
	if err != nil {
		s.missed[id] = end
		s.countMiss(store.MissReason(err))
		s.noted(id, Missed)
		return cacheprog.Entry{}, cacheprog.ErrMiss
	}
	s.noted(id, Hit)
	s.counts.Hits++
	s.counts.HitBytes += object.Size
	if from == far {
		s.counts.HitsRemote++
		s.came = append(s.came, id)
	} else {
		s.hits = append(s.hits, id)
	}
	if s.job != nil {
		s.job.Used = append(s.job.Used, id)
	}
	return cacheprog.Entry{
		OutputID: cacheprog.OutputID(object.OutputID),
		Size:     object.Size,
		Time:     object.Time,
		DiskPath: object.DiskPath,
	}, nil
}

func (s *Session) noted(id entry.ActionID, a Access) {
	if s.note != nil {
		s.note(id, a)
	}
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

// Put stores a body. Its error reaches the go command, which in some places
// gives up then (vet and export builds; cmd/go/internal/work/buildid.go).
func (s *Session) Put(_ context.Context, p cacheprog.Put) (diskPath string, err error) {
	begin := time.Now()
	id := entry.ActionID(p.ActionID)
	body := content.Reader{R: p.Body}
	path, err := s.store.Put(id, entry.OutputID(p.OutputID), p.Size, &body)
	end := time.Now()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.waited += end.Sub(begin)
	if err != nil {
		s.counts.PutErrors++
		return "", err
	}
	s.noted(id, Put)
	s.counts.Puts++
	s.counts.PutBytes += p.Size
	cost := s.notePut(id, body.Kind(), begin)
	if s.job != nil {
		s.job.Used = append(s.job.Used, id)
		s.job.Puts = append(s.job.Puts, session.Put{Action: id, Cost: cost, Output: entry.OutputID(p.OutputID)})
	}
	return path, nil
}

// Finish ends the session: it lets go of the store, records what the actions
// cost, and returns what the session did. It is called once, when Serve has
// returned. Costs that cannot be recorded are dropped.
func (s *Session) Finish() stats.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, fallback := s.store.Fallback()
	breaker := s.unlink(fallback != nil) // which brings costs in, too
	s.sum()
	s.counts.WaitSeconds = s.waited.Seconds()
	if facts := s.facts(); fallback == nil && len(facts)+len(s.noKind) > 0 {
		s.costs.Add(facts) // if there are none yet, it makes the table for Learn
	}
	s.store.Close()
	record := stats.Session{Start: s.start, Seconds: time.Since(s.start).Seconds(), Counts: s.counts, Breaker: breaker}
	if fallback != nil {
		record.Fallback = reason(fallback)
	}
	return record
}

// Asked reports whether the session has asked the agent for anything.
func (s *Session) Asked() bool { return s.link != nil && s.link.asked() }

// unlink leaves the session's puts to the agent, and takes its numbers over.
func (s *Session) unlink(inFallback bool) (breaker string) {
	if s.link == nil {
		return ""
	}
	if report, ok := s.link.results(keysOf(s.hits)); ok {
		s.counts.FetchedBytes, s.counts.RoundTrips = report.FetchedBytes, report.RoundTrips
		s.counts.Fetched, s.counts.RemoteErrors = report.Fetched+report.Prefetched, report.Errors
		s.counts.HitsPrefetched = report.HitsAhead
		breaker = report.Breaker
	}
	job := s.job
	if job != nil {
		job.Time = s.start
		job.Unput = s.unput()
		if inFallback {
			job.Puts = nil // they are not kept
		}
	}
	if err := s.link.end(job, s.counts.Puts > 0); err != nil {
		s.link.Say(err.Error() + "; this build's outputs are not uploaded")
	}
	return breaker
}

// unput are the actions that were missed and not put, the last ones to be missed
// first: the go command links last.
func (s *Session) unput() (list []session.Unput) {
	now := time.Now()
	for id, missed := range s.missed {
		list = append(list, session.Unput{Action: id.String(), Cost: now.Sub(missed)})
	}
	slices.SortFunc(list, func(a, b session.Unput) int { return cmp.Compare(a.Cost, b.Cost) })
	return list[:min(len(list), session.UnputMax)]
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
