package session

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A Place is where a user's agent lives: its socket, and its files beside it.
type Place struct {
	Dir    string // for files: larder in the user's cache directory
	socket string // the directory of the socket, the same if paths may be that long
}

// socketBytesMax is the longest path of a unix socket: 104 bytes with the final
// zero on macOS, 108 on Linux.
const socketBytesMax = 103

// FindPlace returns the user's place. It does no I/O.
func FindPlace() (Place, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return Place{}, fmt.Errorf("find a place for the agent: %w", err)
	}
	p := Place{Dir: filepath.Join(dir, "larder")}
	p.socket = p.Dir
	if len(p.Socket()) > socketBytesMax {
		sum := sha256.Sum256([]byte(p.Dir))
		p.socket = filepath.Join(os.TempDir(), fmt.Sprintf("larder-agent-%d-%x", os.Getuid(), sum[:6]))
	}
	return p, nil
}

// Socket is the path of the agent's socket.
func (p Place) Socket() string { return filepath.Join(p.socket, "agent.sock") }

// Lock is the path of the file that a running agent holds locked.
func (p Place) Lock() string { return filepath.Join(p.Dir, "agent.lock") }

// PID is the path of the file with the running agent's process ID.
func (p Place) PID() string { return filepath.Join(p.Dir, "agent.pid") }

// Log is the path of the agent's log.
func (p Place) Log() string { return filepath.Join(p.Dir, "agent.log") }

// silence is the path of a file that was written when an agent last let somebody wait.
func (p Place) silence() string { return filepath.Join(p.Dir, "agent.silent") }

// silentFor is how long builds do without an agent after that.
const silentFor = time.Minute

// Silent reports whether the agent, or one that was to start, has lately let somebody
// wait in vain (Connect), so that others need not: each go command of a script would
// wait as long.
func (p Place) Silent() bool {
	info, err := os.Stat(p.silence())
	return err == nil && time.Since(info.ModTime()).Abs() < silentFor
}

// noteSilent makes Silent true for a while. Where that cannot be written, others wait, too.
func (p Place) noteSilent() { os.WriteFile(p.silence(), nil, 0o600) }

// Queue is the directory of what is to be uploaded.
func (p Place) Queue() string { return filepath.Join(p.Dir, "queue") }

// Make makes the directories. They are the user's alone, which is what keeps
// others from the socket: if others may enter one of the user's, they may not any
// more; if it is not the user's, that is an error.
func (p Place) Make() error {
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return err
	}
	if err := os.MkdirAll(p.socket, 0o700); err != nil {
		return err
	}
	err := p.check()
	if errors.Is(err, errNotPrivate) && os.Chmod(p.socket, 0o700) == nil { // only its owner can do that
		err = p.check()
	}
	return err
}

var errNotPrivate = errors.New("it must belong to you and to nobody else (chmod 700)")

func (p Place) check() error {
	info, err := os.Lstat(p.socket)
	if err != nil {
		return err
	}
	if !info.IsDir() || !private(info) {
		return &os.PathError{Op: "use", Path: p.socket, Err: errNotPrivate}
	}
	return nil
}
