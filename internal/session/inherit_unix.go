//go:build unix

package session

import (
	"os"
	"strconv"
	"syscall"
)

// DropInherited closes what this process has inherited beside its standard streams,
// for who goes on when whoever started it waits no longer, or starts somebody who does:
// a lock stays held, a pipe open, for as long as anybody has them.
//
// What was inherited is what a child would inherit as well: nothing that is closed when
// a program is started has come here, and what Go programs open they open so.
func DropInherited() {
	for _, fd := range descriptors() {
		if fd <= syscall.Stderr {
			continue
		}
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			syscall.Close(fd)
		}
	}
}

// descriptorsGuess is how many descriptors are looked at where the system does not
// list those that are open: shells and make use numbers below it.
const descriptorsGuess = 256

// descriptors are those that may be open.
func descriptors() (fds []int) {
	entries, err := os.ReadDir("/dev/fd")
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			fds = append(fds, fd)
		}
	}
	if err != nil || len(fds) == 0 {
		for fd := range descriptorsGuess {
			fds = append(fds, fd)
		}
	}
	return fds
}
