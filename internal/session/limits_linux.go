package session

import (
	"fmt"
	"syscall"
)

// limits are the resource limits that a process passes on to those it starts, and
// that an agent would fail by: of CPU time, of the size of files, of memory, of open
// files. (Of the last one the Go runtime changes the soft limit, and passes the old
// one on.)
func limits() string {
	var text []byte
	for _, which := range [...]int{syscall.RLIMIT_CPU, syscall.RLIMIT_FSIZE, syscall.RLIMIT_DATA, syscall.RLIMIT_AS, syscall.RLIMIT_NOFILE} {
		var l syscall.Rlimit
		syscall.Getrlimit(which, &l)
		if which == syscall.RLIMIT_NOFILE {
			l.Cur = l.Max
		}
		text = fmt.Appendf(text, "%d/%d ", l.Cur, l.Max)
	}
	return string(text)
}
