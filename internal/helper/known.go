package helper

import (
	"cmp"
	"iter"
	"os"
	"slices"
	"time"

	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/stats"
)

// notePut notes what an action is that has just been put, and returns what it cost,
// as it is to be uploaded.
//
// The time from an action's miss to its put is what it cost to build. An action that
// was put without being asked for was left over from the work for another one (the
// list of a package's sources, what the compiler printed), and cost nothing by
// itself.
func (s *Session) notePut(id entry.ActionID, kind content.Kind, put time.Time) time.Duration {
	key := stats.KeyOf(id)
	m, again := s.built[key]
	missed, asked := s.missed[id]
	switch {
	case kind != content.Unknown:
		m.entry.Kind = kind
	case !again:
		m.entry.Kind = content.OfEmpty(asked)
	}
	m.entry.Action = id
	if asked {
		delete(s.missed, id)
		m.asked = true
		m.entry.Cost = put.Sub(missed)
		s.counts.BuildSeconds += m.entry.Cost.Seconds()
		s.counts.Kinds[m.entry.Kind].Misses++
	}
	s.built[key] = m
	return max(m.entry.Cost, entry.CostNothing)
}

// hitIDs are the session's hits, each as often as it was asked for.
func (s *Session) hitIDs() iter.Seq[entry.ActionID] {
	return func(yield func(entry.ActionID) bool) {
		for _, ids := range [...][]entry.ActionID{s.hits, s.came} {
			for _, id := range ids {
				if !yield(id) {
					return
				}
			}
		}
	}
}

// sum sums up what the session's hits were and had cost. What it has put itself,
// before a hit or after one because that was not enough (the inputs of a test that
// has run again), nobody was saved.
func (s *Session) sum() {
	keys := make([]stats.Key, 0, len(s.hits)+len(s.came))
	for id := range s.hitIDs() {
		key := stats.KeyOf(id)
		m, ok := s.built[key]
		if !ok {
			keys = append(keys, key)
			continue
		}
		s.counts.Kinds[m.entry.Kind].Hits++
		if !m.asked && !m.entry.Kind.Along() && m.entry.Kind != content.TestInputs {
			// It was there and was made again. How long that took is not known,
			// and what is known of the first time stands. (Of a test that has run
			// again, the cost is its new result's.)
			m.entry.Cost = stats.NoCost
			s.built[key] = m
		}
	}
	sum := s.costs.Sum(keys)
	s.counts.SavedSeconds, s.counts.CostUnknown = sum.Cost.Seconds(), sum.Unknown
	for kind, n := range sum.Kinds {
		s.counts.Kinds[kind].Hits += n
	}
	s.counts.Kinds.Rest(s.counts.Hits, s.counts.Misses.Total())
	s.noKind = sum.NoKind
}

// facts are what the session has found out about what it put.
func (s *Session) facts() map[stats.Key]stats.Fact {
	facts := make(map[stats.Key]stats.Fact, len(s.built))
	for key, m := range s.built {
		facts[key] = stats.Fact{Cost: m.entry.Cost, Kind: m.entry.Kind}
	}
	return facts
}

// Built is what the session has compiled and tested, the dearest first. It may be
// called when the session has ended.
func (s *Session) Built() (list []stats.Entry, more int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.built {
		if m.entry.Kind == content.Package && m.asked || m.entry.Kind == content.TestResult {
			list = append(list, m.entry)
		}
	}
	slices.SortFunc(list, func(a, b stats.Entry) int { return cmp.Compare(b.Cost, a.Cost) })
	kept := min(len(list), stats.BuiltMax)
	return list[:kept], len(list) - kept
}

// learnMax bounds how many entries a session looks at that it does not know.
const learnMax = 10_000

// Learn finds out what those of the hits are of which that was not known, as they
// were built without Larder, for later sessions. What they cost stays unknown, unless
// their kind says that it was nothing. It reads the entries, which takes a while, so
// it is called when the go command has gone, after Finish.
func (s *Session) Learn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.noKind) == 0 {
		return
	}
	wanted := make(map[stats.Key]bool, len(s.noKind))
	for _, key := range s.noKind {
		wanted[key] = true
	}
	printed := s.printed()
	facts := make(map[stats.Key]stats.Fact)
	for id := range s.hitIDs() {
		key := stats.KeyOf(id)
		if !wanted[key] || len(facts) == learnMax {
			continue
		}
		delete(wanted, key)
		kind, ok := s.look(id)
		switch {
		case !ok:
			continue
		case printed.by[id]:
			kind = content.Message
		case kind != content.Unknown:
		case printed.of[id]:
			kind = content.Vet // it found nothing to pass on
		default:
			kind = content.Other
		}
		fact := stats.Fact{Cost: stats.NoCost, Kind: kind}
		if kind.Along() {
			fact.Cost = 0
		}
		facts[key] = fact
	}
	s.costs.AddLate(facts)
}

// printed are the hits that are what a tool has printed, and those that it was
// printed for: the go command asks for the one after it has found the other
// (showStdout in cmd/go/internal/work/buildid.go; vet in work/exec.go).
type printed struct{ by, of map[entry.ActionID]bool }

func (s *Session) printed() printed {
	all := make(map[entry.ActionID]bool, len(s.hits)+len(s.came))
	for id := range s.hitIDs() {
		all[id] = true
	}
	p := printed{by: make(map[entry.ActionID]bool), of: make(map[entry.ActionID]bool)}
	for id := range all {
		for _, what := range [...]string{"stdout", "link-stdout"} {
			if out := content.Subkey(id, what); all[out] {
				p.by[out], p.of[id] = true, true
			}
		}
	}
	return p
}

// look is the kind that an entry's body shows, Unknown if it is empty. Not ok is one
// that has gone meanwhile.
func (s *Session) look(id entry.ActionID) (kind content.Kind, ok bool) {
	object, err := s.store.Peek(id)
	if err != nil || object.Size == 0 {
		return content.Unknown, err == nil
	}
	f, err := os.Open(object.DiskPath)
	if err != nil {
		return content.Unknown, false
	}
	defer f.Close()
	return content.OfFile(f, object.Size)
}

func keysOf(ids []entry.ActionID) []stats.Key {
	keys := make([]stats.Key, len(ids))
	for i, id := range ids {
		keys[i] = stats.KeyOf(id)
	}
	return keys
}
