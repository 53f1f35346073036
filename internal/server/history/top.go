package history

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

const (
	topPrefix     = "top/"
	writersPrefix = "writers/"
	// topKept is how many of the dearest and of the largest entries of a namespace
	// are known: more than are shown, since some are evicted.
	topKept = 100
	// writersMax bounds a namespace's writers; the one who wrote longest ago goes.
	writersMax = 200
)

// An Entry is what is known of an entry that is among the dearest or the largest.
type Entry struct {
	Namespace string         `json:"-"`
	Action    entry.ActionID `json:"action"`
	Size      int64          `json:"size"`   // of the body
	Stored    int64          `json:"stored"` // as it is stored
	Cost      time.Duration  `json:"cost"`   // of building it
	Linked    bool           `json:"linked"` // it is an executable
	Writer    string         `json:"writer"`
	Time      time.Time      `json:"time"` // of the put
}

// top are the dearest and the largest entries of a namespace, in that order.
type top struct {
	Dearest []Entry `json:"dearest"`
	Largest []Entry `json:"largest"`
	changed bool
}

func dearer(a, b Entry) int { return cmp.Compare(b.Cost, a.Cost) }
func larger(a, b Entry) int { return cmp.Compare(b.Stored, a.Stored) }

// place puts an entry where it belongs, if it does, and takes its old self out.
func place(list []Entry, e Entry, order func(a, b Entry) int) ([]Entry, bool) {
	old := slices.IndexFunc(list, func(o Entry) bool { return o.Action == e.Action })
	if old >= 0 {
		list = slices.Delete(list, old, old+1)
	}
	at, _ := slices.BinarySearchFunc(list, e, order)
	if at >= topKept {
		return list, old >= 0
	}
	list = slices.Insert(list, at, e)
	return list[:min(len(list), topKept)], true
}

// writers are who wrote a namespace.
type writers struct {
	ByName  map[string]Writer `json:"by_name"`
	changed bool
}

// A Writer is what somebody wrote to a namespace.
type Writer struct {
	Namespace string    `json:"-"`
	Name      string    `json:"-"` // of the token
	Puts      int64     `json:"puts"`
	Bytes     int64     `json:"bytes"` // as stored
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

// NotePuts notes entries that were put. It is quick: most are neither dear nor large.
func (h *History) NotePuts(ns string, headers []entry.Header) {
	if len(headers) == 0 {
		return
	}
	now := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if ns = h.name(ns); ns == Others {
		return // whose these are would not be known
	}
	t := h.tops[ns]
	if t == nil {
		t = new(top)
		h.tops[ns] = t
	}
	for i := range headers {
		hd := &headers[i]
		e := Entry{Action: hd.ActionID, Size: hd.Size, Stored: hd.Stored, Cost: hd.Cost, Linked: hd.Alone, Writer: hd.Writer, Time: hd.Time}
		var changed bool
		if hd.Cost >= entry.CostLeast {
			t.Dearest, changed = place(t.Dearest, e, dearer)
			t.changed = t.changed || changed
		}
		t.Largest, changed = place(t.Largest, e, larger)
		t.changed = t.changed || changed
		h.noteWriter(ns, hd, now)
	}
}

func (h *History) noteWriter(ns string, hd *entry.Header, now time.Time) {
	list := h.writers[ns]
	if list == nil {
		list = &writers{ByName: make(map[string]Writer)}
		h.writers[ns] = list
	}
	w, ok := list.ByName[hd.Writer]
	if !ok {
		w.First = now
		if len(list.ByName) >= writersMax {
			oldest := ""
			for name, o := range list.ByName {
				if oldest == "" || o.Last.Before(list.ByName[oldest].Last) {
					oldest = name
				}
			}
			delete(list.ByName, oldest)
		}
	}
	w.Puts++
	w.Bytes += hd.Stored
	w.Last = now
	list.ByName[hd.Writer], list.changed = w, true
}

// Dearest and Largest are the entries that cost most to build, or take most room,
// as far as a view sees; some may be gone. n bounds them.
func (h *History) Dearest(v View, n int, there func(ns string, id entry.ActionID) bool) []Entry {
	return h.best(v, n, there, dearer, func(t *top) []Entry { return t.Dearest })
}

// Largest is like Dearest.
func (h *History) Largest(v View, n int, there func(ns string, id entry.ActionID) bool) []Entry {
	return h.best(v, n, there, larger, func(t *top) []Entry { return t.Largest })
}

// best leaves those that are not there any more out.
func (h *History) best(v View, n int, there func(string, entry.ActionID) bool, order func(a, b Entry) int, of func(*top) []Entry) []Entry {
	var all []Entry
	h.mu.Lock()
	for ns, t := range h.tops {
		if !v.sees(ns) {
			continue
		}
		for _, e := range of(t) {
			e.Namespace = ns
			all = append(all, e)
		}
	}
	h.mu.Unlock()
	slices.SortStableFunc(all, order)
	kept := make([]Entry, 0, n)
	for _, e := range all {
		if len(kept) == n {
			break
		}
		if there(e.Namespace, e.Action) {
			kept = append(kept, e)
		}
	}
	return kept
}

// Writers are who wrote to the namespaces that a view sees, by namespace, the last
// first.
func (h *History) Writers(v View) map[string][]Writer {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make(map[string][]Writer)
	for ns, list := range h.writers {
		if !v.sees(ns) {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(list.ByName)) {
			w := list.ByName[name]
			w.Namespace, w.Name = ns, name
			all[ns] = append(all[ns], w)
		}
		slices.SortStableFunc(all[ns], func(a, b Writer) int { return b.Last.Compare(a.Last) })
	}
	return all
}
