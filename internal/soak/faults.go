//go:build unix

package soak

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/larder-build/larder/internal/faulttest"
)

// A Fault is something that is wrong for a while.
type Fault struct {
	Part string // what it is wrong with: network, server, agent, helper, store, surroundings
	Name string
	// Begin makes it so, for m alone where the part is a machine's own. The random
	// numbers are for moments. What it returns ends it.
	Begin func(ctx context.Context, l *Lab, m *Machine, r *rand.Rand) (end func() error, err error)
	// Fails says that the go command itself gives up: that visit's outcome counts
	// for nothing, only what comes after it does.
	Fails bool
	// Damages says that it leaves damage that nobody need have come across:
	// "larder verify" is to find it and take it out.
	Damages bool
}

func (f Fault) String() string { return f.Part + ": " + f.Name }

// Local reports whether a fault concerns one machine only.
func (f Fault) Local() bool { return f.Part != "network" && f.Part != "server" }

// Faults are all that this machine can be made to have.
func Faults() []Fault {
	all := slices.Concat(networkFaults(), lies(), serverFaults(), agentFaults(), storeFaults(), helperFaults(), surroundings())
	slices.SortFunc(all, func(a, b Fault) int { return strings.Compare(a.String(), b.String()) })
	return all
}

func nothing() error { return nil }

func networkFaults() (faults []Fault) {
	for name, f := range map[string]faulttest.Fault{
		"hangs":                       {Kind: faulttest.Hang},
		"hangs after 100 kB":          {Kind: faulttest.Hang, After: 100_000},
		"drops connections":           {Kind: faulttest.Drop},
		"resets at once":              {Kind: faulttest.Reset},
		"resets after 100 kB":         {Kind: faulttest.Reset, After: 100_000},
		"cuts off after 1 MB":         {Kind: faulttest.Truncate, After: 1_000_000},
		"flips a bit":                 {Kind: faulttest.Flip, After: 50_000},
		"flips a bit of the headers":  {Kind: faulttest.Flip, After: 30},
		"passes 200 kB a second only": {Kind: faulttest.Drip, Rate: 200_000},
	} {
		faults = append(faults, Fault{Part: "network", Name: name, Begin: func(_ context.Context, l *Lab, _ *Machine, _ *rand.Rand) (func() error, error) {
			l.proxy.SetFault(f)
			l.proxy.Down() // connections that are open get it too
			return func() error {
				l.proxy.SetFault(faulttest.Fault{})
				l.proxy.Down()
				return l.proxy.Up()
			}, l.proxy.Up()
		}})
	}
	return append(faults,
		Fault{Part: "network", Name: "nobody there", Begin: func(_ context.Context, l *Lab, _ *Machine, _ *rand.Rand) (func() error, error) {
			l.proxy.Down()
			return l.proxy.Up, nil
		}},
		Fault{Part: "network", Name: "comes and goes", Begin: func(ctx context.Context, l *Lab, _ *Machine, r *rand.Rand) (func() error, error) {
			end := again(ctx, r, func() error {
				l.proxy.Down()
				return l.proxy.Up()
			})
			return end, nil
		}},
		Fault{Part: "network", Name: "is 300 ms long", Begin: func(_ context.Context, l *Lab, _ *Machine, _ *rand.Rand) (func() error, error) {
			l.proxy.SetRTT(300 * time.Millisecond)
			return func() error { l.proxy.SetRTT(0); return nil }, nil
		}},
	)
}

// again does something at random moments until it is ended.
func again(ctx context.Context, r *rand.Rand, do func() error) (end func() error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var errs []error
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Duration(r.Int64N(int64(600 * time.Millisecond)))):
				errs = append(errs, do())
			}
		}
	}()
	return func() error {
		cancel()
		wg.Wait()
		return errors.Join(errs...)
	}
}

func lies() (faults []Fault) {
	for what, name := range map[faulttest.Lie]string{
		faulttest.WrongBody: "sends wrong bodies with right checksums", faulttest.Damaged: "sends damaged bodies", faulttest.Swapped: "sends the bodies of other actions",
		faulttest.Doubled: "sends everything twice", faulttest.Reversed: "sends in the opposite order",
		faulttest.Statuses: "answers errors", faulttest.Nonsense: "is another server", faulttest.Stuck: "looks well and is stuck",
	} {
		faults = append(faults, Fault{Part: "server", Name: name, Begin: func(_ context.Context, l *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
			honestly := m.remote
			l.liar.Tell(what)
			m.remote = l.liar.Addr()
			return func() error {
				l.liar.Tell(faulttest.Honest)
				m.remote = honestly
				return nil
			}, nil
		}})
	}
	return faults
}

func serverFaults() []Fault {
	return []Fault{
		{Part: "server", Name: "is killed again and again", Begin: func(ctx context.Context, l *Lab, _ *Machine, r *rand.Rand) (func() error, error) {
			end := again(ctx, r, func() error { return errors.Join(l.server.Kill(), l.server.Start(ctx)) })
			return end, nil
		}},
		{Part: "server", Name: "is restarted again and again", Begin: func(ctx context.Context, l *Lab, _ *Machine, r *rand.Rand) (func() error, error) {
			end := again(ctx, r, func() error { return errors.Join(l.server.Stop(), l.server.Start(ctx)) })
			return end, nil
		}},
		{Part: "server", Name: "has lost its directory", Begin: func(ctx context.Context, l *Lab, _ *Machine, _ *rand.Rand) (func() error, error) {
			if err := errors.Join(l.server.Kill(), os.RemoveAll(l.server.Dir), l.server.Start(ctx)); err != nil {
				return nil, err
			}
			return nothing, nil
		}},
	}
}

func agentFaults() []Fault {
	return []Fault{
		{Part: "agent", Name: "is killed again and again", Begin: func(ctx context.Context, _ *Lab, m *Machine, r *rand.Rand) (func() error, error) {
			return again(ctx, r, func() error { m.signalAgent(syscall.SIGKILL); return nil }), nil
		}},
		{Part: "agent", Name: "loses its socket again and again", Begin: func(ctx context.Context, _ *Lab, m *Machine, r *rand.Rand) (func() error, error) {
			return again(ctx, r, func() error {
				for _, seat := range m.seats() {
					os.Remove(filepath.Join(seat, "agent.sock"))
				}
				return nil
			}), nil
		}},
		{Part: "agent", Name: "loses its directory again and again", Begin: func(ctx context.Context, _ *Lab, m *Machine, r *rand.Rand) (func() error, error) {
			return again(ctx, r, func() error { os.RemoveAll(m.place()); return nil }), nil
		}},
		{Part: "agent", Name: "is not there", Begin: func(_ context.Context, l *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
			m.env = append(m.env, "LARDER_LARDERD="+filepath.Join(l.options.Work, "no", "larderd"))
			return func() error { m.env = nil; return nil }, nil
		}},
		{Part: "agent", Name: "is stopped", Begin: func(ctx context.Context, _ *Lab, m *Machine, r *rand.Rand) (func() error, error) {
			// As a debugger or a laptop's sleep stops it: it is there, and says nothing.
			return again(ctx, r, func() error {
				m.signalAgent(syscall.SIGSTOP)
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
				m.signalAgent(syscall.SIGCONT)
				return nil
			}), nil
		}},
	}
}

func storeFaults() []Fault {
	faults := []Fault{
		{Part: "store", Name: "is emptied", Begin: func(_ context.Context, _ *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
			return nothing, errors.Join(removeAll(m.cache()), os.MkdirAll(m.cache(), 0o777))
		}},
		{Part: "store", Name: "has files that are cut short", Damages: true, Begin: func(_ context.Context, _ *Lab, m *Machine, r *rand.Rand) (func() error, error) {
			return nothing, m.eachFile(func(path string, info fs.FileInfo) error {
				if r.IntN(3) != 0 || info.Size() == 0 {
					return nil
				}
				// Not the file itself, which other machines have too.
				return replaceFile(path, info.Size()/2)
			})
		}},
		{Part: "store", Name: "has lost half of its files", Begin: func(_ context.Context, _ *Lab, m *Machine, r *rand.Rand) (func() error, error) {
			return nothing, m.eachFile(func(path string, _ fs.FileInfo) error {
				if r.IntN(2) == 0 {
					return nil
				}
				return os.Remove(path)
			})
		}},
		{Part: "store", Name: "is from the future", Begin: func(_ context.Context, _ *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
			return nothing, m.setTimes(time.Now().AddDate(10, 0, 0))
		}},
		{Part: "store", Name: "is very old", Begin: func(_ context.Context, _ *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
			return nothing, m.setTimes(time.Unix(0, 0))
		}},
		// GOCACHE is the go command's own too: it gives up without it.
		{Part: "store", Name: "is a file", Fails: true, Begin: func(_ context.Context, _ *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
			aside := m.cache() + ".aside"
			return func() error {
				return errors.Join(os.Remove(m.cache()), os.Rename(aside, m.cache()))
			}, errors.Join(os.Rename(m.cache(), aside), os.WriteFile(m.cache(), nil, 0o666))
		}},
	}
	if os.Geteuid() != 0 {
		return faults
	}
	return append(faults, Fault{Part: "store", Name: "is on a full disk", Begin: func(_ context.Context, _ *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
		aside := m.cache() + ".aside"
		if err := errors.Join(os.Rename(m.cache(), aside), os.Mkdir(m.cache(), 0o777)); err != nil {
			return nil, err
		}
		mount := func(name string, args ...string) error {
			if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
			}
			return nil
		}
		return func() error {
			return errors.Join(mount("umount", "-l", m.cache()), os.Remove(m.cache()), os.Rename(aside, m.cache()))
		}, mount("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", m.cache())
	}})
}

// eachFile calls do for each action and output in the machine's store.
func (m *Machine) eachFile(do func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(m.cache(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "-a") && !strings.HasSuffix(path, "-d") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return do(path, info)
	})
}

// setTimes sets the times of all files, which are the machine's own then: a clock
// that jumped looks like this.
func (m *Machine) setTimes(to time.Time) error {
	return m.eachFile(func(path string, info fs.FileInfo) error {
		return errors.Join(replaceFile(path, info.Size()), os.Chtimes(path, to, to))
	})
}

// replaceFile puts a copy of the first bytes of a file in its place.
func replaceFile(path string, size int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.WriteFile(path, data[:size], 0o666)
}

func helperFaults() []Fault {
	faults := []Fault{
		{Part: "helper", Name: "is killed", Fails: true, Begin: func(ctx context.Context, l *Lab, m *Machine, r *rand.Rand) (func() error, error) {
			return again(ctx, r, func() error {
				exec.Command("pkill", "-KILL", "-x", "-f", m.prog).Run() // exit code 1: there is none
				return nil
			}), nil
		}},
		{Part: "helper", Name: "may have 16 open files", Begin: func(_ context.Context, _ *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
			prog := m.prog
			m.prog = `sh -c "ulimit -n 16; exec ` + prog + `"`
			return func() error { m.prog = prog; return nil }, nil
		}},
	}
	if _, err := exec.LookPath("strace"); err != nil {
		return faults
	}
	// Calls that fail now and then. Those that the protocol itself uses, read and
	// write, are left alone: without them nobody can answer.
	for _, call := range []string{"openat", "renameat"} {
		for _, errno := range []string{"ENOSPC", "EIO", "EACCES", "EMFILE"} {
			faults = append(faults, Fault{Part: "helper", Name: call + " fails with " + errno, Begin: func(_ context.Context, _ *Lab, m *Machine, r *rand.Rand) (func() error, error) {
				prog := m.prog
				m.prog = fmt.Sprintf("strace -f -b execve -qq -o /dev/null -e trace=%s,execve -e inject=%s:error=%s:when=%d+%d %s", call, call, errno, 10+r.IntN(20), 2+r.IntN(7), prog)
				return func() error { m.prog = prog; return nil }, nil
			}})
		}
	}
	return faults
}
