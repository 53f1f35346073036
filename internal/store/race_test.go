package store_test

import (
	"bytes"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/store"
)

// Gets and trimming compete for entries that nobody has used for long: what a
// get answers is there at once and after the trimming, whole.
func TestGetsCompeteWithTrim(t *testing.T) {
	const entries, rounds = 40, 8
	h := newShelf(t)
	s := store.Open(h.options())
	defer s.Close()
	hits := 0
	for range rounds {
		for i := range entries {
			h.add(i, 1000, 9*day)
		}
		paths := make([]string, entries)
		start := make(chan struct{})
		var wg sync.WaitGroup
		wg.Add(2)
		go func() {
			defer wg.Done()
			<-start
			for i := range entries {
				// From the end, as trimming might come from the beginning.
				n := entries - 1 - i
				o, err := s.Get(actionID(n))
				if err != nil {
					continue
				}
				paths[n] = o.DiskPath
				if data, err := os.ReadFile(o.DiskPath); err != nil || !bytes.Equal(data, body(byte(n), 1000)) {
					t.Errorf("action %d: a hit without its output: %v", n, err)
				}
			}
		}()
		go func() {
			defer wg.Done()
			_, err := store.Trim(t.Context(), h.options(), store.Limits{}, func(done, total int) {
				if done == total-1 { // all has been looked at, removing begins
					close(start)
				}
			})
			if err != nil {
				t.Error(err)
			}
		}()
		wg.Wait()
		for n, path := range paths {
			if path == "" {
				continue
			}
			hits++
			if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, body(byte(n), 1000)) {
				t.Errorf("action %d: its output went after a hit: %v", n, err)
			}
		}
	}
	t.Logf("%d of %d gets were hits", hits, entries*rounds)
}

// A get that finds the output, but then not the action any more, is a miss:
// trimming is at work.
func TestGetLooksTwice(t *testing.T) {
	h := newShelf(t)
	h.add(0, 1000, 9*day)
	calls := 0
	o := h.options()
	o.Now = func() time.Time {
		if calls++; calls > 2 { // the action has been read
			os.Remove(h.action(0))
		}
		return h.now
	}
	s := store.Open(o)
	defer s.Close()
	wantMiss(t, s, actionID(0), store.OutputMissing)
}
