package soak

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
)

// othersSurroundings are those that only root can have somebody be in.
func othersSurroundings() []Fault {
	if os.Geteuid() != 0 {
		return nil
	}
	return []Fault{
		{Part: "surroundings", Name: "the first caller was in another network", Begin: func(ctx context.Context, _ *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
			return nothing, m.elsewhere(ctx, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
		}},
		{Part: "surroundings", Name: "another user builds here", Begin: func(ctx context.Context, l *Lab, m *Machine, _ *rand.Rand) (func() error, error) {
			const another = 12345
			path, err := os.MkdirTemp("", "larder-soak-user-")
			if err != nil {
				return nil, err
			}
			err = errors.Join(os.Chown(path, another, -1), m.elsewhere(ctx, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: another}}, "HOME=/", "XDG_CACHE_HOME=", "GOPATH="+path, "TMPDIR="+path))
			return func() error { return os.RemoveAll(path) }, err
		}},
	}
}
