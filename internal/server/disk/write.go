package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A Usage is what is stored, in one namespace or in all.
type Usage struct {
	Bytes   int64 // of bodies and their records
	Entries int64
	Blobs   int64
}

func (u Usage) plus(v Usage) Usage {
	return Usage{u.Bytes + v.Bytes, u.Entries + v.Entries, u.Blobs + v.Blobs}
}

// A state is what is known of the index without reading it. It changes with the
// index, under Store.commit, and has a lock of its own for those who only look.
type state struct {
	sync.Mutex
	total  Usage
	ns     map[string]Usage
	oldest []byte // no u record is before this key, so that no eviction passes deleted ones again
	evict  evictions
}

// A tx is one change of the index, made under Store.commit. It names each ident
// at most once.
type tx struct {
	s      *Store
	batch  *pebble.Batch
	minute uint32 // now
	ns     map[string]Usage
	total  Usage
	oldest []byte   // the first u record that was made
	gone   []uint64 // files that nothing refers to once this is on the disk
	done   func()   // if not nil: runs under state's lock once this is applied
}

// write changes the index: fill says how. If durable, the change is on the disk
// when write returns nil; if not, at some time later, but never without those
// before it.
//
// It does not wait for a disk that is full to the last byte, nor for one that
// has failed; the change may then be made later, or not, but never after one that is
// asked for later. Fill must not refer to what its caller changes after an error.
func (s *Store) write(durable bool, fill func(*tx) error) error {
	if err := s.guard.failure(); err != nil {
		return err
	}
	stuck := s.guard.stuck()
	if isClosed(stuck) && s.waiting.Load() > 0 {
		return ErrFull // the ones before it are still waiting
	}
	done := make(chan error, 1)
	var abandoned atomic.Bool // then it is not made after what is asked for next
	s.waiting.Add(1)
	s.writes.Add(1)
	go func() {
		defer s.writes.Done()
		defer s.waiting.Add(-1)
		done <- s.writeNow(durable, func(t *tx) error {
			if abandoned.Load() {
				return ErrFull
			}
			return fill(t)
		})
	}()
	select {
	case err := <-done:
		return full(err)
	case <-stuck:
		abandoned.Store(true)
		return fmt.Errorf("write the index: %w", ErrFull)
	case <-s.guard.failed:
		return s.guard.failure()
	}
}

// writeNow is write, for as long as it takes.
//
// The lock is for reading what is changed: without it two puts of one action
// would both take away from the totals what was there before. It is released
// before the disk is waited for: Pebble writes changes to its log in the order in
// which they are applied, so that none can become durable without those before it.
func (s *Store) writeNow(durable bool, fill func(*tx) error) error {
	t := &tx{s: s, batch: s.db.NewBatch(), ns: make(map[string]Usage)}
	err := s.apply(t, durable, fill)
	if err != nil {
		t.batch.Close()
		return err
	}
	if durable {
		if err := t.batch.SyncWait(); err != nil {
			return err
		}
	}
	t.batch.Close()
	for _, number := range t.gone {
		s.removeBody(number)
	}
	return nil
}

func (s *Store) apply(t *tx, durable bool, fill func(*tx) error) error {
	s.commit.Lock()
	defer s.commit.Unlock()
	t.minute = minuteOf(s.options.Now())
	t.total = s.state.total
	if err := fill(t); err != nil {
		return err
	}
	for ns, u := range t.ns {
		// Not merged: the lock makes the sum that is known here the sum there.
		if u == (Usage{}) {
			t.batch.Delete(totalKey(ns), nil)
			continue
		}
		t.batch.Set(totalKey(ns), u.value(), nil)
	}
	var err error
	if durable {
		err = s.db.ApplyNoSyncWait(t.batch, pebble.Sync)
	} else {
		err = s.db.Apply(t.batch, pebble.NoSync)
	}
	if err != nil {
		return err
	}
	s.state.Lock()
	defer s.state.Unlock()
	for ns, u := range t.ns {
		s.state.ns[ns] = u
		if u == (Usage{}) {
			delete(s.state.ns, ns)
		}
	}
	s.state.total = t.total
	if t.oldest != nil && string(t.oldest) < string(s.state.oldest) {
		s.state.oldest = t.oldest
	}
	if t.done != nil {
		t.done()
	}
	return nil
}

// A record is something to put.
type record struct {
	ident  string
	head   []byte
	inline []byte
	number uint64 // of the file with the body, if that is not in inline
	size   int64  // of the body
}

// bytes is what a record and its body take: about what they do take on the disk.
func (r *record) bytes() int64 {
	n := int64(8 + len(r.head) + 3*len(r.ident) + 60)
	if r.number == 0 {
		return n + r.size
	}
	const block = 4096
	return n + (r.size+block-1)/block*block
}

// put puts a record in the place of what is there.
func (t *tx) put(r *record) error {
	old, ok, err := t.meta(r.ident)
	if err != nil {
		return err
	}
	if ok {
		t.forget(r.ident, old)
	}
	op := t.batch.SetDeferred(1+len(r.ident), 8+len(r.head)+len(r.inline))
	op.Key[0] = recordPrefix
	copy(op.Key[1:], r.ident)
	binary.BigEndian.PutUint64(op.Value, r.number)
	copy(op.Value[8:], r.head)
	copy(op.Value[8+len(r.head):], r.inline)
	op.Finish()
	m := meta{t.minute, r.number, r.bytes()}
	if m.number != 0 {
		t.batch.Set(fileKey(m.number), nil, nil)
	}
	t.setMeta(r.ident, m)
	t.count(r.ident, m.bytes, 1)
	t.s.putBytes.Add(m.bytes)
	return nil
}

// remove removes what is there.
func (t *tx) remove(ident string, m meta) {
	t.forget(ident, m)
	t.batch.Delete(recordKey(ident), nil)
	t.batch.Delete(metaKey(ident), nil)
}

// forget removes what goes with a record that is removed or replaced.
func (t *tx) forget(ident string, m meta) {
	t.batch.Delete(useKey(m.minute, ident), nil)
	if m.number != 0 {
		t.batch.Delete(fileKey(m.number), nil)
		t.gone = append(t.gone, m.number)
	}
	t.count(ident, -m.bytes, -1)
}

// renew notes a use, if the last one noted is long enough ago.
func (t *tx) renew(ident string, every uint32) error {
	m, ok, err := t.meta(ident)
	if err != nil || !ok || m.minute+every > t.minute {
		return err
	}
	t.batch.Delete(useKey(m.minute, ident), nil)
	m.minute = t.minute
	t.setMeta(ident, m)
	return nil
}

func (t *tx) setMeta(ident string, m meta) {
	key := useKey(m.minute, ident)
	t.batch.Set(key, m.useValue(), nil)
	t.batch.Set(metaKey(ident), m.value(), nil)
	if t.oldest == nil || string(key) < string(t.oldest) {
		t.oldest = key
	}
}

func (t *tx) count(ident string, bytes, n int64) {
	u := Usage{Bytes: bytes, Entries: n}
	if ident[0] == blobKind {
		u = Usage{Bytes: bytes, Blobs: n}
	}
	ns := namespaceOf(ident)
	sum, ok := t.ns[ns]
	if !ok {
		sum = t.s.state.ns[ns] // only changed under the lock that t is made under
	}
	t.ns[ns] = sum.plus(u)
	t.total = t.total.plus(u)
}

func (t *tx) meta(ident string) (m meta, ok bool, err error) {
	value, closer, err := t.s.db.Get(metaKey(ident))
	if errors.Is(err, pebble.ErrNotFound) {
		return meta{}, false, nil
	}
	if err != nil {
		return meta{}, false, err
	}
	defer closer.Close()
	if m, ok = parseMeta(value); !ok {
		return meta{}, false, fmt.Errorf("record of %d bytes about %x", len(value), ident)
	}
	return m, true, nil
}

func (u Usage) value() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(u.Bytes))
	b = binary.BigEndian.AppendUint64(b, uint64(u.Entries))
	return binary.BigEndian.AppendUint64(b, uint64(u.Blobs))
}

func parseUsage(b []byte) (Usage, bool) {
	if len(b) != 24 {
		return Usage{}, false
	}
	n := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[i:])) }
	return Usage{n(0), n(8), n(16)}, true
}

func minuteOf(t time.Time) uint32 { return uint32(max(0, t.Unix()/60)) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
