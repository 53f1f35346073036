package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/config"
)

// ownPath is the full path of this program's file. Where the system does not tell
// (Linux without /proc), it is found as who started this program has found it.
func ownPath() (string, error) {
	self, err := os.Executable()
	if err == nil {
		return self, nil
	}
	if called := calledPath(); called != "" {
		return called, nil
	}
	return "", fmt.Errorf("find this program's own file: %w", err)
}

// calledPath is the full path by which this program was called, "" if that leads nowhere.
func calledPath() string {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return ""
	}
	if path, err = filepath.Abs(path); err != nil {
		return ""
	}
	return path
}

// stablePath is the path of this program that is likely to be there after the next
// upgrade too: the one on the PATH, where a package manager keeps a link to the
// version in use; else the one by which it was called; else its file.
func stablePath() (string, error) {
	self, err := ownPath()
	if err != nil {
		return "", err
	}
	if onPath, err := exec.LookPath(programName()); err == nil && filepath.IsAbs(onPath) && sameFile(onPath, self) {
		return onPath, nil
	}
	if called := calledPath(); called != "" && sameFile(called, self) {
		return called, nil
	}
	return self, nil
}

func programName() string {
	if runtime.GOOS == "windows" {
		return "larder.exe"
	}
	return "larder"
}

// checkLasting is an error for a program that "go run" or "go tool" has built, which
// lies in the go command's temporary directory or in its cache and is soon removed.
func checkLasting(path string) error {
	for _, elem := range strings.Split(filepath.ToSlash(path), "/") {
		// cmd/go/internal/work/action.go, NewBuilder: go-build and a random number
		if number, ok := strings.CutPrefix(elem, "go-build"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
			return fmt.Errorf("%s was built by go run, and does not stay", path)
		}
	}
	if cache := goCache(); cache != "" && strings.HasPrefix(path, cache+string(filepath.Separator)) {
		return fmt.Errorf("%s is in the cache, and does not stay", path)
	}
	return nil
}

// commandOf is the GOCACHEPROG that starts the program with the given settings.
func commandOf(program string, flags *config.Flags) (string, error) {
	command, err := cacheprog.JoinCommand(append([]string{program}, flags.Args()...))
	if err != nil {
		return "", fmt.Errorf("write GOCACHEPROG: %w", err)
	}
	return command, nil
}

// ownCommand is the GOCACHEPROG that starts this program with the given flags.
func ownCommand(flags *config.Flags) (string, error) {
	self, err := ownPath()
	if err != nil {
		return "", err
	}
	return commandOf(self, flags)
}

// isLarder reports whether a GOCACHEPROG starts Larder: this program, or one of its
// name, which need not be there any more.
func isLarder(command string) bool {
	args, err := cacheprog.SplitCommand(command)
	if err != nil || len(args) == 0 {
		return false
	}
	name := strings.TrimSuffix(strings.ToLower(filepath.Base(args[0])), ".exe")
	if name == "larder" {
		return true
	}
	self, err := ownPath()
	path, lookErr := exec.LookPath(args[0])
	return errors.Join(err, lookErr) == nil && sameFile(self, path)
}
