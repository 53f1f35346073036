package cacheprog

import (
	"os"
	"syscall"
)

// setStdHandle changes what child processes that name no handle of their own, and C code, take for standard output.
var setStdHandle = syscall.NewLazyDLL("kernel32.dll").NewProc("SetStdHandle")

func takeStdout() (*os.File, error) {
	out := os.Stdout
	if err := syscall.SetHandleInformation(syscall.Handle(out.Fd()), syscall.HANDLE_FLAG_INHERIT, 0); err != nil {
		return nil, err
	}
	which := int32(syscall.STD_OUTPUT_HANDLE)
	if ok, _, err := setStdHandle.Call(uintptr(uint32(which)), os.Stderr.Fd()); ok == 0 {
		return nil, err
	}
	syscall.Stdout = syscall.Stderr
	os.Stdout = os.Stderr
	return out, nil
}

// point closes f, one of the standard files. There is no making it another one here.
func point(f, _ *os.File) error { return f.Close() }
