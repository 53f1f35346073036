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
	"slices"
	"strconv"
	"strings"

	"github.com/larder-build/larder/internal/bench"
	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/faulttest"
)

// benchOptions are the flags of "larderd bench".
type benchOptions struct {
	module, work, larder string
	only, rtts, edit     string
	rounds               int
	asJSON               bool
}

// sections are what can be measured; the first two by default.
const sections = "cold,edit,uploading,trouble,server"

func benchCommand() cli.Command {
	return cli.Command{
		Name:  "bench",
		Args:  "[-- PACKAGE...]",
		Short: "time builds on machines that have nothing, with a team server that has all",
		Long: `Machines are directories with a home, a cache and an agent of their own; the
network is a proxy in this process that delays all bytes; the server is this
program. A ratio is the median over the rounds. The sections:

  cold       a machine with an empty cache, against GOCACHE restored from an
             archive (tar and zstd are needed), at each round trip time
  edit       the same after an edit to the package with the most dependents, and
             the native build alone, which no cache can be faster than
  uploading  a cold build with a remote to upload to, against none
  trouble    a cold build with a remote that has nothing, hangs, drops, resets or
             is far away, against none
  server     requests a second, against nginx if there is one

The last three take minutes a round. A directory given with -work is used again.

For example, the figures of docs/benchmarks.md:
  larderd bench -module github.com/caddyserver/caddy/v2@v2.11.9 -work DIR -- ./cmd/caddy`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			var o benchOptions
			fs.StringVar(&o.module, "module", "", "build this `path@version` from the module proxy, instead of the current directory's module")
			fs.StringVar(&o.work, "work", "", "keep caches in this `directory`; a temporary one by default")
			fs.StringVar(&o.larder, "larder", "", "the larder `program`; beside this one by default")
			fs.StringVar(&o.only, "only", "cold,edit", "the `sections` to run, of "+sections)
			fs.StringVar(&o.rtts, "rtt", "0,5,20,50", "round trip `times` of the cold section, in milliseconds")
			fs.StringVar(&o.edit, "edit", "", "the `file` to edit, relative to the module's root")
			fs.IntVar(&o.rounds, "n", 3, "`rounds`")
			fs.BoolVar(&o.asJSON, "json", false, "print JSON")
			return func(ctx context.Context, args []string) error {
				if len(args) == 0 {
					args = []string{"./..."}
				}
				return runBench(ctx, o, args)
			}
		},
	}
}

// A benchReport is what was measured.
type benchReport struct {
	CPUs      int            `json:"cpus"`
	Go        string         `json:"go"`
	Module    string         `json:"module"`
	Packages  int            `json:"packages"`
	Archive   int64          `json:"archive_bytes,omitempty"`
	Cold      []bench.Result `json:"cold,omitempty"`
	Edit      []bench.Result `json:"edit,omitempty"`
	Edited    string         `json:"edited,omitempty"`
	Uploading []bench.Result `json:"uploading,omitempty"`
	Trouble   []bench.Result `json:"trouble,omitempty"`
	Server    []load         `json:"server,omitempty"`
	AgentPeak int64          `json:"agent_peak_bytes,omitempty"`
}

// A bencher is one run of the benchmarks.
type bencher struct {
	options         benchOptions
	packages        []string
	larder, larderd string // programs
	source, work    string
	proxy           *faulttest.Proxy
	report          benchReport
}

func runBench(ctx context.Context, o benchOptions, packages []string) (err error) {
	for _, s := range strings.Split(o.only, ",") {
		if !slices.Contains(strings.Split(sections, ","), s) {
			return &cli.UsageError{What: fmt.Sprintf("-only: no section %q", s)}
		}
	}
	b := &bencher{options: o, packages: packages, larder: o.larder}
	if b.larderd, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	if b.larder == "" {
		b.larder = filepath.Join(filepath.Dir(b.larderd), "larder")
	}
	if b.larder, err = filepath.Abs(b.larder); err != nil {
		return err
	}
	if _, err := os.Stat(b.larder); err != nil {
		return &cli.HintError{Err: fmt.Errorf("find larder: %w", err), Hint: "name it with -larder"}
	}
	var done func()
	if b.work, done, err = bench.Work(o.work); err != nil {
		return err
	}
	defer done()
	defer os.RemoveAll(b.discarded())
	if b.source, err = bench.Module(ctx, o.module, b.work); err != nil {
		return err
	}
	if err := b.describe(ctx); err != nil {
		return err
	}
	if err := b.run(ctx); err != nil {
		return err
	}
	if o.asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(b.report)
	}
	return b.report.print()
}

func (b *bencher) wants(section string) bool {
	return slices.Contains(strings.Split(b.options.only, ","), section)
}

func (b *bencher) run(ctx context.Context) error {
	if b.wants("cold") || b.wants("edit") || b.wants("server") {
		server, err := b.startServer(ctx, "server")
		if err != nil {
			return err
		}
		defer server.stop()
		if err := b.fill(ctx, server); err != nil {
			return err
		}
		if b.wants("cold") {
			if b.report.Cold, err = b.cold(ctx); err != nil {
				return err
			}
		}
		if b.wants("edit") {
			if b.report.Edit, err = b.edit(ctx); err != nil {
				return err
			}
		}
		if b.wants("server") {
			if b.report.Server, err = b.load(ctx, server); err != nil {
				return err
			}
		}
	}
	var err error
	if b.wants("uploading") {
		if b.report.Uploading, err = b.uploading(ctx); err != nil {
			return err
		}
	}
	if b.wants("trouble") {
		b.report.Trouble, err = b.trouble(ctx)
	}
	return err
}

// goCommand is a go command in the module, with a cache and perhaps a cache program.
func (b *bencher) goCommand(ctx context.Context, cache string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(), "GOCACHE="+cache, "GOCACHEPROG=", "GOWORK=off", "GOFLAGS=-buildvcs=false")
	return cmd
}

// build is the build that is timed. Its binary is new, so it is linked.
func (b *bencher) build(ctx context.Context, cache string) *exec.Cmd {
	return b.goCommand(ctx, cache, append([]string{"build", "-o", b.bin()}, b.packages...)...)
}

func (b *bencher) bin() string    { return filepath.Join(b.work, "bin") + string(filepath.Separator) }
func (b *bencher) native() string { return filepath.Join(b.work, "native") }

// discarded is where the machines of earlier rounds are.
func (b *bencher) discarded() string { return filepath.Join(b.work, "discarded") }

func (b *bencher) archive() string { return filepath.Join(b.work, "native.tar.zst") }

func (b *bencher) describe(ctx context.Context) error {
	b.report.CPUs, b.report.Module = runtime.NumCPU(), b.options.module
	out, err := b.goCommand(ctx, b.native(), append([]string{"list", "-deps"}, b.packages...)...).Output()
	if err != nil {
		return fmt.Errorf("list packages: %w", err)
	}
	b.report.Packages = strings.Count(string(out), "\n")
	out, err = b.goCommand(ctx, b.native(), "env", "GOVERSION").Output()
	b.report.Go = strings.TrimSpace(string(out))
	return err
}

// newBin removes what the last build made.
func (b *bencher) newBin() error {
	return errors.Join(os.RemoveAll(b.bin()), os.MkdirAll(b.bin(), 0o777))
}

// A machine is a directory.
type machine struct {
	b    *bencher
	name string
	env  []string // beside the usual
}

func (m machine) home() string  { return filepath.Join(m.b.work, "machines", m.name) }
func (m machine) cache() string { return filepath.Join(m.home(), "gocache") }

// environ is that of the machine's programs; mode is LARDER_MODE.
func (m machine) environ(env []string) []string {
	return append(append(env, "HOME="+m.home(), "XDG_CACHE_HOME="+filepath.Join(m.home(), ".cache"),
		"GOPATH="+goEnv("GOPATH"), "GOMODCACHE="+goEnv("GOMODCACHE"), "GOENV=off", "LARDER_LARDERD="+m.b.larderd), m.env...)
}

func goEnv(name string) string {
	out, _ := exec.Command("go", "env", name).Output()
	return strings.TrimSpace(string(out))
}

func (m machine) build(ctx context.Context) *exec.Cmd {
	cmd := m.b.build(ctx, m.cache())
	cmd.Env = m.environ(append(cmd.Env, "GOCACHEPROG="+m.b.larder))
	return cmd
}

// run runs one of Larder's own programs on the machine.
func (m machine) run(ctx context.Context, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = m.b.source
	cmd.Env = m.environ(append(os.Environ(), "GOCACHE="+m.cache()))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s %v: %w\n%s", program, args, err, out)
	}
	return nil
}

// wipe makes the machine new. What its agent took in memory is noted first.
func (m machine) wipe(ctx context.Context) error {
	pids, _ := filepath.Glob(filepath.Join(m.home(), ".cache", "larder", "*", "agent.pid"))
	for _, name := range pids {
		pid, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if n, err := strconv.Atoi(strings.TrimSpace(string(pid))); err == nil {
			if peak, err := bench.PeakMemory(n); err == nil {
				m.b.report.AgentPeak = max(m.b.report.AgentPeak, peak)
			}
		}
		if err := m.run(ctx, m.b.larderd, "agent", "-stop"); err != nil {
			return err
		}
	}
	if err := bench.Discard(m.home(), m.b.discarded()); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(m.home(), 0o777), m.b.newBin())
}

// A benchServer is a running team server with a proxy before it.
type benchServer struct {
	*bench.Server
	proxy *faulttest.Proxy
}

// startServer starts a server on a directory below work.
func (b *bencher) startServer(ctx context.Context, name string) (*benchServer, error) {
	server, err := bench.StartServer(ctx, b.larderd, filepath.Join(b.work, name), "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	proxy, err := faulttest.NewProxy(server.Addr())
	if err != nil {
		return nil, errors.Join(err, server.Kill())
	}
	b.proxy = proxy
	return &benchServer{server, proxy}, nil
}

func (s *benchServer) stop() {
	s.proxy.Close()
	s.Stop() // how it ends is not what is measured
}

func (b *bencher) remoteEnv() string { return "LARDER_REMOTE=http://" + b.proxy.Addr() }

// settleBytes is what a build that links uses of memory, files included.
const settleBytes = 2 << 30

func (b *bencher) compare(ctx context.Context, what string, warmUp int, arms []bench.Arm) ([]bench.Result, error) {
	bar := cli.NewProgress(os.Stderr, what)
	defer bar.End()
	for i, arm := range arms {
		arms[i].Prepare = func() error {
			err := arm.Prepare()
			bench.SettleMemory(settleBytes)
			return err
		}
	}
	return bench.Compare(ctx, warmUp, b.options.rounds, arms, bar.Set)
}

func (r *benchReport) print() error {
	w := bufio.NewWriter(os.Stdout)
	fmt.Fprintf(w, "%s, %d CPUs; %s, %d packages", r.Go, r.CPUs, r.Module, r.Packages)
	if r.Archive > 0 {
		fmt.Fprintf(w, ", archive of %s", config.FormatSize(r.Archive))
	}
	fmt.Fprintln(w)
	bench.WriteTable(w, "cold machine, warm server", r.Cold)
	if r.AgentPeak > 0 {
		fmt.Fprintf(w, "peak memory of the agent: %s\n", config.FormatSize(r.AgentPeak))
	}
	bench.WriteTable(w, "the same after an edit to "+r.Edited, r.Edit)
	bench.WriteTable(w, "cold build, uploading", r.Uploading)
	bench.WriteTable(w, "cold build, trouble with the remote", r.Trouble)
	writeLoad(w, r.Server)
	return w.Flush()
}
