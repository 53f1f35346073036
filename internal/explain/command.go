package explain

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// A Command is a go command that can be explained.
type Command struct{ args []string }

// ParseCommand takes the arguments of a go command, with its name first.
func ParseCommand(args []string) (Command, error) {
	if len(args) == 0 {
		return Command{}, fmt.Errorf("no command to explain")
	}
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	if name != "go" && !strings.HasPrefix(name, "go1.") {
		return Command{}, fmt.Errorf("%s is not the go command", args[0])
	}
	const subcommands = "build install run test vet list"
	if len(args) < 2 || !slices.Contains(strings.Fields(subcommands), args[1]) {
		return Command{}, fmt.Errorf("only go %s can be explained", strings.ReplaceAll(subcommands, " ", ", "))
	}
	return Command{args}, nil
}

// Traced is the same command for its trace only: it builds one thing at a time, so
// that the hashes' lines do not mix, and nothing that is not in the cache. With
// pretend it relies on a Pretender to have the tests' results. A coverage profile,
// which is begun anew even with -n, goes to scratch.
func (c Command) Traced(pretend bool, scratch string) []string {
	traced := []string{c.args[0], c.args[1]}
	rest := c.args[2:]
	if len(rest) > 0 { // -C must be first
		if flag := strings.TrimLeft(rest[0], "-"); flag == "C" && len(rest) > 1 {
			traced, rest = append(traced, rest[:2]...), rest[2:]
		} else if strings.HasPrefix(flag, "C=") {
			traced, rest = append(traced, rest[0]), rest[1:]
		}
	}
	if !pretend && c.args[1] != "list" {
		traced = append(traced, "-n")
	}
	traced = append(traced, "-p=1")
	for i := 0; i < len(rest); i++ {
		arg := rest[i]
		if arg == "-args" || arg == "--args" || arg == "--" || c.args[1] == "run" && !strings.HasPrefix(arg, "-") {
			return append(traced, rest[i:]...)
		}
		flag, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !strings.HasPrefix(arg, "-") || flag != "p" && flag != "coverprofile" {
			traced = append(traced, arg)
			continue
		}
		if flag == "coverprofile" {
			traced = append(traced, "-coverprofile="+scratch)
		}
		if !hasValue {
			i++
		}
	}
	return traced
}

// Pretends reports whether a trace of the command needs a Pretender: it runs tests.
func (c Command) Pretends() bool {
	if c.args[1] != "test" {
		return false
	}
	for _, arg := range c.args[2:] {
		switch strings.TrimLeft(arg, "-") {
		case "args":
			return true
		case "a", "c", "n", "a=true", "c=true", "n=true":
			return !strings.HasPrefix(arg, "-")
		}
	}
	return true
}
