//go:build unix

package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Machine is a home directory, with a cache and an agent of its own.
type Machine struct {
	lab    *Lab
	home   string
	remote string   // where it thinks the server is
	prog   string   // GOCACHEPROG
	env    []string // beside the usual
}

// Machine makes a new machine. A cold one has an empty GOCACHE, others have the
// standard library in it.
func (l *Lab) Machine(cold bool) (*Machine, error) {
	l.mu.Lock()
	l.machines++
	home := l.path("machines", strconv.Itoa(l.machines))
	l.mu.Unlock()
	// A name of its own, by which its helpers can be told from others'.
	m := &Machine{lab: l, home: home, remote: l.proxy.Addr(), prog: filepath.Join(home, "larder")}
	if err := errors.Join(os.MkdirAll(filepath.Join(home, "tmp"), 0o777), os.MkdirAll(m.cache(), 0o777)); err != nil {
		return nil, err
	}
	if err := os.Symlink(filepath.Join(l.options.Bin, "larder"), m.prog); err != nil {
		return nil, err
	}
	if cold {
		return m, nil
	}
	return m, link(l.path("base"), m.cache())
}

func (m *Machine) cache() string { return filepath.Join(m.home, "gocache") }

// place is where the agent has its socket and its queue.
func (m *Machine) place() string { return filepath.Join(m.home, ".cache", "larder") }

func (m *Machine) environ() []string {
	return append(append(slices.Clone(m.lab.goEnv), "HOME="+m.home, "XDG_CACHE_HOME="+filepath.Join(m.home, ".cache"),
		"XDG_CONFIG_HOME="+filepath.Join(m.home, ".config"), "TMPDIR="+filepath.Join(m.home, "tmp"),
		"GOCACHE="+m.cache(), "GOCACHEPROG="+m.prog, "LARDER_REMOTE=http://"+m.remote,
		"LARDER_LARDERD="+filepath.Join(m.lab.options.Bin, "larderd")), m.env...)
}

// Visit has the machine build, test and vet, and compares.
func (m *Machine) Visit(ctx context.Context) error {
	got, err := m.lab.run(ctx, m.lab.module, m.environ())
	if err != nil {
		return err
	}
	return got.diff(m.lab.want)
}

// CheckWarm fails if the machine, which has visited before, compiles anything, or
// if its store has anything damaged in it.
func (m *Machine) CheckWarm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-x", "-o", os.DevNull, "./...")
	cmd.Dir, cmd.Env = m.lab.module, m.environ()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	for line := range bytes.Lines(out) {
		if bytes.Contains(line, []byte("/compile ")) {
			return fmt.Errorf("it compiles what is there: %s", line)
		}
	}
	return m.larder(ctx, "larder", "verify")
}

// CheckServed fails if a machine that has nothing compiles anything.
func (m *Machine) CheckServed(ctx context.Context) error {
	if err := os.RemoveAll(m.cache()); err != nil {
		return err
	}
	return m.CheckWarm(ctx)
}

// Flush has all uploaded that is to be.
func (m *Machine) Flush(ctx context.Context) error {
	return m.larder(ctx, "larder", "flush", "-limit", "60s")
}

func (m *Machine) larder(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(m.lab.options.Bin, name), args...)
	cmd.Dir, cmd.Env = m.lab.module, m.environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// Remove ends the machine's agent and removes all of it.
func (m *Machine) Remove(ctx context.Context) error {
	err := m.larder(ctx, "larderd", "agent", "-stop")
	m.signalAgent(syscall.SIGKILL) // if it did not hear
	return errors.Join(err, removeAll(m.home))
}

// removeAll is os.RemoveAll where somebody may still be writing.
func removeAll(dir string) (err error) {
	for range 50 {
		if err = os.RemoveAll(dir); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// seats are the directories of the machine's agents.
func (m *Machine) seats() []string {
	seats, _ := filepath.Glob(filepath.Join(m.place(), "*-*"))
	return seats
}

func (m *Machine) signalAgent(s syscall.Signal) {
	for _, seat := range m.seats() {
		text, err := os.ReadFile(filepath.Join(seat, "agent.pid"))
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 1 {
			syscall.Kill(pid, s)
		}
	}
}
