package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
)

func enableCommand() cli.Command {
	return cli.Command{
		Name:  "enable",
		Short: "have every go command of this user use the cache",
		Long: `It sets GOCACHEPROG, with "go env -w", to this program, with the settings given
here, quoted as the go command reads it; before that it starts the program once as
a go command does. The program is named by its path on the PATH if it is found
there, so that an upgrade does not move it. What was set before is printed, and
"larder disable" puts it back.

A variable GOCACHEPROG in the environment counts before what is set so. Where there
is one for each job or pod, as in CI, set that: -print prints what to set it to, and
changes nothing. golangci-lint and staticcheck look at the environment only.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			flags := config.AddFlags(fs)
			asJSON := fs.Bool("json", false, "print JSON")
			printOnly := fs.Bool("print", false, "print the value for a variable GOCACHEPROG, and set nothing")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				return enable(ctx, flags, *printOnly, *asJSON)
			}
		},
	}
}

// enabled is what enable did, as it prints it.
type enabled struct {
	Command     string  `json:"gocacheprog"`           // its value now
	File        string  `json:"file,omitempty"`        // where it is set
	Before      string  `json:"before,omitempty"`      // its value there before
	Kept        bool    `json:"kept,omitempty"`        // disable puts Before back
	Environment string  `json:"environment,omitempty"` // the variable's value, which counts instead
	Ready       float64 `json:"ready_seconds"`         // after which the program was ready
}

func enable(ctx context.Context, flags *config.Flags, printOnly, asJSON bool) error {
	_, problems := config.Load(flags, os.Environ())
	for _, p := range problems {
		if p.Source == config.FlagSource {
			return &cli.UsageError{What: p.Setting + ": " + p.What}
		}
	}
	program, err := stablePath()
	if err != nil {
		return err
	}
	if err := checkLasting(program); err != nil {
		return &cli.HintError{Err: err, Hint: "install it first: go install ./cmd/larder ./cmd/larderd, in a clone of Larder"}
	}
	command, err := commandOf(program, flags)
	if err != nil {
		return &cli.HintError{Err: err, Hint: "move larder to a directory without quotes in its path"}
	}
	done := enabled{Command: command}
	var before wiring
	if !printOnly {
		if before, err = readWiring(ctx); err == nil {
			err = before.writable(command)
		}
		if err != nil {
			return err
		}
	}
	ready, err := tryProg(ctx, command, "LARDER_MODE="+string(config.Off))
	if err != nil {
		return fmt.Errorf("%s %w; nothing is changed", command, err)
	}
	done.Ready = ready.Seconds()
	if printOnly {
		return done.print(asJSON)
	}

	done.File, done.Before, done.Environment = before.File, before.Written, before.Environment
	done.Kept = before.keep()
	if err := writeWiring(ctx, command); err != nil {
		return &cli.HintError{Err: err, Hint: "see to that file, or set the variable for the session: " + exportLine(command)}
	}
	return done.print(asJSON)
}

func (e enabled) print(asJSON bool) error {
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(e)
	}
	if e.File == "" {
		_, err := fmt.Println(e.Command)
		return err
	}
	fmt.Printf("GOCACHEPROG is now %s\n  in %s, for every go command of this user\n", e.Command, e.File)
	switch {
	case e.Before == "":
		fmt.Printf("  it was not set before\n")
	case e.Before == e.Command:
		fmt.Printf("  it was that before\n")
	case e.Kept:
		fmt.Printf("  it was %s before; \"larder disable\" puts that back\n", e.Before)
	default:
		fmt.Printf("  it was %s before\n", e.Before)
	}
	ready := time.Duration(e.Ready * float64(time.Second))
	fmt.Printf("  it starts, and is ready after %v; \"larder doctor\" checks the rest\n", ready.Round(10*time.Microsecond))
	switch {
	case e.Environment == e.Command:
		fmt.Printf("  the environment sets it to the same\n")
	case e.Environment != "":
		fmt.Printf("but this has NO EFFECT here: the environment sets GOCACHEPROG to %s, which counts first\n", e.Environment)
		fmt.Printf("  %s\n", unsetAdvice)
	}
	return nil
}

// unsetAdvice says how to be rid of a variable GOCACHEPROG.
const unsetAdvice = `run "unset GOCACHEPROG", and take it out of what sets it: the shell's profile, the editor's or the CI system's settings`

// readWiring asks the go command how it is set up.
func readWiring(ctx context.Context) (wiring, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return wiring{}, &cli.HintError{Err: errors.New("there is no go command on the PATH"), Hint: "install Go, or put it on the PATH"}
	}
	out, err := goSettings(ctx, "-json", "GOCACHEPROG", "GOENV", "GOVERSION", "GOCACHE")
	if err != nil {
		return wiring{}, err
	}
	var w wiring
	if err := json.Unmarshal(out, &w); err != nil {
		return wiring{}, fmt.Errorf("read what go env prints: %w", err)
	}
	w.Environment = os.Getenv("GOCACHEPROG")
	return w, nil
}
