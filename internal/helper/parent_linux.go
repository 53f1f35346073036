package helper

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
)

// knowsParent says whether parentArgs can tell.
const knowsParent = true

// parentArgs are the arguments of the process that started this one: the go
// command's. Nil if they cannot be had.
func parentArgs() (args []string) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(os.Getppid()) + "/cmdline")
	if err != nil || len(data) == 0 {
		return nil
	}
	for _, arg := range bytes.Split(bytes.TrimSuffix(data, []byte{0}), []byte{0}) {
		args = append(args, string(arg))
	}
	args[0] = filepath.Base(args[0])
	return args
}
