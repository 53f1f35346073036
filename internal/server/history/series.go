package history

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Point sums up what happened in some time, in one namespace or in several.
type Point struct {
	Time time.Time `json:"-"` // when it begins

	// What the server served.
	Requests  int64 `json:"requests,omitempty"`
	Failed    int64 `json:"failed,omitempty"` // answered with a status of 500 or more
	Hits      int64 `json:"hits,omitempty"`   // actions asked for and sent
	Misses    int64 `json:"misses,omitempty"`
	SentBytes int64 `json:"sent_bytes,omitempty"`
	Puts      int64 `json:"puts,omitempty"`
	PutBytes  int64 `json:"put_bytes,omitempty"`

	// What it stores, at the end of the time.
	Bytes   int64 `json:"bytes,omitempty"`
	Entries int64 `json:"entries,omitempty"`

	// What it dropped for want of room or for its age. Of the whole server: in the
	// namespace Server only.
	EvictedBytes int64   `json:"evicted_bytes,omitempty"`
	EvictedAges  []int64 `json:"evicted_ages,omitempty"` // entries by how long they had not been used, as the storage counts them

	Sessions SessionSums `json:"sessions,omitzero"`
}

// SessionSums are sums over sessions that ended in some time.
type SessionSums struct {
	Count          int64   `json:"count,omitempty"`
	Gets           int64   `json:"gets,omitempty"`
	Hits           int64   `json:"hits,omitempty"`
	HitsPrefetched int64   `json:"prefetched,omitempty"`
	HitsRemote     int64   `json:"remote,omitempty"`
	FetchedBytes   int64   `json:"fetched_bytes,omitempty"`
	RoundTrips     int64   `json:"round_trips,omitempty"`
	RemoteErrors   int64   `json:"remote_errors,omitempty"`
	Broken         int64   `json:"broken,omitempty"` // that ended with the breaker open
	SavedSeconds   float64 `json:"saved,omitempty"`
	BuildSeconds   float64 `json:"built,omitempty"`
	WaitSeconds    float64 `json:"waited,omitempty"`
	CostUnknown    int64   `json:"unknown,omitempty"` // hits that are not in SavedSeconds
}

// Server is the namespace of points about the whole server.
const Server = "(server)"

// HitRate is hits per get of the sessions, between 0 and 1; false without gets.
func (s SessionSums) HitRate() (rate float64, ok bool) {
	if s.Gets == 0 {
		return 0, false
	}
	return float64(s.Hits) / float64(s.Gets), true
}

func (s *SessionSums) add(t SessionSums) {
	s.Count += t.Count
	s.Gets += t.Gets
	s.Hits += t.Hits
	s.HitsPrefetched += t.HitsPrefetched
	s.HitsRemote += t.HitsRemote
	s.FetchedBytes += t.FetchedBytes
	s.RoundTrips += t.RoundTrips
	s.RemoteErrors += t.RemoteErrors
	s.Broken += t.Broken
	s.SavedSeconds += t.SavedSeconds
	s.BuildSeconds += t.BuildSeconds
	s.WaitSeconds += t.WaitSeconds
	s.CostUnknown += t.CostUnknown
}

// add adds what happened later in the same namespace.
func (p *Point) add(q Point) {
	p.addFlows(q)
	if q.Bytes != 0 || q.Entries != 0 {
		p.Bytes, p.Entries = q.Bytes, q.Entries
	}
}

func (p *Point) addFlows(q Point) {
	p.Requests += q.Requests
	p.Failed += q.Failed
	p.Hits += q.Hits
	p.Misses += q.Misses
	p.SentBytes += q.SentBytes
	p.Puts += q.Puts
	p.PutBytes += q.PutBytes
	p.EvictedBytes += q.EvictedBytes
	ages := make([]int64, max(len(p.EvictedAges), len(q.EvictedAges))) // p's may be another point's
	for i := range ages {
		if i < len(p.EvictedAges) {
			ages[i] += p.EvictedAges[i]
		}
		if i < len(q.EvictedAges) {
			ages[i] += q.EvictedAges[i]
		}
	}
	p.EvictedAges = ages
	p.Sessions.add(q.Sessions)
}

// resolutions are the steps in which points are kept, and for how long.
var resolutions = [...]struct {
	prefix string
	step   time.Duration
	age    time.Duration
}{
	{"series/m/", time.Minute, 26 * time.Hour},
	{"series/h/", time.Hour, 32 * 24 * time.Hour},
	{"series/d/", 24 * time.Hour, 800 * 24 * time.Hour},
}

// timeKey is a time in a key: seconds, in as many digits as they have until 2286.
func timeKey(t time.Time) string { return fmt.Sprintf("%010d", max(0, t.Unix())) }

// Add adds what happened at a time, in a namespace, to the sums.
func (h *History) Add(at time.Time, ns string, p Point) {
	h.mu.Lock()
	defer h.mu.Unlock()
	addTo(h.pending, at, h.name(ns), p)
}

func addTo(points map[string]Point, at time.Time, ns string, p Point) {
	for _, r := range resolutions {
		key := r.prefix + timeKey(at.Truncate(r.step)) + "/" + ns
		sum := points[key]
		sum.add(p)
		points[key] = sum
	}
}

// A View is the namespaces that somebody may see: nil is all, and the server's own.
type View []string

func (v View) sees(ns string) bool { return v == nil || slices.Contains(v, ns) }

// Series returns a point for each step from a time to another one, in which all
// that the view sees is summed up. The steps should be those of Period.
func (h *History) Series(v View, from, to time.Time, step time.Duration) ([]Point, error) {
	r := resolutions[len(resolutions)-1]
	for i := len(resolutions) - 1; i >= 0; i-- {
		if resolutions[i].step <= step {
			r = resolutions[i]
			break
		}
	}
	from = from.Truncate(step)
	n := int((to.Sub(from) + step - 1) / step)
	points := make([]Point, max(n, 0))
	for i := range points {
		points[i].Time = from.Add(time.Duration(i) * step)
	}
	stocks := make([]map[string]Point, len(points)) // the last of each namespace in each step
	take := func(key string, p Point) {
		seconds, ns, ok := strings.Cut(key[len(r.prefix):], "/")
		unix, err := strconv.ParseInt(seconds, 10, 64)
		i := int(time.Unix(unix, 0).Sub(from) / step)
		if !ok || err != nil || i < 0 || i >= len(points) || !v.sees(ns) {
			return
		}
		points[i].addFlows(p)
		if p.Bytes != 0 || p.Entries != 0 {
			if stocks[i] == nil {
				stocks[i] = make(map[string]Point)
			}
			stocks[i][ns] = p
		}
	}
	begin := r.prefix + timeKey(from)
	end := r.prefix + timeKey(to.Add(r.step))
	h.change.Lock() // so that nothing is on its way from pending to the notes
	defer h.change.Unlock()
	h.mu.Lock()
	pending := maps.Clone(h.pending)
	h.mu.Unlock()
	err := h.notes.Notes(begin, end, func(key string, value []byte) bool {
		var p Point
		if json.Unmarshal(value, &p) == nil {
			take(key, p)
		}
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(pending)) {
		if key >= begin && key < end {
			take(key, pending[key])
		}
	}
	for i, stock := range stocks {
		for _, p := range stock {
			points[i].Bytes += p.Bytes
			points[i].Entries += p.Entries
		}
	}
	return points, nil
}

// Total sums points up.
func Total(points []Point) (t Point) {
	for _, p := range points {
		t.add(p)
	}
	return t
}
