package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/store"
)

func verifyCommand() cli.Command {
	return cli.Command{
		Name:  "verify",
		Short: "hash every output in the cache again and take damage out of it",
		Long: `Damaged files are moved to larder/quarantine in the store, so that the next
build makes them anew; trimming removes them after five days. The exit code is
1 if there was damage.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			flags := config.AddFlags(fs)
			asJSON := fs.Bool("json", false, "print JSON")
			keep := fs.Bool("keep", false, "only report, move nothing")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				return verify(ctx, commandConfig(flags), !*keep, *asJSON)
			}
		},
	}
}

func verify(ctx context.Context, cfg config.Config, quarantine, asJSON bool) error {
	bar := cli.NewProgress(os.Stderr, "verify")
	report, err := store.Verify(ctx, store.Options{Dir: cfg.Dir}, quarantine, bar.Set)
	bar.End()
	if err != nil {
		return fmt.Errorf("verify %s: %w", cfg.Dir, err)
	}
	if asJSON {
		if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
			return err
		}
	} else {
		for _, p := range report.Problems {
			fmt.Printf("%s: %s\n", p.Path, p.What)
		}
		if n := report.ProblemCount - len(report.Problems); n > 0 {
			fmt.Printf("and %d more\n", n)
		}
		fmt.Printf("%s, %s, %s: %s\n", count(int64(report.Actions), "action"), count(int64(report.Outputs), "output"),
			config.FormatSize(report.Bytes), count(int64(report.ProblemCount), "problem"))
	}
	switch {
	case report.ProblemCount == 0:
		return nil
	case quarantine && !asJSON:
		fmt.Printf("what was damaged is now in %s/larder/quarantine; the next build makes it anew\n", cfg.Dir)
	}
	return &cli.ExitError{Code: cli.ExitFail}
}
