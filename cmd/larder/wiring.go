package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/cli"
)

// A wiring is how the go command finds its cache program, as "go env -json" says: by
// a variable of the environment, or, if that is not set or empty, by what "go env -w"
// has written (cmd/go/internal/cfg/cfg.go, Getenv).
type wiring struct {
	Environment string `json:"-"`           // the variable's value
	Written     string `json:"GOCACHEPROG"` // the value in File
	File        string `json:"GOENV"`       // "" if there is none (nowhere)
	Version     string `json:"GOVERSION"`
	Cache       string `json:"GOCACHE"`
}

// goSettings runs "go env" without the variable GOCACHEPROG: an empty one is none.
func goSettings(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"env"}, args...)...)
	cmd.Env = append(os.Environ(), "GOCACHEPROG=")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	if text := strings.TrimSpace(said.String()); text != "" {
		err = fmt.Errorf("%s", text)
	}
	return nil, fmt.Errorf("run go env: %w", err)
}

// writable is an error if "go env -w" cannot set a cache program that the go command
// will use.
func (w wiring) writable(command string) error {
	otherwise := "set the variable instead: " + exportLine(command)
	switch {
	case tooOld(w.Version):
		return &cli.HintError{Err: fmt.Errorf("%s does not use cache programs", w.Version), Hint: "use Go 1.24 or later"}
	case w.File == "":
		return &cli.HintError{Err: fmt.Errorf("go env -w has nowhere to write: %s", nowhere()), Hint: otherwise}
	}
	return nil
}

// nowhere says why the go command has no file for its settings.
func nowhere() string {
	if os.Getenv("GOENV") == "off" {
		return "GOENV is off"
	}
	return "there is no home directory (HOME)"
}

// writeWiring sets GOCACHEPROG with "go env -w"; "" unsets it.
func writeWiring(ctx context.Context, command string) (err error) {
	if command == "" {
		_, err = goSettings(ctx, "-u", "GOCACHEPROG")
	} else {
		_, err = goSettings(ctx, "-w", "GOCACHEPROG="+command)
	}
	return err
}

// kept is the file that holds what GOCACHEPROG was before Larder: beside the go
// command's own, so that each of these has one.
func (w wiring) kept() string { return w.File + ".before-larder" }

// keep has restorable return what is written now, and says whether it will. What was
// kept before stays where Larder is written now.
func (w wiring) keep() bool {
	switch {
	case w.Written == "":
		os.Remove(w.kept())
		return false
	case isLarder(w.Written):
		return false
	}
	return os.WriteFile(w.kept(), []byte(w.Written+"\n"), 0o666) == nil
}

// restorable is what GOCACHEPROG was before Larder, "" if it was not set; usable is
// whether its program is still there: one that is not fails every go command.
func (w wiring) restorable() (command string, usable bool) {
	text, err := os.ReadFile(w.kept())
	if err != nil {
		return "", false
	}
	command = strings.TrimSuffix(string(text), "\n")
	args, err := cacheprog.SplitCommand(command)
	if err != nil || len(args) == 0 {
		return "", false
	}
	_, err = exec.LookPath(args[0])
	return command, err == nil
}

// exportLine sets GOCACHEPROG in a shell.
func exportLine(command string) string {
	if runtime.GOOS == "windows" {
		return "$env:GOCACHEPROG = '" + strings.ReplaceAll(command, "'", "''") + "'"
	}
	return "export GOCACHEPROG='" + strings.ReplaceAll(command, "'", `'\''`) + "'"
}
