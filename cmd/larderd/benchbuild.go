package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/larder-build/larder/internal/bench"
	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/faulttest"
)

// fill makes what the arms start from: a native cache and its archive, and a
// server that has what two sessions have left there: one that built it all, and
// one that found it all, whose manifest has just what a build needs.
func (b *bencher) fill(ctx context.Context, s *benchServer) error {
	bar := cli.NewProgress(os.Stderr, "fill caches")
	defer bar.End()
	done := filepath.Join(b.work, "filled")
	if _, err := os.Stat(done); err != nil {
		bar.Set(0, 3)
		cmd := b.build(ctx, b.native())
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build natively: %w\n%s", err, out)
		}
		tar := exec.CommandContext(ctx, "tar", "-I", "zstd -T0", "-C", b.work, "-cf", b.archive(), "native")
		if out, err := tar.CombinedOutput(); err != nil {
			return fmt.Errorf("make the archive (tar and zstd are needed): %w\n%s", err, out)
		}
		for i, name := range []string{"builder", "finder"} {
			bar.Set(1+i, 3)
			m := machine{b, name, []string{b.remoteEnv()}}
			if err := m.wipe(ctx); err != nil {
				return err
			}
			if out, err := m.build(ctx).CombinedOutput(); err != nil {
				return fmt.Errorf("fill the server: %w\n%s", err, out)
			}
			if err := m.run(ctx, b.larder, "flush"); err != nil {
				return err
			}
			if err := m.wipe(ctx); err != nil {
				return err
			}
		}
		if err := os.WriteFile(done, nil, 0o666); err != nil {
			return err
		}
	}
	b.report.AgentPeak = 0 // of what follows
	info, err := os.Stat(b.archive())
	if err == nil {
		b.report.Archive = info.Size()
	}
	return err
}

// unpack is a shell command that unpacks the archive $2 into $1.
const unpack = `tar -I zstd -C "$1" -xf "$2"`

// restored is the build alone, natively, where the archive has been unpacked before:
// what no cache can be faster than.
func (b *bencher) restored(ctx context.Context, change func() error) bench.Arm {
	dir := filepath.Join(b.work, "at hand")
	return bench.Arm{
		Name: "native, all at hand",
		Prepare: func() error {
			err := errors.Join(bench.Discard(dir, b.discarded()), os.MkdirAll(dir, 0o777), b.newBin(), change())
			if err != nil {
				return err
			}
			if out, err := exec.CommandContext(ctx, "sh", "-c", unpack, "sh", dir, b.archive()).CombinedOutput(); err != nil {
				return fmt.Errorf("unpack the archive: %w\n%s", err, out)
			}
			return nil
		},
		Command: func(ctx context.Context) *exec.Cmd { return b.build(ctx, filepath.Join(dir, "native")) },
	}
}

// archived is the yardstick: the native cache unpacked from an archive, then the
// build.
func (b *bencher) archived(change func() error) bench.Arm {
	dir := filepath.Join(b.work, "restored")
	return bench.Arm{
		Name: "archive",
		Prepare: func() error {
			return errors.Join(bench.Discard(dir, b.discarded()), os.MkdirAll(dir, 0o777), b.newBin(), change())
		},
		Command: func(ctx context.Context) *exec.Cmd {
			build := b.build(ctx, filepath.Join(dir, "native"))
			args := append([]string{"-c", unpack + ` && shift 2 && exec "$@"`, "sh", dir, b.archive()}, build.Args...)
			cmd := exec.CommandContext(ctx, "sh", args...)
			cmd.Dir, cmd.Env = build.Dir, build.Env
			return cmd
		},
	}
}

// fetched is a machine that has nothing and is rtt away from a server that has all.
// It only reads, so that the rounds are alike.
func (b *bencher) fetched(ctx context.Context, rtt time.Duration, change func() error) bench.Arm {
	m := machine{b, "cold", []string{b.remoteEnv(), "LARDER_MODE=readonly"}}
	return bench.Arm{
		Name: fmt.Sprintf("larder, %v", rtt),
		Prepare: func() error {
			b.proxy.SetRTT(rtt)
			return errors.Join(m.wipe(ctx), change())
		},
		Command: m.build,
	}
}

func (b *bencher) cold(ctx context.Context) ([]bench.Result, error) {
	nothing := func() error { return nil }
	arms := []bench.Arm{b.archived(nothing)}
	for _, text := range strings.Split(b.options.rtts, ",") {
		ms, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, &cli.UsageError{What: fmt.Sprintf("-rtt: %q is not a number of milliseconds", text)}
		}
		arms = append(arms, b.fetched(ctx, time.Duration(ms*float64(time.Millisecond)), nothing))
	}
	return b.compare(ctx, "cold machine", 1, arms)
}

// editRTT is the distance of the server after an edit.
const editRTT = 20 * time.Millisecond

func (b *bencher) edit(ctx context.Context) (results []bench.Result, err error) {
	name := b.options.edit
	if name == "" {
		if name, err = b.mostUsed(ctx); err != nil {
			return nil, err
		}
	}
	b.report.Edited = name
	path := filepath.Join(b.source, name)
	original, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.WriteFile(path, original, 0o666)) }()
	n := 0
	change := func() error { // each time another one, which no cache has seen
		n++
		return os.WriteFile(path, fmt.Appendf(original[:len(original):len(original)], "\nfunc larderBench%dx%d() int { return %d }\n", n, time.Now().UnixNano(), n), 0o666)
	}
	return b.compare(ctx, "after an edit", 1, []bench.Arm{b.archived(change), b.restored(ctx, change), b.fetched(ctx, editRTT, change)})
}

// mostUsed is a file of the module's package on which most others depend.
func (b *bencher) mostUsed(ctx context.Context) (string, error) {
	out, err := b.goCommand(ctx, b.native(), append([]string{"list", "-deps", "-json=ImportPath,Dir,GoFiles,Deps,Module"}, b.packages...)...).Output()
	if err != nil {
		return "", fmt.Errorf("list packages: %w", err)
	}
	type listed struct {
		ImportPath, Dir string
		GoFiles, Deps   []string
		Module          *struct{ Main bool }
	}
	var own []listed
	dependents := make(map[string]int)
	for in := json.NewDecoder(strings.NewReader(string(out))); in.More(); {
		var p listed
		if err := in.Decode(&p); err != nil {
			return "", fmt.Errorf("list packages: %w", err)
		}
		if p.Module != nil && p.Module.Main && len(p.GoFiles) > 0 {
			own = append(own, p)
			for _, dep := range p.Deps {
				dependents[dep]++
			}
		}
	}
	var most listed
	for _, p := range own {
		if most.Dir == "" || dependents[p.ImportPath] > dependents[most.ImportPath] {
			most = p
		}
	}
	if most.Dir == "" {
		return "", errors.New("no package of the module to edit; name a file with -edit")
	}
	return filepath.Rel(b.source, filepath.Join(most.Dir, most.GoFiles[0]))
}

// alone is the cold build without a remote.
func (b *bencher) alone(ctx context.Context) bench.Arm {
	m := machine{b, "alone", nil}
	return bench.Arm{Name: "no remote", Prepare: func() error { return m.wipe(ctx) }, Command: m.build}
}

// uploading compares cold builds of which one leaves much to upload. What is
// uploaded is so after the build, and before the next one is timed.
func (b *bencher) uploading(ctx context.Context) (results []bench.Result, err error) {
	var server *benchServer
	stop := func() {
		if server != nil {
			server.stop()
			server = nil
		}
	}
	defer func() { stop() }()
	m := machine{b: b, name: "uploader"}
	return b.compare(ctx, "uploading", 0, []bench.Arm{b.alone(ctx), {
		Name: "remote, uploading",
		Prepare: func() error {
			if server != nil {
				if err := m.run(ctx, b.larder, "flush"); err != nil {
					return err
				}
			}
			stop()
			if err := errors.Join(m.wipe(ctx), bench.Discard(filepath.Join(b.work, "uploads"), b.discarded())); err != nil {
				return err
			}
			server, err = b.startServer(ctx, "uploads")
			return err
		},
		Command: func(ctx context.Context) *exec.Cmd {
			m.env = []string{b.remoteEnv()}
			return m.build(ctx)
		},
	}})
}

// trouble compares cold builds with remotes that are of no use.
func (b *bencher) trouble(ctx context.Context) ([]bench.Result, error) {
	server, err := b.startServer(ctx, "empty")
	if err != nil {
		return nil, err
	}
	defer server.stop()
	arms := []bench.Arm{b.alone(ctx)}
	for _, t := range []struct {
		name  string
		rtt   time.Duration
		fault faulttest.Fault
	}{
		{"nothing there, 50ms", 50 * time.Millisecond, faulttest.Fault{}},
		{"nothing there, 200ms", 200 * time.Millisecond, faulttest.Fault{}},
		{"hangs", 0, faulttest.Fault{Kind: faulttest.Hang}},
		{"drops", 0, faulttest.Fault{Kind: faulttest.Drop}},
		{"resets", 0, faulttest.Fault{Kind: faulttest.Reset, After: 100}},
	} {
		m := machine{b, "troubled", []string{b.remoteEnv(), "LARDER_MODE=readonly"}}
		arms = append(arms, bench.Arm{
			Name: t.name,
			Prepare: func() error {
				b.proxy.SetRTT(t.rtt)
				b.proxy.SetFault(t.fault)
				return m.wipe(ctx)
			},
			Command: m.build,
		})
	}
	return b.compare(ctx, "trouble", 0, arms)
}
