//go:build unix

// Package soak puts real go commands on simulated machines through whatever can
// go wrong, and compares what they make with what they make without a cache.
//
// A Lab is a directory with a real module, a team server behind a proxy, and
// machines, each a home directory with an agent and a GOCACHE of its own. A Fault
// is something that is wrong for a while. What must hold: exit codes, binaries
// and the verdicts of tests are those of the go command alone, within bounds of
// time; and when the fault is over, the next build is right, the one after it
// compiles nothing, and no store has anything damaged in it.
package soak

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/larder-build/larder/internal/bench"
	"github.com/larder-build/larder/internal/faulttest"
)

// Limit is how long the go commands of one visit may take together, whatever is
// wrong: a bound on hangs, not on speed.
const Limit = 4 * time.Minute

// Options say what a lab works with.
type Options struct {
	Work    string // an empty directory
	Bin     string // a directory with larder and larderd
	Module  string // path@version of the module that is built, from the module proxy
	Verbose func(format string, args ...any)
}

// A Lab is where it all happens.
type Lab struct {
	options Options
	module  string // directory of the module's source
	want    outcome
	server  *bench.Server
	proxy   *faulttest.Proxy
	liar    *faulttest.Liar
	goEnv   []string

	mu       sync.Mutex
	machines int
	between  []func() // end what stands between one machine and the server
}

// An outcome is what a visit's go commands did.
type outcome struct {
	exits    []int
	binaries map[string][sha256.Size]byte
	verdicts []string // of tests, sorted
	output   string   // of go commands that failed, for a person
}

func (o outcome) diff(want outcome) error {
	switch {
	case !slices.Equal(o.exits, want.exits):
		return fmt.Errorf("exit codes %v, want %v\n%s", o.exits, want.exits, o.output)
	case !maps.Equal(o.binaries, want.binaries):
		return fmt.Errorf("binaries %x, want %x", o.binaries, want.binaries)
	case !slices.Equal(o.verdicts, want.verdicts):
		return fmt.Errorf("verdicts of tests:\n%s\nwant:\n%s", strings.Join(o.verdicts, "\n"), strings.Join(want.verdicts, "\n"))
	}
	return nil
}

// New sets a lab up: it builds and tests the module without a cache program,
// which is what all is compared with, and starts the server.
func New(ctx context.Context, o Options) (*Lab, error) {
	l := &Lab{options: o}
	source, err := bench.Module(ctx, o.Module, o.Work)
	if err != nil {
		return nil, err
	}
	l.module = filepath.Join(o.Work, "module")
	if err := os.CopyFS(l.module, os.DirFS(source)); err != nil {
		return nil, err
	}
	for _, dir := range []string{source, l.module} {
		if err := makeOlder(dir); err != nil {
			return nil, err
		}
	}
	if err := l.findEnv(ctx); err != nil {
		return nil, err
	}
	// A first run elsewhere fills the base: a GOCACHE with the standard library in
	// it, which machines begin with, and not the module.
	if _, err := l.run(ctx, source, l.native()); err != nil {
		return nil, err
	}
	if err := link(l.path("base"), l.path("native")); err != nil {
		return nil, err
	}
	if l.want, err = l.run(ctx, l.module, l.nativeEnv("native")); err != nil {
		return nil, err
	}
	if len(l.want.binaries) == 0 || len(l.want.verdicts) == 0 {
		return nil, fmt.Errorf("%s has no commands or no tests", o.Module)
	}
	address, err := faulttest.FreeAddress() // it is started again there
	if err != nil {
		return nil, err
	}
	if l.server, err = bench.StartServer(ctx, filepath.Join(o.Bin, "larderd"), l.path("server"), address); err != nil {
		return nil, err
	}
	if l.proxy, err = faulttest.NewProxy(l.server.Addr()); err != nil {
		return nil, errors.Join(err, l.server.Kill())
	}
	if l.liar, err = faulttest.NewLiar(l.server.Addr()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close ends the server.
func (l *Lab) Close() error {
	l.proxy.Close()
	if l.liar != nil {
		l.liar.Close()
	}
	for _, end := range l.between {
		end()
	}
	return l.server.Stop()
}

// keep has something stay until the lab is closed.
func (l *Lab) keep(end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.between = append(l.between, end)
}

func (l *Lab) path(elem ...string) string {
	return filepath.Join(append([]string{l.options.Work}, elem...)...)
}

func (l *Lab) say(format string, args ...any) {
	if l.options.Verbose != nil {
		l.options.Verbose(format, args...)
	}
}

// findEnv keeps what the go command says of places, as machines have other homes.
func (l *Lab) findEnv(ctx context.Context) error {
	for _, name := range []string{"GOMODCACHE", "GOPROXY", "GOSUMDB", "GOROOT"} {
		out, err := exec.CommandContext(ctx, "go", "env", name).Output()
		if err != nil {
			return fmt.Errorf("go env %s: %w", name, err)
		}
		if value := strings.TrimSpace(string(out)); name == "GOROOT" {
			l.goEnv = append(l.goEnv, "PATH="+filepath.Join(value, "bin")+string(filepath.ListSeparator)+os.Getenv("PATH"))
		} else {
			l.goEnv = append(l.goEnv, name+"="+value)
		}
	}
	l.goEnv = append(l.goEnv, "GOENV=off", "GOFLAGS=-buildvcs=false", "GOTOOLCHAIN=local", "GOTELEMETRY=off", "GOWORK=off")
	return nil
}

func (l *Lab) native() []string { return l.nativeEnv("base") }

func (l *Lab) nativeEnv(cache string) []string {
	home := l.path("home")
	return append(slices.Clone(l.goEnv), "HOME="+home, "GOCACHE="+l.path(cache), "TMPDIR="+os.TempDir(), "GOCACHEPROG=")
}

// run is a visit's go commands: a build, a test, a vet.
func (l *Lab) run(ctx context.Context, dir string, env []string) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	out, err := os.MkdirTemp(l.options.Work, "out-")
	if err != nil {
		return o, err
	}
	defer os.RemoveAll(out)
	for _, args := range [][]string{
		{"build", "-o", out + string(filepath.Separator), "./..."},
		{"test", "-v", "./..."},
		{"vet", "./..."},
	} {
		code, stdout, stderr, err := l.goCommand(ctx, dir, env, args...)
		if err != nil {
			return o, err
		}
		o.exits = append(o.exits, code)
		if code != 0 {
			o.output += fmt.Sprintf("go %s:\n%s\n%s\n", strings.Join(args, " "), stdout, stderr)
		}
		if args[0] == "test" {
			o.verdicts = verdicts(stdout)
		}
	}
	o.binaries, err = hashes(out)
	return o, err
}

func (l *Lab) goCommand(ctx context.Context, dir string, env []string, args ...string) (code int, stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = dir, env
	cmd.WaitDelay = 10 * time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil {
		return 0, nil, nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), ctx.Err(), errOut.Bytes())
	}
	if errors.As(err, &exit) {
		return exit.ExitCode(), out.Bytes(), errOut.Bytes(), nil
	}
	if err == nil {
		for line := range strings.Lines(errOut.String()) {
			l.say("  %s", strings.TrimSpace(line))
		}
	}
	return 0, out.Bytes(), errOut.Bytes(), err
}

// verdict finds what a test run says of tests and packages, but not how long they
// took or whether that was seen now or before.
var verdict = regexp.MustCompile(`^\s*(?:--- (?:PASS|FAIL|SKIP): \S+|ok\s+\S+|FAIL\s+\S+|\?\s+\S+)`)

func verdicts(stdout []byte) (all []string) {
	for line := range bytes.Lines(stdout) {
		if v := verdict.Find(line); v != nil {
			all = append(all, string(v))
		}
	}
	slices.Sort(all)
	return all
}

func hashes(dir string) (map[string][sha256.Size]byte, error) {
	sums := make(map[string][sha256.Size]byte)
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		sums[e.Name()] = [sha256.Size]byte(h.Sum(nil))
	}
	return sums, err
}

// makeOlder makes files old enough for the go command to cache what it knows of
// them (cmd/go/internal/modindex/read.go, modTimeCutoff).
func makeOlder(dir string) error {
	then := time.Now().Add(-time.Hour)
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chtimes(path, then, then))
	})
}

// link makes a copy of a GOCACHE that shares its files, which are never rewritten.
func link(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o777)
		case strings.HasSuffix(rel, "-a") || strings.HasSuffix(rel, "-d"):
			return os.Link(path, filepath.Join(to, rel))
		}
		return nil
	})
}
