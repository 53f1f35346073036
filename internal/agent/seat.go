package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"

	"github.com/larder-build/larder/internal/filelock"
	"github.com/larder-build/larder/internal/session"
)

// A seat is what an agent holds for as long as it lives: the lock and the socket of
// one of its place's runs.
type seat struct {
	place    session.Place
	run      session.Run
	lock     *os.File
	listener *net.UnixListener
	made     []made
}

// A made is a file or directory that has to stay as it is for helpers to find the agent,
// and for no other one to begin.
type made struct {
	path string
	info os.FileInfo
}

// takeSeat takes the first of the place's runs where sockets and locks work. It is nil
// if another agent has one.
func takeSeat(place session.Place) (s *seat, err error) {
	if err := place.Make(); err != nil {
		return nil, err
	}
	err = errors.New("all names of sockets would be too long")
	for _, run := range place.Runs() {
		var taken bool
		if s, taken, err = takeRun(place, run); taken || err == nil {
			return s, nil
		}
	}
	return nil, err
}

// takeRun takes one run; taken says that another agent has it.
func takeRun(place session.Place, run session.Run) (s *seat, taken bool, err error) {
	if err := run.Make(); err != nil {
		return nil, false, err
	}
	lock, err := os.OpenFile(run.Lock(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if s == nil {
			lock.Close()
		}
	}()
	if mine, err := filelock.Try(lock); err != nil {
		return nil, false, &os.PathError{Op: "lock", Path: run.Lock(), Err: err}
	} else if !mine {
		return nil, true, nil
	}
	// Whoever left it does not run any more.
	if err := os.Remove(run.Socket()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: run.Socket(), Net: "unix"})
	if err != nil {
		return nil, false, err
	}
	s = &seat{place: place, run: run, lock: lock, listener: listener}
	if err := errors.Join(s.note(run.Socket()), s.note(run.Lock()), s.note(place.Dir), s.writePID()); err != nil {
		listener.Close()
		return nil, false, err
	}
	return s, false, nil
}

func (s *seat) note(path string) error {
	info, err := os.Lstat(path)
	s.made = append(s.made, made{path, info})
	return err
}

func (s *seat) writePID() error {
	if err := os.WriteFile(s.place.PID(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the agent's process ID: %w", err)
	}
	return nil
}

// reachable reports whether the agent is where helpers look for it, and nobody has made
// anything in its place since.
func (s *seat) reachable() bool {
	for _, m := range s.made {
		if info, err := os.Lstat(m.path); err != nil || !os.SameFile(info, m.info) {
			return false
		}
	}
	return true
}

// stopListening lets another agent begin, once free is called: it may find what is
// there, and wait for the lock.
func (s *seat) stopListening() (free func()) {
	own := s.reachable() // else what is there is another one's
	s.listener.SetUnlinkOnClose(own)
	s.listener.Close()
	return func() {
		if own {
			os.Remove(s.place.PID())
			s.run.Clean(s.place)
		}
		s.lock.Close()
	}
}
