//go:build unix

// Soak has many go commands on many simulated machines share one server for as
// long as asked, with faults at random, and compares all that they make with what
// they make without a cache.
//
//	go run ./e2e/soak -for 1h
//	go run ./e2e/soak -each .
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"

	"github.com/larder-build/larder/internal/soak"
)

func main() {
	length := flag.Duration("for", time.Minute, "how long")
	seed := flag.Uint64("seed", rand.Uint64(), "what the random choices come from; 0 is not special")
	machines := flag.Int("machines", 3, "how many machines there are at a time")
	each := flag.String("each", "", "suffer every fault once instead whose name matches this regular expression")
	module := flag.String("module", "github.com/BurntSushi/toml@v1.6.0", "path@version of the module that they build and test")
	work := flag.String("work", "", "directory to work in, kept; by default a new one, removed unless something is wrong")
	quiet := flag.Bool("q", false, "print the result only")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *length, *seed, *machines, *each, *module, *work, *quiet); err != nil {
		fmt.Fprintf(os.Stderr, "soak: seed %d: %v\n", *seed, err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, length time.Duration, seed uint64, machines int, each, module, work string, quiet bool) (err error) {
	if work == "" {
		if work, err = os.MkdirTemp("", "larder-soak-"); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(work)
			}
		}()
		if err := os.Chmod(work, 0o755); err != nil { // other users build here, too
			return err
		}
	}
	wanted, err := regexp.Compile(each)
	if err != nil {
		return err
	}
	bin := filepath.Join(work, "bin")
	build := exec.CommandContext(ctx, "go", "build", "-o", bin+string(filepath.Separator), "./cmd/larder", "./cmd/larderd")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build Larder (in its own repository): %w\n%s", err, out)
	}
	begin := time.Now()
	say := func(format string, args ...any) {
		if !quiet {
			fmt.Printf("%8.1f  "+format+"\n", append([]any{time.Since(begin).Seconds()}, args...)...)
		}
	}
	fmt.Printf("seed %d, in %s\n", seed, work)
	lab, err := soak.New(ctx, soak.Options{Work: work, Bin: bin, Module: module, Verbose: say})
	if err != nil {
		return err
	}
	var report soak.Report
	if each != "" {
		report, err = lab.Each(ctx, seed, func(f soak.Fault) bool { return wanted.MatchString(f.String()) })
	} else {
		report, err = lab.Run(ctx, machines, seed, length)
	}
	fmt.Printf("%d visits, %d faults, %.0f s\n", report.Visits, report.Faults, time.Since(begin).Seconds())
	return errors.Join(err, lab.Close())
}
