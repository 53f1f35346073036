package main

import (
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	// lastNice is the least priority among processes that are no mere fillers of
	// idle time: on a machine that is never idle, a store is to be trimmed too.
	lastNice = 19
	// idleIO is the class of those whose reads and writes wait for all others'
	// (ioprio_set(2): IOPRIO_CLASS_IDLE), where the disk's scheduler has classes.
	idleIO = 3 << 13
	// ofProcess is IOPRIO_WHO_PROCESS, which means a thread, as in setpriority.
	ofProcess = 1
)

// yieldToOthers has what this goroutine does from now on, which nobody waits for, give
// way to everything else on the machine. What is refused is done without.
func yieldToOthers() {
	runtime.LockOSThread() // priorities are a thread's
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, lastNice)
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ofProcess, 0, idleIO)
}
