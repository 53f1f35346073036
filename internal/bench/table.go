package bench

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// WriteTable writes results, with each arm's ratio to the first.
func WriteTable(w io.Writer, title string, results []Result) {
	if len(results) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s, seconds of %d rounds\n", title, len(results[0].Seconds))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "min\tmedian\tmax\t× %s\t\n", results[0].Name)
	for _, r := range results {
		fmt.Fprintf(tw, "%.4f\t%.4f\t%.4f\t%.3f\t  %s\n", slices.Min(r.Seconds), Median(r.Seconds), slices.Max(r.Seconds), Ratio(r, results[0]), r.Name)
	}
	tw.Flush()
}
