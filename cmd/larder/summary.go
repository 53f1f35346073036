package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/stats"
)

// writeSummary writes what the sessions of a total did, each line after prefix.
func writeSummary(w io.Writer, prefix string, t stats.Total) {
	fmt.Fprintf(w, "%s%s, %s: %s (%.1f%%), %s%s; %s\n", prefix,
		count(t.Sessions, "go command"), count(t.Gets, "get"),
		count(t.Hits, "hit"), 100*t.HitRate(), countMisses(t.Misses.Total()), missKinds(t.Misses), count(t.Puts, "put"))
	if t.Gets > 0 {
		fmt.Fprintf(w, "%shits by kind: %s\n", prefix, kindHits(t.Kinds))
	}
	fmt.Fprintf(w, "%s%s read from the cache, %s written to it\n", prefix,
		config.FormatSize(t.HitBytes), config.FormatSize(t.PutBytes))
	if t.RoundTrips > 0 {
		fmt.Fprintf(w, "%s%d entries, %s, came from the remote in %s\n", prefix,
			t.Fetched, config.FormatSize(t.FetchedBytes), count(t.RoundTrips, "round trip"))
	}
	if t.HitsPrefetched+t.HitsRemote > 0 {
		fmt.Fprintf(w, "%sof the hits %s\n", prefix, hitKinds(t.Counts))
	}
	if t.RemoteErrors > 0 {
		fmt.Fprintf(w, "%sthe remote failed %d times, which cost hits only; see the agent's log (larder doctor)\n", prefix, t.RemoteErrors)
	}
	fmt.Fprintf(w, "%s%s; waited %s for the cache\n", prefix, saved(t.Counts), seconds(t.WaitSeconds))
	if t.PutErrors > 0 {
		fmt.Fprintf(w, "%s%s could not be stored anywhere; run \"larder doctor\"\n", prefix, count(t.PutErrors, "output"))
	}
}

// hitKinds says where hits came from.
func hitKinds(c stats.Counts) string {
	return fmt.Sprintf("%d were here, %d came before they were asked for, %d were waited for",
		c.Hits-c.HitsPrefetched-c.HitsRemote, c.HitsPrefetched, c.HitsRemote)
}

// kindHits says how many of the gets of each kind were hits.
func kindHits(k stats.Kinds) string {
	if k[content.Unknown].Hits > 0 && k[content.Unknown].Hits == k.Hits() {
		return "known from the next time on (they were built without Larder)"
	}
	var parts []string
	for _, g := range k.Groups() {
		parts = append(parts, fmt.Sprintf("%s %d of %d", g.Name, g.Hits, g.Gets()))
	}
	return strings.Join(parts, ", ")
}

func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func countMisses(n int64) string {
	if n == 1 {
		return "1 miss"
	}
	return fmt.Sprintf("%d misses", n)
}

// missKinds names the misses that are not plain absence, if there are any.
func missKinds(m stats.Misses) (text string) {
	add := func(n int64, what string) {
		if n > 0 {
			text += fmt.Sprintf(", %d %s", n, what)
		}
	}
	add(m.Damaged, "with a damaged action file")
	add(m.OutputMissing, "with a missing output")
	add(m.Unreadable, "unreadable")
	if text != "" {
		text = " (of these" + text[1:] + ")"
	}
	return text
}

// saved says what the hits saved. The figure is a sum over actions, which the
// go command runs side by side, so it is work, not time on the clock.
func saved(c stats.Counts) string {
	switch {
	case c.Hits == 0:
		return "saved nothing yet"
	case c.CostUnknown > 0 && c.SavedSeconds == 0: // of the others it is known that they cost nothing by themselves
		return "what the hits saved is not known (they were built without Larder)"
	case c.CostUnknown > 0:
		return fmt.Sprintf("saved %s of building, and %s of unknown cost", seconds(c.SavedSeconds), count(c.CostUnknown, "hit"))
	default:
		return fmt.Sprintf("saved %s of building", seconds(c.SavedSeconds))
	}
}

// seconds writes a time for a person.
func seconds(s float64) string {
	switch {
	case s < 0.0995:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 9.95:
		return fmt.Sprintf("%.2f s", s)
	case s < 120:
		return fmt.Sprintf("%.0f s", s)
	case s < 2*3600:
		return fmt.Sprintf("%.0f min", s/60)
	default:
		return fmt.Sprintf("%.1f h", s/3600)
	}
}
