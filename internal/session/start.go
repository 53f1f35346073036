package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/filelock"
)

const (
	// startLimit is how long a helper waits for an agent that it has started.
	// On an idle machine it takes 30 ms.
	startLimit = 3 * time.Second
	// startAgain is how long a helper waits before it starts an agent once more,
	// where another one has the place and does not listen: that one is about to end.
	startAgain = 200 * time.Millisecond
	// startPoll is the time between two looks whether it is there.
	startPoll = 3 * time.Millisecond
	// logBytesMax is the size at which the agent's log begins anew.
	logBytesMax = 1 << 20
)

// ErrNoAgent is what errors about an agent that is neither there nor can be
// started wrap.
var ErrNoAgent = errors.New("no agent")

// A Starter starts agents.
type Starter struct {
	Place   Place
	Larderd string // its path; "": beside this program, then on the PATH
}

// Program is the path of larderd. Its error wraps ErrNoAgent.
func (s Starter) Program() (string, error) {
	if s.Larderd != "" {
		return s.Larderd, nil
	}
	name := "larderd"
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name+filepath.Ext(self))
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() {
			return beside, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w: larderd is neither beside larder nor on the PATH", ErrNoAgent)
	}
	return path, nil
}

// start starts an agent, unless somebody else is doing that, and waits until
// one listens.
func (s Starter) start(ctx context.Context) (conn, error) {
	if err := s.Place.Make(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAgent, err)
	}
	starting, err := os.OpenFile(s.Place.starting(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAgent, err)
	}
	defer starting.Close() // and so unlocks
	var ended chan error   // of the agent that this helper has started
	if mine, err := filelock.Try(starting); mine || err != nil {
		if ended, err = s.spawn(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoAgent, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	poll := time.NewTicker(startPoll)
	defer poll.Stop()
	var again <-chan time.Time
	for {
		if c, err := s.Place.dial(); err == nil {
			return c, nil
		}
		select {
		case err := <-ended:
			if err != nil {
				return nil, fmt.Errorf("%w: larderd agent: %w; its log is %s", ErrNoAgent, err, s.Place.Log())
			}
			ended, again = nil, time.After(startAgain)
		case <-again:
			if ended, err = s.spawn(); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrNoAgent, err)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: it does not listen after %v; its log is %s", ErrNoAgent, startLimit, s.Place.Log())
		case <-poll.C:
		}
	}
}

// spawn starts the agent's process, and says when and how it has ended: well, if
// another one was there already. It inherits nothing that the go command or a
// terminal waits for.
func (s Starter) spawn() (ended chan error, err error) {
	program, err := s.Program()
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	log, err := s.openLog()
	if err != nil {
		return nil, err
	}
	defer log.Close()
	DropInherited()
	process, err := os.StartProcess(program, []string{program, "agent"}, &os.ProcAttr{
		Dir:   s.Place.Dir, // the build's directory may be removed or unmounted
		Files: []*os.File{null, null, log},
		Sys:   detached(),
	})
	if err != nil {
		return nil, err
	}
	ended = make(chan error, 1)
	go func() { // ends with the agent or with this process, whichever is first
		state, err := process.Wait()
		if err == nil && !state.Success() {
			err = errors.New(state.String())
		}
		ended <- err
	}()
	return ended, nil
}

func (s Starter) openLog() (*os.File, error) {
	f, err := os.OpenFile(s.Place.Log(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end > logBytesMax {
		f.Truncate(0)
	}
	return f, nil
}
