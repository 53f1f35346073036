//go:build unix && !solaris

package cacheprog

import (
	"os"
	"syscall"
)

func takeStdout() (*os.File, error) {
	syscall.ForkLock.RLock() // no child may be started while the copy can be inherited
	fd, err := syscall.Dup(syscall.Stdout)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, err
	}
	if err := redirect(syscall.Stderr, syscall.Stdout); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "stdout"), nil
}

// point makes f, one of the standard files, the same as to.
func point(f, to *os.File) error { return redirect(int(to.Fd()), int(f.Fd())) }
