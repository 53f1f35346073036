package agent

import (
	"testing"
)

// Bodies shrink until they pass, grow again as long as they do, and after an hour it may
// all be different.
func TestRoom(t *testing.T) {
	var r room
	const most, limit = 64 << 20, 1 << 20
	tries := 0
	for ; r.size(most) > limit; tries++ {
		r.tooLarge(min(r.size(most), 4<<20)) // what was sent until the answer came
	}
	if tries > 4 || !r.fits(limit) || r.fits(4<<20) {
		t.Errorf("%d tries, then %d bytes at once", tries, r.size(most))
	}
	for range 100 {
		r.passed(r.size(most))
	}
	if got := r.size(most); got > limit {
		t.Errorf("grew to %d bytes", got)
	}
	if got := r.size(100); got != 100 {
		t.Errorf("%d bytes of 100", got)
	}
	r.at = r.at.Add(-roomAge - 1)
	if got := r.size(most); got != most || !r.fits(most) {
		t.Errorf("%d bytes at once after an hour", got)
	}
	r.broke(most)
	for range 10 {
		r.broke(r.size(most))
	}
	small := r.size(most)
	for range 20 {
		r.passed(r.size(most))
	}
	if small > most/1000 || r.size(most) != most || !r.fits(most) {
		t.Errorf("%d bytes at once after failures that say nothing, then %d", small, r.size(most))
	}
}
