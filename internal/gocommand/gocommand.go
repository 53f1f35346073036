// Package gocommand is command lines of the go command, as far as Larder runs them
// a second time to learn from them: without effects that the first run had not.
package gocommand

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Command is a command line of the go command that uses its cache.
type Command struct {
	Args []string // with its name first
}

// Parse takes the arguments of a go command, with its name first.
func Parse(args []string) (Command, error) {
	if len(args) == 0 {
		return Command{}, errors.New("no go command is named")
	}
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	if name != "go" && !strings.HasPrefix(name, "go1.") {
		return Command{}, fmt.Errorf("%s is not the go command", args[0])
	}
	const subcommands = "build install run test vet list"
	if len(args) < 2 || !slices.Contains(strings.Fields(subcommands), args[1]) {
		return Command{}, fmt.Errorf("only go %s are possible", strings.ReplaceAll(subcommands, " ", ", "))
	}
	return Command{args}, nil
}

func (c Command) String() string { return strings.Join(c.Args, " ") }

// Dir is the directory that the command works in if it is run in dir: another one
// if it has the flag -C.
func (c Command) Dir(dir string) string {
	flag, _ := c.chdir()
	if len(flag) == 0 {
		return dir
	}
	to := flag[len(flag)-1]
	if len(flag) == 1 {
		_, to, _ = strings.Cut(to, "=")
	}
	if filepath.IsAbs(to) {
		return filepath.Clean(to)
	}
	return filepath.Join(dir, to)
}

// chdir divides what follows the command's name into the flag -C, which must be
// first, and the rest.
func (c Command) chdir() (flag, rest []string) {
	rest = c.Args[2:]
	if len(rest) == 0 || !strings.HasPrefix(rest[0], "-") {
		return nil, rest
	}
	switch name, _, hasValue := strings.Cut(strings.TrimLeft(rest[0], "-"), "="); {
	case name != "C":
		return nil, rest
	case hasValue:
		return rest[:1], rest[1:]
	}
	n := min(2, len(rest))
	return rest[:n], rest[n:]
}

// Traced is the same command for the trace of its hashes only: it builds one thing at a time, so
// that the hashes' lines do not mix, and nothing that is not in the cache. With
// pretend it relies on a helper that claims to have the tests' results. A coverage
// profile, which is begun anew even with -n, goes to scratch.
func (c Command) Traced(pretend bool, scratch string) []string {
	front := []string{"-p=1"}
	if !pretend && c.Args[1] != "list" {
		front = []string{"-n", "-p=1"}
	}
	return c.rewritten(front, map[string]string{"p": "", "coverprofile": "-coverprofile=" + scratch})
}

// Dry is a command that asks the cache for what the command asks for after it has
// been run, and neither builds nor writes nor runs anything, whether or not that is
// there. tools is a command line that runs the tool that it is given for its
// version only (Tool). Files that cannot but be written go to scratch, an empty
// directory.
//
// It asks for main packages too whose program is up to date, which the command
// does not ask for then (cmd/go/internal/work/buildid.go, useCache): another
// machine has not got the program.
func (c Command) Dry(tools, scratch string) []string {
	nothing := "-o=" + os.DevNull
	switch name := c.Args[1]; {
	case name == "test", name == "list":
		// With -n the main package of a test is not written, so its hash, and with
		// it those of the test's result, are others; and list has no -n.
		if own := c.value("toolexec"); own != "" {
			tools += " " + own // which may give tools another version
		}
		return c.rewritten([]string{"-toolexec=" + tools}, map[string]string{
			"toolexec": "", "coverprofile": "-coverprofile=" + filepath.Join(scratch, "cover"), "o": nothing,
		})
	case name == "install" && !slices.ContainsFunc(c.Args[2:], func(arg string) bool { return strings.Contains(arg, "@") }):
		return Command{append([]string{c.Args[0], "build"}, c.Args[2:]...)}.Dry(tools, scratch)
	case name == "build":
		o := c.value("o")
		switch {
		case o == "" || o == os.DevNull:
			return c.rewritten([]string{"-n", nothing}, map[string]string{"o": ""})
		case c.isDir(o): // then main packages are built only
			return c.rewritten([]string{"-n"}, map[string]string{"o": "-o=" + scratch + string(filepath.Separator)})
		}
		return c.rewritten([]string{"-n"}, map[string]string{"o": "-o=" + filepath.Join(scratch, "program")})
	}
	return c.rewritten([]string{"-n"}, nil)
}

// isDir reports whether the go command takes what -o names for a directory.
func (c Command) isDir(o string) bool {
	if strings.HasSuffix(o, "/") || strings.HasSuffix(o, string(filepath.Separator)) {
		return true
	}
	if !filepath.IsAbs(o) {
		o = filepath.Join(c.Dir("."), o)
	}
	info, err := os.Stat(o)
	return err == nil && info.IsDir()
}

// value is the value of a flag, "" if it is not given.
func (c Command) value(name string) string {
	for i, arg := range c.Args {
		flag, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !strings.HasPrefix(arg, "-") || flag != name {
			continue
		}
		if !hasValue && i+1 < len(c.Args) {
			value = c.Args[i+1]
		}
		return value
	}
	return ""
}

// rewritten is the command with flags before its own, and with those of its own
// exchanged that swap names; for "" they are left away.
func (c Command) rewritten(front []string, swap map[string]string) []string {
	chdir, rest := c.chdir()
	args := slices.Concat(c.Args[:2], chdir, front)
	for i := 0; i < len(rest); i++ {
		arg := rest[i]
		if arg == "-args" || arg == "--args" || arg == "--" || c.Args[1] == "run" && !strings.HasPrefix(arg, "-") {
			return append(args, rest[i:]...)
		}
		flag, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		instead, ok := swap[flag]
		if !ok || !strings.HasPrefix(arg, "-") {
			args = append(args, arg)
			continue
		}
		if instead != "" {
			args = append(args, instead)
		}
		if !hasValue {
			i++
		}
	}
	return args
}

// Pretends reports whether a trace of the command needs a helper that claims to
// have the results of tests: it runs tests.
func (c Command) Pretends() bool {
	if c.Args[1] != "test" {
		return false
	}
	for _, arg := range c.Args[2:] {
		switch strings.TrimLeft(arg, "-") {
		case "args":
			return true
		case "a", "c", "n", "a=true", "c=true", "n=true":
			return !strings.HasPrefix(arg, "-")
		}
	}
	return true
}
