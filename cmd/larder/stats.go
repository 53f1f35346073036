package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/stats"
)

func statsCommand() cli.Command {
	return cli.Command{
		Name:  "stats",
		Short: "what the cache did: in total, and in the last sessions",
		Long: `A session is one go command. "Saved" is what the hits cost when they were
built, summed over actions; the go command runs actions side by side, so the
time saved on the clock is less. A miss is of the kind of what was put then; of
unknown kind are those after which nothing was put, such as programs, and hits on
what was built without Larder, until it has been used once more.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			flags := config.AddFlags(fs)
			asJSON := fs.Bool("json", false, "print JSON")
			markdown := fs.Bool("markdown", false, "print the total as a table in Markdown")
			openMetrics := fs.Bool("openmetrics", false, "print the total as OpenMetrics text")
			last := fs.Int("n", 10, "how many of the last `sessions` to list; with -packages, of those that built something")
			packages := fs.Bool("packages", false, "show what the last session that built something has compiled and tested, the slowest first")
			reset := fs.Bool("reset", false, "forget all sessions")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				cfg := commandConfig(flags)
				log := stats.OpenLog(cfg.Dir)
				if *reset {
					return log.Reset()
				}
				if *markdown || *openMetrics {
					total, _, err := log.Read()
					if err != nil {
						return fmt.Errorf("read the sessions: %w", err)
					}
					if *markdown {
						writeMarkdown(os.Stdout, "", total, 0)
					} else {
						writeOpenMetrics(os.Stdout, total)
					}
					return nil
				}
				if *packages {
					return showPackages(log, cfg.Dir, given(fs, "n", *last, 1), *asJSON)
				}
				return showStats(log, cfg.Dir, *last, *asJSON)
			}
		},
	}
}

// given is a flag's value if it was given, else another one.
func given(fs *flag.FlagSet, name string, value, otherwise int) int {
	found := false
	fs.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	if !found {
		return otherwise
	}
	return value
}

func showStats(log stats.Log, dir string, last int, asJSON bool) error {
	total, sessions, err := log.Read()
	if err != nil {
		return fmt.Errorf("read the sessions: %w", err)
	}
	sessions = sessions[len(sessions)-min(max(last, 0), len(sessions)):]
	if asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(struct {
			Dir   string          `json:"dir"`
			Total stats.Total     `json:"total"`
			Last  []stats.Session `json:"last"`
		}{dir, total, append([]stats.Session{}, sessions...)})
	}
	if total.Sessions == 0 {
		fmt.Printf("no sessions yet in %s\n", dir)
		return nil
	}
	fmt.Printf("since %s, in %s\n", total.Since.Local().Format("2006-01-02 15:04"), dir)
	if cli.IsTerminal(os.Stdout) {
		fmt.Printf("  %s\n", bar(total.HitRate(), os.Getenv("NO_COLOR") == ""))
	}
	writeSummary(os.Stdout, "  ", total)
	if len(sessions) == 0 {
		return nil
	}
	fmt.Println()
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "when\tin\tgets\thits\tread\twritten\twaited\tsaved\ttook")
	for _, s := range sessions {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%.1f%%\t%s\t%s\t%s\t%s\t%s\n", s.Start.Local().Format("01-02 15:04:05"), filepath.Base(s.Dir),
			s.Gets, 100*s.HitRate(), config.FormatSize(s.HitBytes), config.FormatSize(s.PutBytes), seconds(s.WaitSeconds), sessionSaved(s), seconds(s.Seconds))
	}
	return tw.Flush()
}

// barWidth is how many columns a bar has.
const barWidth = 40

// bar draws a hit rate, for a terminal.
func bar(rate float64, colour bool) string {
	const green, grey, plain = "\x1b[32m", "\x1b[90m", "\x1b[0m"
	full := int(rate*barWidth + 0.5)
	hits, misses := strings.Repeat("█", full), strings.Repeat("░", barWidth-full)
	if colour {
		hits, misses = green+hits, grey+misses+plain
	}
	return fmt.Sprintf("%s%s %.1f%% hits", hits, misses, 100*rate)
}

// sessionSaved is the time saved, marked where part of it is unknown.
func sessionSaved(s stats.Session) string {
	switch {
	case s.CostUnknown > 0 && s.SavedSeconds == 0:
		return "?"
	case s.CostUnknown > 0:
		return seconds(s.SavedSeconds) + "+?"
	}
	return seconds(s.SavedSeconds)
}
