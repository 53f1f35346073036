package manifest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/manifest"
)

func action(n int) entry.ActionID { return sha256.Sum256([]byte{byte(n), byte(n >> 8), byte(n >> 16)}) }

func actions(from, to int) (ids []entry.ActionID) {
	for i := from; i < to; i++ {
		ids = append(ids, action(i))
	}
	return ids
}

func TestMerge(t *testing.T) {
	ages := func(m manifest.Manifest) map[int][]int { // age → actions, in order
		got := make(map[int][]int)
		for _, item := range m {
			for i := range 30 {
				if action(i) == item.Action {
					got[int(item.Age)] = append(got[int(item.Age)], i)
				}
			}
		}
		return got
	}
	var m manifest.Manifest
	for _, step := range []struct {
		name string
		used []entry.ActionID
		want map[int][]int
	}{
		{"first", append(actions(0, 4), action(2)), map[int][]int{0: {0, 1, 2, 3}}},
		{"other order, one new, one unused", []entry.ActionID{action(3), action(0), action(4), action(1)}, map[int][]int{0: {3, 0, 4, 1}, 1: {2}}},
		{"failed early: nothing ages", actions(0, 1), map[int][]int{0: {0, 3, 4, 1}, 1: {2}}},
		{"another branch", actions(10, 14), map[int][]int{0: {10, 11, 12, 13}, 1: {0, 3, 4, 1}, 2: {2}}},
		{"again", actions(10, 14), map[int][]int{0: {10, 11, 12, 13}, 2: {0, 3, 4, 1}, 3: {2}}},
		{"again", actions(10, 14), map[int][]int{0: {10, 11, 12, 13}, 3: {0, 3, 4, 1}, 4: {2}}},
		{"the oldest goes", actions(10, 14), map[int][]int{0: {10, 11, 12, 13}, 4: {0, 3, 4, 1}}},
		{"it comes back", actions(0, 3), map[int][]int{0: {0, 1, 2}, 1: {10, 11, 12, 13}}},
	} {
		m = m.Merge(step.used)
		if got := ages(m); !reflect.DeepEqual(got, step.want) {
			t.Fatalf("%s: %v, want %v", step.name, got, step.want)
		}
	}
	again, err := manifest.Parse(m.Append(nil))
	if err != nil || !slices.Equal(again, m) {
		t.Errorf("parsed %v, %v; want %v", again, err, m)
	}
}

func TestMergeIsBounded(t *testing.T) {
	var m manifest.Manifest
	for i := range 3 {
		m = m.Merge(actions(i*60_000, i*60_000+60_000))
	}
	if len(m) != manifest.ItemsMax {
		t.Errorf("%d items", len(m))
	}
	if _, err := manifest.Parse(m.Append(nil)); err != nil {
		t.Error(err)
	}
}

func TestPlan(t *testing.T) {
	want := manifest.Plan{{action(1), 0, 0, 0}, {action(2), 1 << 30, 90 * time.Second, 1}, {action(3), 5, 12 * time.Millisecond, 4}}
	got, err := manifest.ParsePlan(want.Append(nil))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestFilter(t *testing.T) {
	const n = 100_000
	f := manifest.NewFilter(func(yield func(entry.ActionID) bool) {
		for i := range n {
			if !yield(action(i)) {
				return
			}
		}
	})
	b := f.Append(nil)
	if perAction := float64(len(b)) / n; perAction > 3 {
		t.Errorf("%.1f bytes for an action", perAction)
	}
	got, err := manifest.ParseFilter(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if !got.Has(action(i)) {
			t.Fatalf("action %d is not in it", i)
		}
	}
	wrong := 0
	for i := n; i < 2*n; i++ {
		if got.Has(action(i)) {
			wrong++
		}
	}
	if wrong > 20 { // 2.3 are to be expected
		t.Errorf("%d of %d others are in it", wrong, n)
	}
	var none *manifest.Filter
	if none.Has(action(1)) || none.Len() != 0 {
		t.Error("the nil filter is not empty")
	}
	if g, err := manifest.ParseFilter(none.Append(nil)); err != nil || g.Len() != 0 {
		t.Errorf("empty filter: %d, %v", g.Len(), err)
	}
	if more := none.With(actions(0, 3)); more.Len() != 3 || !more.Has(action(2)) || more.With(actions(0, 4)).Len() != 4 {
		t.Error("With")
	}
}

func TestLies(t *testing.T) {
	for _, b := range [][]byte{nil, {2}, {1, 0}, append([]byte{1}, make([]byte, 37)...)} {
		if _, err := manifest.Parse(b); !errors.Is(err, manifest.ErrFormat) {
			t.Errorf("manifest %x: %v", b, err)
		}
		if _, err := manifest.ParsePlan(b); !errors.Is(err, manifest.ErrFormat) {
			t.Errorf("plan %x: %v", b, err)
		}
	}
	for _, b := range [][]byte{nil, {2, 0}, {1}, {1, 0xff, 0xff, 0xff, 0x7f, 1}, {1, 2, 5, 0}, {1, 1, 5, 5}, {1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 1}} {
		if _, err := manifest.ParseFilter(b); !errors.Is(err, manifest.ErrFormat) {
			t.Errorf("filter %x: %v", b, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(manifest.Manifest{}.Merge(actions(0, 3)).Append(nil), []byte{1, 2})
	f.Add(manifest.Manifest{}.Merge(actions(0, 8)).Merge(actions(2, 9)).Append(nil), []byte{9, 9, 3})
	f.Fuzz(func(t *testing.T, b, used []byte) {
		m, err := manifest.Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Append(nil), b) {
			t.Error("it is not encoded as it was")
		}
		var session []entry.ActionID
		for _, n := range used {
			session = append(session, action(int(n)))
		}
		merged := m.Merge(session)
		seen := make(map[entry.ActionID]bool)
		for i, item := range merged {
			if seen[item.Action] || item.Age > manifest.AgeMax || i > 0 && i < len(session) && item.Age < merged[i-1].Age {
				t.Fatalf("item %d is %v, twice: %v", i, item, seen[item.Action])
			}
			seen[item.Action] = true
		}
		for _, id := range session {
			if !seen[id] {
				t.Errorf("%v was used and is not there", id)
			}
		}
	})
}

func FuzzPlan(f *testing.F) {
	f.Add(manifest.Plan{{action(1), 100, time.Second, 2}, {action(2), entry.MaxSize, 0, 0}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := manifest.ParsePlan(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Append(nil), b) {
			t.Error("it is not encoded as it was")
		}
		for _, planned := range p {
			if planned.Stored < 0 || planned.Stored > entry.MaxSize || planned.Cost < 0 {
				t.Errorf("planned %+v", planned)
			}
		}
	})
}

// FuzzFilter has what a filter says it has be there after it has been encoded, united, and compared with another encoding.
func FuzzFilter(f *testing.F) {
	f.Add((*manifest.Filter)(nil).With(actions(0, 10)).Append(nil), uint32(7))
	f.Add((*manifest.Filter)(nil).Append(nil), uint32(0))
	none := (*manifest.Filter)(nil).Append(nil)
	back := append(none[:1:1], 2, 5)                                            // two fingerprints: 5,
	f.Add(binary.AppendUvarint(back[:len(back):len(back)], 1<<64-3), uint32(2)) // and 5-3
	f.Add(append(none[:1:1], 1, 0x85, 0), uint32(5))                            // a number in more bytes than it needs
	f.Fuzz(func(t *testing.T, b []byte, print uint32) {
		g, err := manifest.ParseFilter(b)
		if err != nil {
			return
		}
		if g.Len() > len(b) {
			t.Fatalf("%d fingerprints in %d bytes", g.Len(), len(b))
		}
		again, err := manifest.ParseFilter(g.Append(nil))
		if err != nil || !bytes.Equal(again.Append(nil), g.Append(nil)) {
			t.Fatalf("of %d fingerprints %d come back, %v", g.Len(), again.Len(), err)
		}
		var id entry.ActionID
		binary.BigEndian.PutUint32(id[:], print)
		more := g.With([]entry.ActionID{id})
		if n := more.Len() - g.Len(); !more.Has(id) || n != 0 && n != 1 || (n == 0) != g.Has(id) || again.Has(id) != g.Has(id) {
			t.Errorf("with %x: %d more, there before: %v, after: %v", print, n, g.Has(id), more.Has(id))
		}
	})
}

// A filter whose actions were moved is that of the moved actions, and moved again it
// is what it was.
func TestFilterMoved(t *testing.T) {
	list := func(mask byte) *manifest.Filter {
		return manifest.NewFilter(func(yield func(entry.ActionID) bool) {
			for i := range 1000 {
				id := action(i)
				id[3] ^= mask
				yield(id)
			}
		})
	}
	const mask = 0x55
	moved := list(0).Moved(entry.ActionID{3: mask})
	if !reflect.DeepEqual(moved, list(mask)) || !reflect.DeepEqual(moved.Moved(entry.ActionID{3: mask}), list(0)) {
		t.Error("moved it is another set")
	}
	// Both forms of what a store has take little more than one (newAlike in internal/agent).
	one, both := len(list(0).Append(nil)), len(list(0).Or(moved).Append(nil))
	if both > one+1100 {
		t.Errorf("%d bytes for both forms, %d for one", both, one)
	}
	if none := (*manifest.Filter)(nil).Moved(entry.ActionID{3: mask}); none.Len() != 0 {
		t.Error("nothing moved is something")
	}
}
