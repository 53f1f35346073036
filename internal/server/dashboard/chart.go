package dashboard

import (
	"strconv"
	"time"

	"github.com/larder-build/larder/internal/server/history"
)

// A chart is a table of numbers over time; the page's script draws it.
type chart struct {
	ID, Title string
	Note      string // what the numbers mean
	Kind      string // lines, area, or bars, which are stacked
	Unit      string // percent, bytes, seconds or count
	Columns   []column
	Rows      []row
	Day       bool // times are days
	Empty     bool // there is nothing to draw
}

type column struct {
	Name  string
	Color int    // 1 to 5, in the style sheet
	Sum   string // over all rows, or of the last one
}

type row struct {
	Time  time.Time
	Cells []cell
}

// A cell is a number, for people and for the script; both are "" if there is none.
type cell struct{ Text, Value string }

func number(v float64, text string) cell {
	return cell{text, strconv.FormatFloat(v, 'g', 8, 64)}
}

func countCell(n int64) cell     { return number(float64(n), formatCount(n)) }
func bytesCell(n int64) cell     { return number(float64(n), formatBytes(n)) }
func secondsCell(s float64) cell { return number(s, formatSeconds(s)) }
func rowsOf(p []history.Point, cells func(p *history.Point) []cell) []row {
	rows := make([]row, len(p))
	for i := range p {
		rows[i] = row{p[i].Time, cells(&p[i])}
	}
	return rows
}

// charts are those of the overview.
func charts(points []history.Point, total history.Point, limit int64) []chart {
	s := total.Sessions
	rate, ok := s.HitRate()
	rateText := "–"
	if ok {
		rateText = formatPercent(rate)
	}
	last := points[len(points)-1]
	for i := len(points) - 1; i >= 0; i-- {
		if points[i].Bytes > 0 {
			last = points[i]
			break
		}
	}
	local := func(s history.SessionSums) int64 { return s.Hits - s.HitsPrefetched - s.HitsRemote }
	storage := chart{
		ID: "stored", Title: "Storage", Kind: "area", Unit: "bytes", Empty: last.Bytes == 0,
		Note:    "Bodies as they are stored, and their records.",
		Columns: []column{{"Stored", 1, formatBytes(last.Bytes)}},
		Rows: rowsOf(points, func(p *history.Point) []cell {
			cells := []cell{{}}
			if p.Bytes > 0 {
				cells[0] = bytesCell(p.Bytes)
			}
			if limit > 0 {
				cells = append(cells, bytesCell(limit))
			}
			return cells
		}),
	}
	if limit > 0 {
		storage.Columns = append(storage.Columns, column{"Limit", 5, formatBytes(limit)})
	}
	return []chart{
		{
			ID: "rate", Title: "Hit rate", Kind: "lines", Unit: "percent", Empty: !ok,
			Note:    "Hits per get of the builds that ended in each step, wherever the hits were from.",
			Columns: []column{{"Hit rate", 1, rateText}},
			Rows: rowsOf(points, func(p *history.Point) []cell {
				rate, ok := p.Sessions.HitRate()
				if !ok {
					return []cell{{}}
				}
				return []cell{number(rate, formatPercent(rate))}
			}),
		},
		{
			ID: "gets", Title: "What builds asked for", Kind: "bars", Unit: "count", Empty: s.Gets == 0,
			Note: "Local: it was in the machine's store. Prefetched: it had come from here before it was asked for. Waited for: it came while the build waited. Missed: it was built.",
			Columns: []column{
				{"Local", 1, formatCount(local(s))}, {"Prefetched", 2, formatCount(s.HitsPrefetched)},
				{"Waited for", 3, formatCount(s.HitsRemote)}, {"Missed", 4, formatCount(s.Gets - s.Hits)},
			},
			Rows: rowsOf(points, func(p *history.Point) []cell {
				s := p.Sessions
				return []cell{countCell(local(s)), countCell(s.HitsPrefetched), countCell(s.HitsRemote), countCell(s.Gets - s.Hits)}
			}),
		},
		{
			ID: "saved", Title: "Build time saved", Kind: "bars", Unit: "seconds", Empty: s.Count == 0,
			Note:    "Saved: what hits had cost when they were built. Built: what was missed. Both are summed over actions, which run side by side, so they are work and not time on the clock.",
			Columns: []column{{"Saved", 2, formatSeconds(s.SavedSeconds)}, {"Built", 4, formatSeconds(s.BuildSeconds)}},
			Rows: rowsOf(points, func(p *history.Point) []cell {
				return []cell{secondsCell(p.Sessions.SavedSeconds), secondsCell(p.Sessions.BuildSeconds)}
			}),
		},
		{
			ID: "traffic", Title: "Traffic", Kind: "lines", Unit: "bytes", Empty: total.SentBytes+total.PutBytes == 0,
			Note:    "Bodies of entries, as they are sent: compressed.",
			Columns: []column{{"Sent", 1, formatBytes(total.SentBytes)}, {"Received", 3, formatBytes(total.PutBytes)}},
			Rows: rowsOf(points, func(p *history.Point) []cell {
				return []cell{bytesCell(p.SentBytes), bytesCell(p.PutBytes)}
			}),
		},
		storage,
	}
}
