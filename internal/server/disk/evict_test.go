package disk_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/server/disk"
)

func TestEvictLeastRecentlyUsed(t *testing.T) {
	c := newClock()
	s := open(t, disk.Options{Now: c.now})
	for i := range 10 {
		n := 1000
		if i%2 == 0 {
			n = 100 << 10
		}
		put(t, s, "ns", action(i), body(uint64(i), n))
		c.add(2 * time.Hour)
	}
	// 3 and 4 are used, 5 only looked at, 6 put anew, and a blob that is used.
	want(t, s, "ns", action(3), body(3, 1000))
	want(t, s, "ns", action(4), body(4, 100<<10))
	if _, err := s.Stat("ns", action(5)); err != nil {
		t.Fatal(err)
	}
	put(t, s, "ns", action(6), body(6, 500))
	if err := s.RenewUses(); err != nil {
		t.Fatal(err)
	}
	check(t, s)
	var order []int
	for left := 10; left > 0; left-- {
		c.add(time.Minute)
		if err := s.EvictTo(s.Stats().Bytes - 1); err != nil {
			t.Fatal(err)
		}
		check(t, s)
		if st := s.Stats(); st.Entries != int64(left-1) || st.EvictedEntries != int64(11-left) {
			t.Fatalf("stats %+v, want %d entries", st, left-1)
		}
		for i := range 10 {
			if _, err := s.Stat("ns", action(i)); errors.Is(err, disk.ErrNotFound) && !contains(order, i) {
				order = append(order, i)
			}
		}
	}
	wantOrder := []int{0, 1, 2, 5, 7, 8, 9}
	for i, n := range wantOrder {
		if order[i] != n {
			t.Fatalf("evicted in the order %v, want %v and then 3, 4, 6", order, wantOrder)
		}
	}
	if age := s.Stats().EvictedAge; age < 10*time.Minute || age > 2*time.Hour {
		t.Errorf("the last one was unused for %v", age)
	}
	// A clock that is set back does not hide entries from eviction.
	c.add(-1000 * time.Hour)
	put(t, s, "ns", action(1), nil)
	check(t, s)
	if err := s.EvictTo(0); err != nil || s.Stats().Entries != 0 {
		t.Errorf("%v, %d entries", err, s.Stats().Entries)
	}
}

func contains(list []int, n int) bool {
	for _, m := range list {
		if m == n {
			return true
		}
	}
	return false
}

// A second use within the hour writes nothing.
func TestUseIsNotedHourly(t *testing.T) {
	c := newClock()
	s := open(t, disk.Options{Now: c.now})
	put(t, s, "", action(1), nil)
	put(t, s, "", action(2), nil)
	c.add(59 * time.Minute)
	want(t, s, "", action(1), nil)
	if err := s.RenewUses(); err != nil {
		t.Fatal(err)
	}
	c.add(time.Hour)
	want(t, s, "", action(2), nil)
	if err := s.RenewUses(); err != nil {
		t.Fatal(err)
	}
	check(t, s)
	if err := s.EvictTo(s.Stats().Bytes - 1); err != nil {
		t.Fatal(err)
	}
	wantNone(t, s, "", action(1))
	want(t, s, "", action(2), nil)
}

func TestMaxAge(t *testing.T) {
	c := newClock()
	s := open(t, disk.Options{Now: c.now, MaxAge: 30 * 24 * time.Hour})
	for i := range 4 {
		put(t, s, "", action(i), body(1, 100<<10*(i%2)))
	}
	c.add(20 * 24 * time.Hour)
	want(t, s, "", action(0), nil)
	want(t, s, "", action(1), body(1, 100<<10))
	if err := s.RenewUses(); err != nil {
		t.Fatal(err)
	}
	if err := s.EvictOld(); err != nil || s.Stats().Entries != 4 {
		t.Fatalf("%v, %d entries, want 4", err, s.Stats().Entries)
	}
	c.add(11 * 24 * time.Hour)
	if err := s.EvictOld(); err != nil {
		t.Fatal(err)
	}
	check(t, s)
	want(t, s, "", action(0), nil)
	want(t, s, "", action(1), body(1, 100<<10))
	wantNone(t, s, "", action(2))
	wantNone(t, s, "", action(3))
}

// The store is brought below its limit, whatever it is made to hold.
func TestMaxBytes(t *testing.T) {
	const limit = 2 << 20
	s := open(t, disk.Options{MaxBytes: limit})
	for i := range 100 {
		put(t, s, "", action(i), body(uint64(i), []int{0, 1000, 50 << 10, 100 << 10}[i%4]))
	}
	if err := s.EvictOver(); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	if st.Bytes > limit || st.Bytes < limit*8/10 || st.EvictedEntries+st.Entries != 100 {
		t.Fatalf("stats %+v", st)
	}
	check(t, s)
}

func TestManyAtATime(t *testing.T) {
	c := newClock()
	s := open(t, disk.Options{Now: c.now, MaxBytes: 4 << 20, MaxAge: 100 * time.Hour})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	size := func(i int) int { return []int{0, 100, 5000, 70 << 10}[i%4] }
	var wg sync.WaitGroup
	start := func(f func(r *rand.Rand) error) {
		wg.Add(1)
		seed := rand.Uint64()
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(seed, 2))
			for ctx.Err() == nil {
				if err := f(r); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	for range 3 {
		start(func(r *rand.Rand) error {
			b := s.NewBatch("ns")
			defer b.Close()
			for range r.IntN(20) {
				i := r.IntN(400)
				p := body(uint64(i), size(i))
				if err := b.Add(header(action(i), p), bytes.NewReader(p)); err != nil {
					return err
				}
			}
			return b.Commit()
		})
		start(func(r *rand.Rand) error {
			i := r.IntN(400)
			_, got, err := get(s, "ns", action(i))
			if err == nil && !bytes.Equal(got, body(uint64(i), size(i))) {
				t.Errorf("%d: another body, of %d bytes", i, len(got))
			}
			if errors.Is(err, disk.ErrNotFound) {
				err = nil
			}
			return err
		})
	}
	start(func(r *rand.Rand) error {
		c.add(time.Minute)
		return errors.Join(s.RenewUses(), s.EvictOver(), s.EvictOld(), s.Sweep())
	})
	start(func(r *rand.Rand) error { return s.Delete("ns", action(r.IntN(400))) })
	start(func(r *rand.Rand) error { return s.PutBlob("ns", "m", body(1, r.IntN(100<<10))) })
	wg.Wait()
	if n := s.Stats().Damaged; n != 0 {
		t.Errorf("%d damaged", n)
	}
	// The keeper may be about to remove the files of what it has evicted.
	until(t, "index and files are of one mind", func() bool { return s.Check(false) == nil })
}
