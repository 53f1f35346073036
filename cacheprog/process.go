package cacheprog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// stderrDelay is how long a program that has ended is waited for if its children still hold its standard error.
const stderrDelay = time.Second

// Start starts a program by a command as in GOCACHEPROG, and returns a client when the program has said which commands it knows.
// The end of ctx kills the program.
func Start(ctx context.Context, command string, opts *StartOptions) (*Client, error) {
	if opts == nil {
		opts = new(StartOptions)
	}
	c, err := startProcess(command, opts)
	if err != nil {
		return nil, fmt.Errorf("start cache program: %w", err)
	}
	return newClient(ctx, c, opts)
}

// startProcess starts a program with pipes.
func startProcess(command string, opts *StartOptions) (*Client, error) {
	args, err := SplitCommand(command)
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		return nil, errors.New("empty command")
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Dir, cmd.Stderr = opts.Env, opts.Dir, opts.Stderr
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	cmd.WaitDelay = stderrDelay
	r, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Client{command: args[0], r: r, w: w, process: &process{cmd: cmd}}, nil
}

// A process is a program that has been started.
type process struct{ cmd *exec.Cmd }

// kill ends the program.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // the only error is that it has ended
}

// wait waits for the program's end, and kills it when limit is closed. It is to be called once, when nothing more is read.
func (p *process) wait(limit <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = p.cmd.Wait() // the go command does not look at the exit status either
	}()
	select {
	case <-ended:
	case <-limit:
		p.kill()
		<-ended
	}
}
