package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/cli"
)

func disableCommand() cli.Command {
	return cli.Command{
		Name:  "disable",
		Short: "undo what enable did; the cache stays warm",
		Long: `It takes this user's GOCACHEPROG out of what "go env -w" has set, if it is Larder
that is set there, and puts back what enable had replaced, if anything. What is
cached stays: it is the go command's own cache.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			asJSON := fs.Bool("json", false, "print JSON")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				return disable(ctx, *asJSON)
			}
		},
	}
}

// disabled is what disable did, as it prints it.
type disabled struct {
	Command     string `json:"gocacheprog"`           // its value now, where "go env -w" sets it
	File        string `json:"file"`                  // where that is
	Before      string `json:"before,omitempty"`      // its value there before
	Lost        string `json:"lost,omitempty"`        // what enable replaced, if its program is no longer there
	Environment string `json:"environment,omitempty"` // the variable's value, which counts instead
	Store       string `json:"store,omitempty"`       // where what is cached stays
	Native      bool   `json:"native,omitempty"`      // and the go command uses it without Larder
}

func disable(ctx context.Context, asJSON bool) error {
	w, err := readWiring(ctx)
	if err != nil {
		return err
	}
	done := disabled{Command: w.Written, File: w.File, Before: w.Written, Environment: w.Environment}
	if w.Written == "" || !isLarder(w.Written) {
		return done.print(asJSON)
	}
	done.Store = storeOf(w.Written)
	done.Native = done.Store == filepath.Clean(w.Cache)
	restore, usable := w.restorable()
	if !usable {
		restore, done.Lost = "", restore
	}
	if err := writeWiring(ctx, restore); err != nil {
		return &cli.HintError{Err: err, Hint: "see to that file: the line of GOCACHEPROG in it is to go"}
	}
	os.Remove(w.kept()) // if it cannot be, the next disable puts the same back
	if w, err = readWiring(ctx); err != nil {
		return err
	}
	done.Command = w.Written
	return done.print(asJSON)
}

// storeOf is the store that the helper uses which a GOCACHEPROG starts.
func storeOf(command string) string {
	args, err := cacheprog.SplitCommand(command)
	if err != nil || len(args) == 0 {
		return ""
	}
	completeEnviron()
	cfg, _ := loadConfig(args[1:])
	return cfg.Dir
}

func (d disabled) print(asJSON bool) error {
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(d)
	}
	where := " in " + d.File
	if d.File == "" {
		where = " by go env -w: " + nowhere()
	}
	switch {
	case d.Before == "":
		fmt.Printf("GOCACHEPROG was not set%s; nothing is changed\n", where)
	case d.Before == d.Command:
		fmt.Printf("GOCACHEPROG is %s%s, which is not Larder; nothing is changed\n", d.Before, where)
	case d.Command == "":
		fmt.Printf("GOCACHEPROG is no longer set%s; it was %s\n", where, d.Before)
	default:
		fmt.Printf("GOCACHEPROG is again %s%s; it was %s\n", d.Command, where, d.Before)
	}
	if d.Lost != "" {
		fmt.Printf("  before Larder it was %s, whose program is no longer there\n", d.Lost)
	}
	switch {
	case d.Native:
		fmt.Printf("  the cache stays warm in %s, which go commands without Larder use too;\n", d.Store)
		fmt.Printf("  to remove it: go clean -cache, and the directory %s\n", filepath.Join(d.Store, "larder"))
	case d.Store != "":
		fmt.Printf("  what is cached stays in %s; to remove it, remove that directory\n", d.Store)
	}
	if d.Environment != "" {
		fmt.Printf("but the environment sets GOCACHEPROG to %s, which counts first\n", d.Environment)
		fmt.Printf("  %s\n", unsetAdvice)
	}
	return nil
}
