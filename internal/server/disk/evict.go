package disk

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// evictBatch is how many entries go in one change of the index: few enough to
	// let puts in between after some milliseconds, and enough for its fsync not to
	// matter.
	evictBatch = 500
	// evictTo is the part of MaxBytes that is left by an eviction, so that one
	// does not follow each put.
	evictTo = 0.95
	// usesMax bounds the uses that wait to be noted. Those beyond it are lost,
	// which does no more than to make an entry look older than it is.
	usesMax = 1 << 16
	// usesWake is how many of them do not wait for keepEvery.
	usesWake = 1 << 13
	// useEvery is how old the last use noted is when another one is: a popular
	// entry is written once an hour, and no entry is dropped more than that early.
	useEvery  = time.Hour
	keepEvery = 10 * time.Second
	// ageEvery is how often MaxAge is enforced.
	ageEvery = 10 * time.Minute
	// fullEvery is how often a full disk is looked at.
	fullEvery = 250 * time.Millisecond
	// Room is made on it, while puts ask for that, once what was dropped the last
	// time has become free; or, where it does not, after a second, then two, up to
	// roomMax: Pebble takes its time, and where somebody else fills the disk,
	// dropping all would not help.
	roomMin = time.Second
	roomMax = time.Minute
)

// evictions count what was dropped for want of room or for its age.
type evictions struct {
	entries int64
	bytes   int64
	age     time.Duration // for how long the last one was unused
	ages    Ages
	ageSum  float64 // seconds
}

// AgeBounds are the bounds of Ages: the n-th age is up to the n-th bound, the last
// one more than the last bound.
func AgeBounds() [len(Ages{}) - 1]time.Duration {
	const day = 24 * time.Hour
	return [...]time.Duration{time.Hour, 6 * time.Hour, day, 3 * day, 7 * day, 14 * day, 30 * day}
}

// Ages count entries by how long they had not been used.
type Ages [8]int64

func (a *Ages) note(age time.Duration) {
	for i, bound := range AgeBounds() {
		if age <= bound {
			a[i]++
			return
		}
	}
	a[len(a)-1]++
}

// uses are the entries that were used since the last renewal.
type uses struct {
	sync.Mutex
	idents map[string]struct{}
}

func (u *uses) note(s *Store, ident string) {
	u.Lock()
	if u.idents == nil {
		u.idents = make(map[string]struct{})
	}
	if len(u.idents) < usesMax {
		u.idents[ident] = struct{}{}
	}
	n := len(u.idents)
	u.Unlock()
	if n == usesWake {
		s.wakeKeeper()
	}
}

func (u *uses) take() map[string]struct{} {
	u.Lock()
	defer u.Unlock()
	m := u.idents
	u.idents = nil
	return m
}

// keep does what is to be done from time to time, until ctx ends.
func (s *Store) keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	fullTick := time.NewTicker(fullEvery)
	defer fullTick.Stop()
	var aged time.Time
	var room roomMaker
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
		case <-fullTick.C:
			if !s.wantRoom.Load() && !s.guard.full() {
				continue
			}
		}
		if s.guard.failure() != nil {
			continue
		}
		if !s.guard.full() {
			s.log("note uses", s.renewUses())
			s.log("evict", s.evictOver(ctx))
			if now := time.Now(); now.Sub(aged) >= ageEvery {
				aged = now
				s.log("evict what is old", s.evictOld(ctx))
			}
		}
		if s.wantRoom.Load() && room.due(s) {
			s.wantRoom.Store(false)
			s.log("make room", room.make(ctx, s))
		}
		s.guard.refill()
	}
}

// A roomMaker makes room on a full disk.
type roomMaker struct {
	last  time.Time
	pause time.Duration
	want  int64 // what of room and puts there is when half of the last eviction has had its effect
}

func (m *roomMaker) due(s *Store) bool {
	if s.guard.free()+s.putBytes.Load() >= m.want {
		m.pause = roomMin
		return true
	}
	return time.Since(m.last) >= m.pause
}

// make drops the oldest twentieth, or as much as there should be room, whatever
// MaxBytes says.
func (m *roomMaker) make(ctx context.Context, s *Store) error {
	if err := s.removeAside(); err != nil {
		return err
	}
	m.last, m.pause = time.Now(), min(max(2*m.pause, roomMin), roomMax)
	free := s.guard.free()
	m.want = free + s.putBytes.Load()
	before := s.usage().Bytes
	if err := s.evict(ctx, before-max(before/20, s.guard.plenty()-free), 0); err != nil {
		return err
	}
	m.want += (before - s.usage().Bytes) / 2
	return s.flush()
}

func (s *Store) log(what string, err error) {
	if err != nil {
		s.options.Log.Warn("store: "+what, "dir", s.options.Dir, "error", err)
	}
}

// renewUses notes the uses since it was last called. They need not be durable:
// what depends on them is the order of eviction.
func (s *Store) renewUses() error {
	every := useEvery
	if age := s.options.MaxAge; age > 0 {
		every = min(every, age/8)
	}
	minutes := uint32(max(1, every/time.Minute))
	var chunk []string
	flush := func() error {
		idents := chunk
		chunk = nil
		if len(idents) == 0 {
			return nil
		}
		return s.write(false, func(t *tx) error {
			for _, ident := range idents {
				if err := t.renew(ident, minutes); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for ident := range s.uses.take() {
		if chunk = append(chunk, ident); len(chunk) == evictBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// evictOver brings the store below MaxBytes.
func (s *Store) evictOver(ctx context.Context) error {
	limit := s.options.MaxBytes
	if limit <= 0 || s.usage().Bytes <= limit {
		return nil
	}
	return s.evict(ctx, int64(evictTo*float64(limit)), 0)
}

// evictOld drops what is older than MaxAge.
func (s *Store) evictOld(ctx context.Context) error {
	if s.options.MaxAge <= 0 {
		return nil
	}
	return s.evict(ctx, 1<<62, minuteOf(s.options.Now().Add(-s.options.MaxAge)))
}

// evict drops the entries unused for longest while there are more than leave
// bytes, and those last used before a minute.
func (s *Store) evict(ctx context.Context, leave int64, before uint32) error {
	for {
		n, err := s.evictSome(leave, before)
		if n < evictBatch || err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// evictSome drops at most evictBatch entries. Their files go once that is on the
// disk: if they went first, a crash could leave records of files that are not there.
//
// It starts where the last one ended, because Pebble would step over all that was
// deleted before, each time anew.
func (s *Store) evictSome(leave int64, before uint32) (n int, err error) {
	var dropped int
	err = s.write(true, func(t *tx) error {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: s.state.oldest, UpperBound: []byte{usePrefix + 1}})
		if err != nil {
			return err
		}
		defer it.Close()
		var e evictions
		from := []byte{usePrefix + 1} // where the next one starts
		for it.First(); it.Valid(); it.Next() {
			key := it.Key()
			minute, ident, ok := parseUseKey(key)
			if !ok {
				return fmt.Errorf("record of a use %x", key)
			}
			if e.entries == evictBatch || t.total.Bytes <= leave && minute >= before {
				from = append([]byte(nil), key...)
				break
			}
			m, ok := parseUse(minute, it.Value())
			if !ok {
				return fmt.Errorf("record of %d bytes about the use of %x", len(it.Value()), ident)
			}
			t.remove(ident, m)
			e.entries++
			e.bytes += m.bytes
			e.age = time.Duration(max(0, int64(t.minute)-int64(minute))) * time.Minute
			e.ages.note(e.age)
			e.ageSum += e.age.Seconds()
		}
		if err := it.Error(); err != nil {
			return err
		}
		dropped = int(e.entries)
		t.done = func() {
			s.state.oldest = from
			if e.entries > 0 {
				for i, n := range s.state.evict.ages {
					e.ages[i] += n
				}
				s.state.evict = evictions{s.state.evict.entries + e.entries, s.state.evict.bytes + e.bytes, e.age, e.ages, s.state.evict.ageSum + e.ageSum}
			}
		}
		return nil
	})
	if err != nil {
		return 0, err // dropped may not be read: the write may be under way
	}
	return dropped, nil
}

// flush has Pebble write what it collects in memory, without waiting for it to be
// done: only then does it see what was deleted, and makes the room of it free.
func (s *Store) flush() error {
	if s.waiting.Load() > 0 {
		return nil
	}
	err := s.write(false, func(t *tx) error {
		_, err := s.db.AsyncFlush()
		return err
	})
	if errors.Is(err, ErrFull) {
		return nil // it is under way
	}
	return err
}
