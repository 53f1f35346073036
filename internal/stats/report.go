package stats

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"time"
	"unicode"
	"unicode/utf8"
)

// ReportVersion is the version of the form in which reports are sent.
const ReportVersion = 1

// A Report is what a session tells the team's server about itself, for the
// server's dashboard: POST /v1/sessions of docs/api.md. It has no paths of the
// machine, no environment, no user's name and no arguments that could hold a
// secret; docs/dashboard.md says what it has.
type Report struct {
	ID      string    `json:"id"` // IDBytes random bytes, hexadecimal: a report that comes twice counts once
	Start   time.Time `json:"start"`
	Seconds float64   `json:"seconds"` // from the helper's start to its last answer

	Machine string `json:"machine"` // host name
	Project string `json:"project"` // path of the main module, "" outside of one
	Command string `json:"command"` // the go command's, without what could be secret
	Go      string `json:"go"`      // version of the go command
	Target  string `json:"target"`  // GOOS/GOARCH
	Version string `json:"version"` // Larder's

	Counts
	Breaker  string `json:"breaker,omitempty"`  // why the remote was left alone when the session ended
	Fallback string `json:"fallback,omitempty"` // why the store's directory could not be written

	// Queued is how many entries waited on the machine to be uploaded, this session's
	// among them, when the agent sent the report.
	Queued int64 `json:"queued"`
}

const (
	// IDBytes is the length of a session's ID.
	IDBytes = 16
	// reportTextMax bounds each of a report's texts, in bytes.
	reportTextMax = 300
	// reportCountMax and reportSecondsMax bound numbers, so that sums of them make sense.
	reportCountMax   = 1 << 50
	reportSecondsMax = 1e9
)

// NewID returns a session's ID.
func NewID() string {
	var b [IDBytes]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Clip makes a text fit for a report: what is too long is cut off, and what does
// not print is a question mark.
func Clip(text string) string {
	var b []byte
	for _, r := range text {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = '?'
		}
		if len(b)+utf8.RuneLen(r) > reportTextMax-len("…") {
			return string(b) + "…"
		}
		b = utf8.AppendRune(b, r)
	}
	return string(b)
}

// Check reports what is wrong with a report that somebody sent.
func (r *Report) Check() error {
	if id, err := hex.DecodeString(r.ID); err != nil || len(id) != IDBytes {
		return fmt.Errorf("id: not %d hexadecimal digits", 2*IDBytes)
	}
	if year := r.Start.UTC().Year(); year < 2000 || year > 2200 {
		return fmt.Errorf("start: in the year %d", year)
	}
	for name, text := range map[string]string{
		"machine": r.Machine, "project": r.Project, "command": r.Command, "go": r.Go, "target": r.Target,
		"version": r.Version, "breaker": r.Breaker, "fallback": r.Fallback,
	} {
		if len(text) > reportTextMax {
			return fmt.Errorf("%s: %d bytes; the limit is %d", name, len(text), reportTextMax)
		}
		for _, c := range text {
			if c == utf8.RuneError || !unicode.IsPrint(c) {
				return fmt.Errorf("%s: not printable text", name)
			}
		}
	}
	for _, n := range append(r.Kinds.numbers(),
		r.Gets, r.Hits, r.HitsPrefetched, r.HitsRemote, r.Misses.Absent, r.Misses.Damaged, r.Misses.OutputMissing, r.Misses.Unreadable,
		r.Puts, r.PutErrors, r.HitBytes, r.PutBytes, r.Fetched, r.FetchedBytes, r.RoundTrips, r.RemoteErrors, r.CostUnknown, r.Queued,
	) {
		if n < 0 || n > reportCountMax {
			return fmt.Errorf("a count of %d", n)
		}
	}
	for _, s := range []float64{r.Seconds, r.WaitSeconds, r.BuildSeconds, r.SavedSeconds} {
		if math.IsNaN(s) || s < 0 || s > reportSecondsMax {
			return fmt.Errorf("a time of %v seconds", s)
		}
	}
	if r.Hits+r.Misses.Total() != r.Gets || r.HitsPrefetched+r.HitsRemote > r.Hits {
		return fmt.Errorf("%d hits (%d prefetched, %d remote) and %d misses in %d gets", r.Hits, r.HitsPrefetched, r.HitsRemote, r.Misses.Total(), r.Gets)
	}
	for _, c := range r.Kinds {
		if c.Hits > r.Hits || c.Misses > r.Misses.Total() {
			return fmt.Errorf("%d hits and %d misses of one kind, and %d and %d of all", c.Hits, c.Misses, r.Hits, r.Misses.Total())
		}
	}
	return nil
}
