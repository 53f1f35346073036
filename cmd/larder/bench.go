package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/bench"
	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
)

// benchOptions are the flags of "larder bench".
type benchOptions struct {
	module  string // path@version; "": the module of the current directory
	work    string // directory for stores and binaries; "": a temporary one
	rounds  int
	cold    int
	startup int
	putSize string
	asJSON  bool
	table   string // file of the table-in-RAM helper; not a benchmark then
}

func benchCommand() cli.Command {
	return cli.Command{
		Name:  "bench",
		Args:  "[-- PACKAGE...]",
		Short: "time builds with Larder against the go command's own cache",
		Long: `The same "go build" runs in turn natively, with Larder, and with a helper that
answers from a table in RAM: the least that the protocol can cost. A ratio is
the median over the rounds, so that a machine's noise cancels. The builds use
stores of their own; your cache is not touched. PACKAGE is ./... by default.

For example, the figures of docs/benchmarks.md:
  larder bench -module github.com/prometheus/prometheus@v0.315.0 -cold 3 -- ./cmd/prometheus`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			var o benchOptions
			fs.StringVar(&o.module, "module", "", "build this `path@version` from the module proxy, instead of the current directory's module")
			fs.StringVar(&o.work, "work", "", "keep stores in this `directory`, for a later run to find warm; a temporary one by default")
			fs.IntVar(&o.rounds, "n", 15, "counted `rounds` of the warm no-op build; 0 leaves it out")
			fs.IntVar(&o.cold, "cold", 0, "`rounds` of the cold build, which takes minutes; 0 leaves it out")
			fs.IntVar(&o.startup, "startup", 100, "`rounds` of the start to capabilities; 0 leaves it out")
			fs.StringVar(&o.putSize, "put", "200MB", "`size` of the body that is put while memory is watched (Linux only); 0 leaves it out")
			fs.BoolVar(&o.asJSON, "json", false, "print JSON")
			fs.StringVar(&o.table, "table", "", "be the helper that answers from a table in RAM, kept in `file`; this is what the benchmark starts")
			return func(ctx context.Context, args []string) error {
				if o.table != "" {
					return serveTable(ctx, o.table)
				}
				if len(args) == 0 {
					args = []string{"./..."}
				}
				return runBench(ctx, o, args)
			}
		},
	}
}

// A benchReport is what "larder bench" measured.
type benchReport struct {
	Go       string         `json:"go"`
	CPUs     int            `json:"cpus"`
	Module   string         `json:"module"`
	Packages int            `json:"packages"`
	Warm     []bench.Result `json:"warm,omitempty"`
	Cold     []bench.Result `json:"cold,omitempty"`
	Startup  []bench.Result `json:"startup,omitempty"`
	PutBytes int64          `json:"put_bytes,omitempty"`
	PutPeak  int64          `json:"put_peak_bytes,omitempty"` // peak resident memory of the helper
}

// A bencher is one run of the benchmarks.
type bencher struct {
	options  benchOptions
	packages []string
	self     string // this program's file
	source   string // directory of the module
	work     string
}

func runBench(ctx context.Context, o benchOptions, packages []string) error {
	putBytes, err := config.ParseSize(o.putSize)
	if err != nil {
		return &cli.UsageError{What: "-put: " + err.Error()}
	}
	b := &bencher{options: o, packages: packages}
	if b.self, err = ownPath(); err != nil {
		return err
	}
	var done func()
	if b.work, done, err = bench.Work(o.work); err != nil {
		return err
	}
	defer done()
	if b.source, err = bench.Module(ctx, o.module, b.work); err != nil {
		return err
	}
	report := benchReport{CPUs: runtime.NumCPU(), Module: o.module}
	if err := b.describe(ctx, &report); err != nil {
		return err
	}
	if o.rounds > 0 {
		if report.Warm, err = b.warm(ctx); err != nil {
			return err
		}
	}
	if o.cold > 0 {
		if report.Cold, err = b.cold(ctx); err != nil {
			return err
		}
	}
	if o.startup > 0 {
		if report.Startup, err = b.startup(ctx); err != nil {
			return err
		}
	}
	if putBytes > 0 {
		report.PutBytes = putBytes
		report.PutPeak, err = b.putPeak(ctx, putBytes)
		if errors.Is(err, errors.ErrUnsupported) {
			report.PutBytes = 0
		} else if err != nil {
			return err
		}
	}
	if o.asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(report)
	}
	return report.print()
}

// goCommand is a go command in the module with a store and, unless it is
// native, a cache program.
func (b *bencher) goCommand(ctx context.Context, store, prog string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(), "GOCACHE="+store, "GOCACHEPROG="+prog, "GOWORK=off")
	return cmd
}

// build is the build that is timed. Its binary stays in place, so that when
// nothing has changed nothing is linked either.
func (b *bencher) build(ctx context.Context, store, prog string) *exec.Cmd {
	out := filepath.Join(b.work, "bin") + string(filepath.Separator)
	return b.goCommand(ctx, store, prog, append([]string{"build", "-buildvcs=false", "-o", out}, b.packages...)...)
}

func (b *bencher) describe(ctx context.Context, report *benchReport) error {
	if err := os.MkdirAll(filepath.Join(b.work, "bin"), 0o777); err != nil {
		return err
	}
	store := filepath.Join(b.work, "warm")
	out, err := b.goCommand(ctx, store, "", append([]string{"list", "-deps"}, b.packages...)...).Output()
	if err != nil {
		return fmt.Errorf("list packages: %w%s", err, stderrOf(err))
	}
	report.Packages = strings.Count(string(out), "\n")
	if out, err = b.goCommand(ctx, store, "", "env", "GOVERSION").Output(); err != nil {
		return fmt.Errorf("ask for the go command's version: %w", err)
	}
	report.Go = strings.TrimSpace(string(out))
	if report.Module == "" {
		out, err = b.goCommand(ctx, store, "", "list", "-m").Output()
		report.Module = strings.TrimSpace(string(out))
	}
	return err
}

func stderrOf(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "\n" + string(exit.Stderr)
	}
	return ""
}

func (b *bencher) compare(ctx context.Context, what string, warmUp, rounds int, arms []bench.Arm) ([]bench.Result, error) {
	bar := cli.NewProgress(os.Stderr, what)
	defer bar.End()
	return bench.Compare(ctx, warmUp, rounds, arms, bar.Set)
}

// larder is the GOCACHEPROG of this program.
func (b *bencher) larder(args ...string) (string, error) {
	return cacheprog.JoinCommand(append([]string{b.self}, args...))
}

// warm compares the build in which nothing has changed. All arms work on one
// store, which a native build has filled.
func (b *bencher) warm(ctx context.Context) ([]bench.Result, error) {
	larder, err := b.larder()
	if err != nil {
		return nil, err
	}
	table, err := b.larder("bench", "-table", filepath.Join(b.work, "table"))
	if err != nil {
		return nil, err
	}
	// The table knows only this store's paths.
	if err := os.RemoveAll(filepath.Join(b.work, "table")); err != nil {
		return nil, err
	}
	store := filepath.Join(b.work, "warm")
	arm := func(name, prog string) bench.Arm {
		return bench.Arm{Name: name, Command: func(ctx context.Context) *exec.Cmd { return b.build(ctx, store, prog) }}
	}
	return b.compare(ctx, "warm build", 2, b.options.rounds, []bench.Arm{arm("native", ""), arm("larder", larder), arm("table in RAM", table)})
}

// cold compares the build from nothing.
func (b *bencher) cold(ctx context.Context) ([]bench.Result, error) {
	larder, err := b.larder()
	if err != nil {
		return nil, err
	}
	store := filepath.Join(b.work, "cold")
	defer os.RemoveAll(store)
	arm := func(name, prog string) bench.Arm {
		return bench.Arm{
			Name: name,
			Prepare: func() error {
				if err := os.RemoveAll(store); err != nil {
					return err
				}
				if err := os.RemoveAll(filepath.Join(b.work, "bin")); err != nil {
					return err
				}
				return os.Mkdir(filepath.Join(b.work, "bin"), 0o777)
			},
			Command: func(ctx context.Context) *exec.Cmd { return b.build(ctx, store, prog) },
		}
	}
	return b.compare(ctx, "cold build", 0, b.options.cold, []bench.Arm{arm("native", ""), arm("larder", larder)})
}

// startup compares the time to the helper's first line, and to its end, with
// that of an empty Go program, which has no first line.
func (b *bencher) startup(ctx context.Context) ([]bench.Result, error) {
	source := filepath.Join(b.work, "empty.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o666); err != nil {
		return nil, err
	}
	empty := filepath.Join(b.work, "empty.exe")
	if out, err := b.goCommand(ctx, filepath.Join(b.work, "warm"), "", "build", "-o", empty, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build an empty program: %w\n%s", err, out)
	}
	results, err := b.compare(ctx, "start", 3, b.options.startup, []bench.Arm{
		{Name: "empty program, start to end", Command: func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, empty) }},
		{Name: "larder, start to end", Command: func(ctx context.Context) *exec.Cmd {
			cmd := exec.CommandContext(ctx, b.self, "-dir", filepath.Join(b.work, "warm"))
			cmd.Stdin = nil // an empty session
			return cmd
		}},
	})
	if err != nil {
		return nil, err
	}
	first, err := b.firstLine(ctx)
	return append(results, first), err
}

// firstLine times the helper from its start to its capabilities.
func (b *bencher) firstLine(ctx context.Context) (bench.Result, error) {
	result := bench.Result{Name: "larder, start to capabilities"}
	for range b.options.startup {
		took, err := bench.TimeFirstLine(exec.CommandContext(ctx, b.self, "-dir", filepath.Join(b.work, "warm")))
		if err != nil {
			return result, fmt.Errorf("start larder: %w", err)
		}
		result.Seconds = append(result.Seconds, took.Seconds())
	}
	return result, nil
}

func (r *benchReport) print() error {
	w := bufio.NewWriter(os.Stdout)
	fmt.Fprintf(w, "%s, %d CPUs; %s, %d packages\n", r.Go, r.CPUs, r.Module, r.Packages)
	bench.WriteTable(w, "warm build, nothing changed", r.Warm)
	bench.WriteTable(w, "cold build", r.Cold)
	bench.WriteTable(w, "start", r.Startup)
	if r.PutBytes > 0 {
		fmt.Fprintf(w, "\npeak memory of the helper while a body of %s is put: %s\n", config.FormatSize(r.PutBytes), config.FormatSize(r.PutPeak))
	}
	return w.Flush()
}
