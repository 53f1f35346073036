package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/stats"
)

// stepSummaryVariable names the file to which a step of GitHub Actions appends
// what its page is to show
// (docs.github.com/actions/reference/workflow-commands-for-github-actions).
const stepSummaryVariable = "GITHUB_STEP_SUMMARY"

// writeMarkdown writes what the sessions of a total did as a table. The command is
// the one that was run, "" for many.
func writeMarkdown(w io.Writer, command string, t stats.Total, took time.Duration) {
	title := "Larder"
	if command != "" {
		title += ": `" + strings.NewReplacer("`", "'", "\n", " ").Replace(command) + "`"
	}
	fmt.Fprintf(w, "### %s\n\n| | |\n|---|---|\n", title)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "| %s | %s |\n", name, fmt.Sprintf(format, args...))
	}
	row("hits", "**%.1f%%**: %d of %s by %s", 100*t.HitRate(), t.Hits, count(t.Gets, "get"), count(t.Sessions, "go command"))
	if t.HitsPrefetched+t.HitsRemote > 0 {
		row("of the hits", "%s", hitKinds(t.Counts))
	}
	if t.Gets > 0 {
		row("hits by kind", "%s", kindHits(t.Kinds))
	}
	row("misses", "%d%s", t.Misses.Total(), missKinds(t.Misses))
	row("time", "%s; waited %s for the cache", saved(t.Counts), seconds(t.WaitSeconds))
	if took > 0 {
		row("took", "%s", seconds(took.Seconds()))
	}
	row("read from the cache", "%s", config.FormatSize(t.HitBytes))
	row("written to it", "%s", config.FormatSize(t.PutBytes))
	if t.RoundTrips > 0 {
		row("from the remote", "%d entries, %s, in %s", t.Fetched, config.FormatSize(t.FetchedBytes), count(t.RoundTrips, "round trip"))
	}
	if t.RemoteErrors > 0 {
		row("the remote failed", "%d times, which cost hits only", t.RemoteErrors)
	}
	fmt.Fprintln(w)
}

// A metric is one line of a metrics report.
type metric struct {
	name, help string
	value      float64
}

func metrics(t stats.Total) []metric {
	return []metric{
		{"larder_go_commands", "Go commands that used the cache.", float64(t.Sessions)},
		{"larder_gets", "Actions that were asked for.", float64(t.Gets)},
		{"larder_hits", "Actions that were there.", float64(t.Hits)},
		{"larder_hits_prefetched", "Hits that the remote had sent before they were asked for.", float64(t.HitsPrefetched)},
		{"larder_hits_remote", "Hits that were waited for.", float64(t.HitsRemote)},
		{"larder_hit_ratio", "Hits per get, between 0 and 1.", t.HitRate()},
		{"larder_puts", "Outputs that were put.", float64(t.Puts)},
		{"larder_read_bytes", "Bytes of the outputs of hits.", float64(t.HitBytes)},
		{"larder_written_bytes", "Bytes of the outputs that were put.", float64(t.PutBytes)},
		{"larder_fetched_entries", "Entries that came from the remote.", float64(t.Fetched)},
		{"larder_fetched_bytes", "Bytes that came from the remote.", float64(t.FetchedBytes)},
		{"larder_round_trips", "Round trips to the remote.", float64(t.RoundTrips)},
		{"larder_remote_errors", "Requests to the remote that failed.", float64(t.RemoteErrors)},
		{"larder_saved_seconds", "What the hits cost when they were built, summed over actions.", t.SavedSeconds},
		{"larder_wait_seconds", "What requests spent in Larder, summed.", t.WaitSeconds},
		{"larder_gained_seconds", "What was saved less what requests spent in Larder.", t.SavedSeconds - t.WaitSeconds},
		{"larder_build_seconds", "What was built, from misses to their puts, summed.", t.BuildSeconds},
		{"larder_cost_unknown_hits", "Hits whose cost is not known, and not in what was saved.", float64(t.CostUnknown)},
	}
}

// writeOpenMetrics writes a total as OpenMetrics text, which is what GitLab takes
// as a metrics report (docs.gitlab.com/ci/testing/metrics_reports).
func writeOpenMetrics(w io.Writer, t stats.Total) {
	head := func(name, help string) { fmt.Fprintf(w, "# TYPE %s gauge\n# HELP %s %s\n", name, name, help) }
	for _, m := range metrics(t) {
		head(m.name, m.help)
		fmt.Fprintf(w, "%s %g\n", m.name, m.value)
	}
	head("larder_kind_hits", "Hits by kind of entry.")
	for kind, c := range t.Kinds {
		fmt.Fprintf(w, "larder_kind_hits{kind=%q} %d\n", content.Kind(kind), c.Hits)
	}
	head("larder_kind_misses", "Misses by kind of entry.")
	for kind, c := range t.Kinds {
		fmt.Fprintf(w, "larder_kind_misses{kind=%q} %d\n", content.Kind(kind), c.Misses)
	}
	fmt.Fprint(w, "# EOF\n")
}

// reportRun writes a run's summary where a CI system looks for it. It never fails
// the run: what cannot be written is said.
func reportRun(args []string, t stats.Total, took time.Duration, metricsFile string) {
	if name := os.Getenv(stepSummaryVariable); name != "" && t.Sessions > 0 {
		appendFile(name, func(w io.Writer) { writeMarkdown(w, strings.Join(args, " "), t, took) })
	}
	if metricsFile != "" {
		if err := os.Remove(metricsFile); err != nil && !os.IsNotExist(err) {
			fmt.Fprintf(os.Stderr, "larder: write the metrics report: %v\n", err)
			return
		}
		appendFile(metricsFile, func(w io.Writer) { writeOpenMetrics(w, t) })
	}
}

func appendFile(name string, write func(io.Writer)) {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		fmt.Fprintf(os.Stderr, "larder: write a report: %v\n", err)
		return
	}
	var text strings.Builder
	write(&text)
	_, err = f.WriteString(text.String())
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "larder: write a report: %v\n", err)
	}
}
