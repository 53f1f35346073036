//go:build unix

package session

import (
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// private reports whether a directory is this user's alone.
func private(info fs.FileInfo) bool { return ownedByUser(info) && info.Mode().Perm()&0o077 == 0 }

func ownedByUser(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}

// writable is nil if files can be made in a directory, as far as the system says.
func writable(dir string) error {
	const writeAndSearch = 3 // W_OK | X_OK
	if err := syscall.Access(dir, writeAndSearch); err != nil {
		return &os.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

// A conn is a connection to the agent.
type conn interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
}

// dial connects to a socket. It does without package net, whose linking alone
// makes the helper's start twice as long (it brings in the C library's resolver).
func dial(path string) (conn, error) {
	fd, err := socket()
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	for {
		err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		syscall.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// socket makes a non-blocking socket that children do not inherit.
func socket() (fd int, err error) {
	syscall.ForkLock.RLock()
	fd, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// detached makes a process the leader of a session of its own: no terminal's
// signals reach it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
