//go:build !race

package store_test

import (
	"testing"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/store"
)

// A miss allocates nothing, a hit its path and that once more with a zero at the
// end, for stat.
func TestGetAllocates(t *testing.T) {
	s := store.Open(store.Options{Dir: t.TempDir()})
	defer s.Close()
	put(t, s, actionID(1), body(1, 100))
	for _, tt := range []struct {
		name string
		id   entry.ActionID
		max  float64
	}{{"hit", actionID(1), 2}, {"miss", actionID(2), 0}} {
		if got := testing.AllocsPerRun(100, func() { s.Get(tt.id) }); got > tt.max {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, got, tt.max)
		}
	}
}
