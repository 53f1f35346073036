package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/store"
)

func trimCommand() cli.Command {
	return cli.Command{
		Name:  "trim",
		Short: "remove now what the cache would remove by and by",
		Long: `Entries that have not been used for max_age go, then the least recently used
until the store is within max_size. What was used in the last two hours stays,
and so does everything that a go command that still runs may have been given.
The helper does this by itself, once a day and when max_size is exceeded. If one is just
doing it, trim waits for that first.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			flags := config.AddFlags(fs)
			asJSON := fs.Bool("json", false, "print JSON")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				return trim(ctx, commandConfig(flags), *asJSON)
			}
		},
	}
}

// trimAgain is the time between two looks whether another process has done trimming.
const trimAgain = 50 * time.Millisecond

func trim(ctx context.Context, cfg config.Config, asJSON bool) error {
	bar := cli.NewProgress(os.Stderr, "trim")
	report, err := store.Trim(ctx, store.Options{Dir: cfg.Dir}, limits(cfg), bar.Set)
	for err == nil && report.Busy {
		// What it removes is not yet what was asked for: it has other limits, perhaps,
		// and has seen what was there before.
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case <-time.After(trimAgain):
			report, err = store.Trim(ctx, store.Options{Dir: cfg.Dir}, limits(cfg), bar.Set)
		}
	}
	bar.End()
	if err != nil {
		return fmt.Errorf("trim %s: %w", cfg.Dir, err)
	}
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(report)
	}
	fmt.Printf("removed %s (%s and %s) of %s in %s\n", config.FormatSize(report.RemovedBytes),
		count(int64(report.RemovedActions), "action"), count(int64(report.RemovedOutputs), "output"),
		config.FormatSize(report.Bytes), cfg.Dir)
	if left := report.Bytes - report.RemovedBytes; cfg.MaxSize > 0 && left > cfg.MaxSize {
		fmt.Printf("%s are left, more than max_size (%s): they were used too recently to be removed\n", config.FormatSize(left), config.FormatSize(cfg.MaxSize))
	}
	return nil
}
