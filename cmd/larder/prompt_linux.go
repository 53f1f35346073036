package main

import (
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	// promptSlice is the time slice that the helper asks for, in nanoseconds: the
	// kernel's least. Since Linux 6.12 a thread with a short slice is let in at
	// once when it wakes, at the price of longer turns for which it has no use.
	promptSlice = 100_000
	// promptNice is what the helper asks to be less nice by, where it may be.
	promptNice = -10
)

// answerPromptly asks the system to let this goroutine in as soon as a request
// arrives, for then the go command waits, and it takes but a few microseconds.
// On a busy machine that is a sixth of what the protocol costs (docs/benchmarks.md).
// What is refused is done without. Threads and processes that are started from
// here do not inherit it. The returned function ends it.
func answerPromptly() (end func()) {
	before, err := unix.SchedGetAttr(0, 0)
	if err != nil || before.Policy != unix.SCHED_NORMAL {
		return func() {}
	}
	runtime.LockOSThread()
	prompt := *before
	prompt.Flags = unix.SCHED_FLAG_RESET_ON_FORK
	prompt.Runtime = promptSlice
	prompt.Nice = max(before.Nice+promptNice, -20)
	if unix.SchedSetAttr(0, &prompt, 0) != nil { // to be less nice takes privileges
		prompt.Nice = before.Nice
		_ = unix.SchedSetAttr(0, &prompt, 0)
	}
	return func() {
		prompt.Nice, prompt.Runtime = before.Nice, before.Runtime
		_ = unix.SchedSetAttr(0, &prompt, 0)
		runtime.UnlockOSThread()
	}
}
