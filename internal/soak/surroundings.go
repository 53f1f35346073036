//go:build unix

package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/larder-build/larder/internal/faulttest"
)

// surroundings are what other people's machines have that nobody here chose, and what
// stands between them and a server.
func surroundings() []Fault {
	faults := []Fault{
		{Part: "surroundings", Name: "a firewall answers 403", Begin: behind(faulttest.Forbidden)},
		{Part: "surroundings", Name: "a proxy takes no more than 20 kB", Begin: behind(faulttest.Small)},
		{Part: "surroundings", Name: "the first caller trusted nobody and had a proxy", Begin: func(ctx context.Context, l *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
			return nothing, m.elsewhere(ctx, nil, "SSL_CERT_FILE="+os.DevNull, "SSL_CERT_DIR="+m.home, "HTTPS_PROXY=http://127.0.0.1:1")
		}},
		{Part: "surroundings", Name: "HOME is wiped again and again", Begin: func(ctx context.Context, _ *Lab, m *Machine, r *rand.Rand) (func() error, error) {
			return again(ctx, r, func() error { // not what this machine is made of
				for _, name := range []string{".cache", ".config", "go", "tmp"} {
					os.RemoveAll(filepath.Join(m.home, name))
				}
				return os.MkdirAll(filepath.Join(m.home, "tmp"), 0o777)
			}), nil
		}, Fails: true}, // the go command needs its TMPDIR
		{Part: "surroundings", Name: "there is no HOME", Begin: func(_ context.Context, _ *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
			m.env = append(m.env, "HOME=", "XDG_CACHE_HOME=", "XDG_CONFIG_HOME=", "GOPATH="+filepath.Join(m.home, "go"))
			return func() error {
				err := m.larder(context.Background(), "larderd", "agent", "-stop")
				m.env = nil
				return err
			}, nil
		}},
	}
	if faulttest.NginxPath() != "" {
		faults = append(faults, Fault{Part: "surroundings", Name: "nginx with its defaults stands before the server", Begin: beginNginx})
	}
	return append(faults, othersSurroundings()...)
}

// beginNginx puts nginx between this machine and the server. It stays there for as long
// as the lab does: uploads are meant for where it is.
func beginNginx(_ context.Context, l *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
	listen, err := faulttest.FreeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.options.Work, "nginx-")
	if err != nil {
		return nil, err
	}
	stop, err := faulttest.StartNginx(dir, faulttest.NginxDefaults(listen, l.server.Addr()), "http://"+listen)
	if err != nil {
		return nil, err
	}
	l.keep(stop)
	honestly := m.remote
	m.remote = listen
	return func() error { m.remote = honestly; return nil }, nil
}

// behind has what a liar does happen between this machine and the server. It stays
// there, honest: uploads are meant for where it is.
func behind(what faulttest.Lie) func(context.Context, *Lab, *Machine, *rand.Rand) (func() error, error) {
	return func(_ context.Context, l *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
		honestly := m.remote
		liar, err := faulttest.NewLiar(l.server.Addr())
		if err != nil {
			return nil, err
		}
		l.keep(liar.Close)
		liar.Tell(what)
		m.remote = liar.Addr()
		return func() error {
			liar.Tell(faulttest.Honest)
			m.remote = honestly
			return nil
		}, nil
	}
}

// elsewhere runs one go command on the machine in surroundings that are not its own,
// for what that leaves. Whether it succeeds is nobody's business.
func (m *Machine) elsewhere(ctx context.Context, how *syscall.SysProcAttr, env ...string) error {
	cmd := exec.CommandContext(ctx, "go", "vet", "./...")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = m.lab.module, append(m.environ(), env...), how
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("run a go command elsewhere: %w", err)
	}
	return nil
}
