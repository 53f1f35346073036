package helper

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// knowsParent says whether parentArgs can tell.
const knowsParent = true

// parentArgs are the arguments of the process that started this one: the go
// command's. Nil if they cannot be had.
//
// What the system answers is the number of arguments, the path of the program,
// zeros, and then the arguments and the environment, each with a zero behind it
// (KERN_PROCARGS2 in XNU's bsd/kern/kern_sysctl.c).
func parentArgs() (args []string) {
	data, err := unix.SysctlRaw("kern.procargs2", os.Getppid())
	if err != nil || len(data) < 4 {
		return nil
	}
	count := int(binary.NativeEndian.Uint32(data))
	_, rest, _ := bytes.Cut(data[4:], []byte{0})
	rest = bytes.TrimLeft(rest, "\x00")
	for range count {
		arg, more, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return nil
		}
		args, rest = append(args, string(arg)), more
	}
	if len(args) > 0 {
		args[0] = filepath.Base(args[0])
	}
	return args
}
