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

// Detach points standard input, output and error to the null device, for a program that goes on working after its session: the go
// command waits for the end of its standard output, and whoever started the go command perhaps for that of its standard error. Call
// it when Serve has returned and out, of [Stdio], has been closed. A panic's message is lost from then on.
func Detach() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("detach: %w", err)
	}
	for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if err := point(f, null); err != nil {
			return fmt.Errorf("detach: %w", err)
		}
	}
	return nil
}
