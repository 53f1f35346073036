package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/larder-build/larder/internal/stats"
)

// A Session is a session that was reported.
type Session struct {
	stats.Report
	Namespace string    `json:"namespace"` // the one that its token is for
	Token     string    `json:"token"`     // that token's name
	Received  time.Time `json:"received"`
}

const (
	sessionPrefix = "session/"
	inverseMax    = 1<<63 - 1
)

// Key names a session among all: it is the time of its end, inverted so that the
// last is the first, and its ID.
func (s *Session) Key() string { return inverted(s.End()) + s.ID }

// KeyLen is the length of a session's key.
const KeyLen = 16 + 2*stats.IDBytes

// End is when the session was over.
func (s *Session) End() time.Time {
	return s.Start.Add(time.Duration(s.Seconds * float64(time.Second)))
}

func inverted(t time.Time) string { return fmt.Sprintf("%016x", inverseMax-max(0, t.UnixNano())) }

// sums is what a session adds to a point.
func (s *Session) sums() Point {
	sums := SessionSums{
		Count: 1, Gets: s.Gets, Hits: s.Hits, HitsPrefetched: s.HitsPrefetched, HitsRemote: s.HitsRemote,
		FetchedBytes: s.FetchedBytes, RoundTrips: s.RoundTrips, RemoteErrors: s.RemoteErrors,
		SavedSeconds: s.SavedSeconds, BuildSeconds: s.BuildSeconds, WaitSeconds: s.WaitSeconds, CostUnknown: s.CostUnknown,
	}
	if s.Breaker != "" {
		sums.Broken = 1
	}
	return Point{Sessions: sums}
}

// ErrTime is the error of a session that ended too long ago, or has yet to begin:
// its machine's clock is wrong, perhaps.
var ErrTime = errors.New("its time is too far away")

const (
	// lateMax is how late a report may come: agents keep them for days.
	lateMax = 10 * 24 * time.Hour
	// earlyMax is how far a machine's clock may be ahead. What is ahead at all is
	// taken for now.
	earlyMax = time.Hour
)

// AddSessions adds sessions that have just been reported. They are durable when it
// returns nil. Those that are there already are not added again: added says which
// were. refused are by their index those that were not taken, with ErrTime.
func (h *History) AddSessions(ns, token string, reports []stats.Report) (added []Session, refused map[int]error, err error) {
	h.change.Lock()
	defer h.change.Unlock()
	now := h.now()
	h.mu.Lock()
	name := h.name(ns)
	h.mu.Unlock()
	changes := make(map[string][]byte)
	points := make(map[string]Point)
	refused = make(map[int]error)
	for i, r := range reports {
		s := Session{Report: r, Namespace: ns, Token: token, Received: now}
		if ahead := s.End().Sub(now); ahead > earlyMax || ahead < -lateMax {
			refused[i] = ErrTime
			continue
		} else if ahead > 0 {
			s.Start = s.Start.Add(-ahead)
		}
		key := sessionPrefix + s.Key()
		known := changes[key] != nil
		err := h.notes.Notes(key, key+"\x00", func(string, []byte) bool { known = true; return false })
		if err != nil {
			return nil, nil, fmt.Errorf("read the history: %w", err)
		}
		if known {
			continue
		}
		changes[key] = encode(s)
		addTo(points, s.End(), name, s.sums())
		added = append(added, s)
	}
	if len(added) == 0 {
		return nil, refused, nil
	}
	if err := h.sum(points, changes); err != nil {
		return nil, nil, fmt.Errorf("read the history: %w", err)
	}
	if err := h.notes.WriteNotes(changes); err != nil {
		return nil, nil, fmt.Errorf("write sessions: %w", err)
	}
	return added, refused, nil
}

// Sessions calls yield with the sessions that a view sees, the last first, after
// the one of a key ("" is from the last on), until it answers false.
func (h *History) Sessions(v View, after string, yield func(*Session) bool) error {
	from := sessionPrefix
	if after != "" {
		from += after + "\x00"
	}
	err := h.notes.Notes(from, afterSessions(), func(_ string, value []byte) bool {
		s := new(Session)
		if json.Unmarshal(value, s) != nil || !v.sees(s.Namespace) {
			return true
		}
		return yield(s)
	})
	if err != nil {
		return fmt.Errorf("read sessions: %w", err)
	}
	return nil
}

func afterSessions() string { return after(sessionPrefix) }

// Session returns the session of a key; nil if there is none that the view sees.
func (h *History) Session(v View, key string) (found *Session, err error) {
	full := sessionPrefix + key
	err = h.notes.Notes(full, full+"\x00", func(_ string, value []byte) bool {
		s := new(Session)
		if json.Unmarshal(value, s) == nil && v.sees(s.Namespace) {
			found = s
		}
		return false
	})
	if err != nil {
		return nil, fmt.Errorf("read a session: %w", err)
	}
	return found, nil
}
