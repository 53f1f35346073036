//go:build !race

package store_test

import "testing"

// Trimming takes 100 MB at most for 1,000,000 pairs: what a process has anyway, and
// so many bytes a pair. Before it was 1,000 bytes a pair.
func TestTrimTakesLittleMemory(t *testing.T) {
	const pairs, base, perPair = 30_000, 20 << 20, 75
	actions, outputs, peak, _ := trimPairs(t, pairs)
	if actions != pairs/3 || outputs != pairs/3 {
		t.Errorf("removed %d actions and %d outputs, want %d", actions, outputs, pairs/3)
	}
	if limit := int64(base + pairs*perPair); peak > limit {
		t.Errorf("it took %d MB, want %d at most", peak>>20, limit>>20)
	}
}
