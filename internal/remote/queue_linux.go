package remote

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// queued is how many bytes that were written to a connection the other side has not
// acknowledged yet; false if the system does not say. TIOCOUTQ, which is SIOCOUTQ, is
// in tcp(7).
func queued(c syscall.RawConn) (n int64, ok bool) {
	err := c.Control(func(fd uintptr) {
		v, err := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
		n, ok = int64(v), err == nil
	})
	return n, ok && err == nil
}
