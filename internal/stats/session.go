// Package stats records what each session did for its user: counts, bytes and
// times. A session is one go command's use of the helper.
//
// The promise is that recording never slows or breaks a build: a session is
// one short line, appended with one write after the last answer; what cannot be
// written is dropped without a word; and the files stay bounded (see Log).
//
// Everything lives in the store's own folder, dir/larder/, and survives
// "go clean -cache". Any number of processes may record at once. Nothing here
// is trusted: a line that does not parse is skipped, a cost may be wrong, and
// neither can do more than make a number wrong.
package stats

import (
	"time"
)

// A Session is what one go command's session did. The JSON form is the line in
// the log and the output of "larder stats -json".
type Session struct {
	Start   time.Time `json:"start"`
	Seconds float64   `json:"seconds"` // from the helper's start to its last answer
	Dir     string    `json:"dir"`     // the go command's working directory
	Version string    `json:"version"` // Larder's

	Counts
	Fallback string `json:"fallback,omitempty"` // why the store's directory could not be written, if so
	Breaker  string `json:"breaker,omitempty"`  // why the remote was left alone when the session ended, if so
}

// Counts are a session's numbers, and a total's.
type Counts struct {
	Gets   int64  `json:"gets"`
	Hits   int64  `json:"hits"`
	Misses Misses `json:"misses"`
	Puts   int64  `json:"puts"`

	PutErrors int64 `json:"put_errors"` // puts answered with an error: no directory could be written, or a wrong body
	HitBytes  int64 `json:"hit_bytes"`  // sizes of the outputs of hits
	PutBytes  int64 `json:"put_bytes"`

	// Hits that were not in the store when the session began; the others were.
	HitsPrefetched int64 `json:"hits_prefetched"` // the output had come from the remote ahead of its get
	HitsRemote     int64 `json:"hits_remote"`     // the get waited until the output had come from the remote

	Fetched      int64 `json:"fetched"`       // entries that were brought in from the remote
	FetchedBytes int64 `json:"fetched_bytes"` // received from the remote, as sent
	RoundTrips   int64 `json:"round_trips"`   // to the remote
	RemoteErrors int64 `json:"remote_errors"` // requests to the remote that failed, and entries that were refused

	WaitSeconds  float64 `json:"wait_seconds"`  // that requests spent in Larder, summed
	BuildSeconds float64 `json:"build_seconds"` // from misses to their puts, summed: what was built
	SavedSeconds float64 `json:"saved_seconds"` // what the hits cost when they were built, summed over actions
	CostUnknown  int64   `json:"cost_unknown"`  // hits whose cost is not known, and so is not in SavedSeconds

	Kinds Kinds `json:"kinds"` // gets by what kind of entry they were for
}

// Misses are misses by kind.
type Misses struct {
	Absent        int64 `json:"absent"`         // the action was never put, or is gone
	Damaged       int64 `json:"damaged"`        // its action file does not parse
	OutputMissing int64 `json:"output_missing"` // its output is gone or has another size
	Unreadable    int64 `json:"unreadable"`     // the directory answered an error
}

// Total is the number of misses of all kinds.
func (m Misses) Total() int64 { return m.Absent + m.Damaged + m.OutputMissing + m.Unreadable }

// HitRate is hits per get, between 0 and 1; 0 if there was no get.
func (c Counts) HitRate() float64 {
	if c.Gets == 0 {
		return 0
	}
	return float64(c.Hits) / float64(c.Gets)
}

// Add adds d to c.
func (c *Counts) Add(d Counts) {
	c.Gets += d.Gets
	c.Hits += d.Hits
	c.Misses.Absent += d.Misses.Absent
	c.Misses.Damaged += d.Misses.Damaged
	c.Misses.OutputMissing += d.Misses.OutputMissing
	c.Misses.Unreadable += d.Misses.Unreadable
	c.Puts += d.Puts
	c.PutErrors += d.PutErrors
	c.HitBytes += d.HitBytes
	c.PutBytes += d.PutBytes
	c.HitsPrefetched += d.HitsPrefetched
	c.HitsRemote += d.HitsRemote
	c.Fetched += d.Fetched
	c.FetchedBytes += d.FetchedBytes
	c.RoundTrips += d.RoundTrips
	c.RemoteErrors += d.RemoteErrors
	c.WaitSeconds += d.WaitSeconds
	c.BuildSeconds += d.BuildSeconds
	c.SavedSeconds += d.SavedSeconds
	c.CostUnknown += d.CostUnknown
	c.Kinds.add(d.Kinds)
}

// plausible reports whether these can be the counts of sessions: a damaged line may
// parse, and its numbers, once added, would spoil the total for good.
func (c *Counts) plausible() bool {
	const countMax, secondsMax = 1 << 60, 1e12 // an exabyte, 30,000 years
	for _, n := range append(c.Kinds.numbers(),
		c.Gets, c.Hits, c.Misses.Absent, c.Misses.Damaged, c.Misses.OutputMissing, c.Misses.Unreadable, c.Puts, c.PutErrors, c.HitBytes, c.PutBytes,
		c.Fetched, c.FetchedBytes, c.RoundTrips, c.RemoteErrors, c.CostUnknown,
	) {
		if n < 0 || n > countMax {
			return false
		}
	}
	for _, s := range []float64{c.WaitSeconds, c.BuildSeconds, c.SavedSeconds} {
		if !(s >= 0 && s <= secondsMax) {
			return false
		}
	}
	return true
}

// A Total is the sum of sessions.
type Total struct {
	Sessions int64     `json:"sessions"`
	Since    time.Time `json:"since"` // the first session's start
	Counts
}

// Add adds one session.
func (t *Total) Add(s Session) {
	if t.Since.IsZero() || s.Start.Before(t.Since) {
		t.Since = s.Start
	}
	t.Sessions++
	t.Counts.Add(s.Counts)
}
