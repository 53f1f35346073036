package remote

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// queued is how many bytes that were written to a connection the other side has not
// acknowledged yet; false if the system does not say.
func queued(c syscall.RawConn) (n int64, ok bool) {
	err := c.Control(func(fd uintptr) {
		v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NWRITE)
		n, ok = int64(v), err == nil
	})
	return n, ok && err == nil
}
