package cacheprog

import (
	"fmt"
	"os"
)

// Stdio returns the two ends of the protocol for a program that the go command has started, and keeps the second from everything
// else in the process: out is a private handle of what was standard output, which child processes do not inherit, and standard
// output itself becomes standard error, so a stray print does not break the stream. It also keeps a child that outlives the
// program from holding the stream open, for whose end the go command waits (cmd/go/internal/cache/prog.go, Close).
//
// On Unix, standard output is redirected for all that uses descriptor 1; on Windows and other systems, for what uses [os.Stdout]
// or asks for the standard handle thereafter. On Linux, the pipe that requests come through is enlarged to 1 MiB, if that is
// allowed. Call Stdio once, before anything is printed, and [Serve] on what it returns.
func Stdio() (in, out *os.File, err error) {
	out, err = takeStdout()
	if err != nil {
		return nil, nil, fmt.Errorf("take standard output: %w", err)
	}
	growPipe()
	return os.Stdin, out, nil
}
