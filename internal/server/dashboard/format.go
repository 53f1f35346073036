package dashboard

import (
	"fmt"
	"strconv"
	"time"

	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/server/history"
)

func formatBytes(n int64) string { return config.FormatSize(n) }

// formatCount groups digits.
func formatCount(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// formatSeconds is a time of one or two units.
func formatSeconds(s float64) string {
	const minute, hour, day = 60, 3600, 86400
	two := func(big, small int64, bigUnit, smallUnit string) string {
		n := int64(s+0.5*float64(small)) / small
		a, b := n/(big/small), n%(big/small)
		if b == 0 {
			return fmt.Sprintf("%s %s", formatCount(a), bigUnit)
		}
		return fmt.Sprintf("%s %s %d %s", formatCount(a), bigUnit, b, smallUnit)
	}
	switch {
	case s <= 0:
		return "0 s"
	case s < 0.0005:
		return "< 1 ms"
	case s < 0.9995:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 9.95:
		return fmt.Sprintf("%.1f s", s)
	case s < minute-0.5:
		return fmt.Sprintf("%.0f s", s)
	case s < hour-0.5:
		return two(minute, 1, "min", "s")
	case s < 100*hour:
		return two(hour, minute, "h", "min")
	}
	return two(day, hour, "d", "h")
}

// formatPercent is of a part of one. Only what is all is 100%.
func formatPercent(part float64) string {
	switch text := fmt.Sprintf("%.1f%%", 100*part); {
	case text == "100.0%" && part < 1:
		return "99.9%"
	case text == "100.0%":
		return "100%"
	case text == "0.0%" && part > 0:
		return "< 0.1%"
	case text == "0.0%":
		return "0%"
	default:
		return text
	}
}

// width is of a bar, as an attribute.
func width(part float64) string { return fmt.Sprintf("%.1f%%", 100*min(max(part, 0), 1)) }

func formatStamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }
func formatISO(t time.Time) string   { return t.UTC().Format(time.RFC3339) }

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return formatCount(n) + " " + many
}

// hitRate is a session's, as text; "–" if it asked for nothing.
func hitRate(s *history.Session) string {
	if s.Gets == 0 {
		return "–"
	}
	return formatPercent(s.HitRate())
}

// savedText is what a session saved, as far as it is known.
func savedText(s *history.Session) string {
	switch {
	case s.CostUnknown > 0 && s.SavedSeconds == 0:
		return "not known"
	case s.CostUnknown > 0:
		return "over " + formatSeconds(s.SavedSeconds)
	}
	return formatSeconds(s.SavedSeconds)
}

func localHits(s *history.Session) int64 { return s.Hits - s.HitsPrefetched - s.HitsRemote }
