package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
)

func doctorCommand() cli.Command {
	return cli.Command{
		Name:  "doctor",
		Short: "check the go command's wiring and the local store, and say what to mend",
		Long:  `The exit code is 1 if something was found that should be mended.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			flags := config.AddFlags(fs)
			asJSON := fs.Bool("json", false, "print JSON")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				return doctor(ctx, flags, *asJSON)
			}
		},
	}
}

// A finding is what one check found.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	What   string `json:"what"`
	Remedy string `json:"remedy,omitempty"` // if not OK
}

func good(check, format string, args ...any) finding {
	return finding{Check: check, OK: true, What: fmt.Sprintf(format, args...)}
}

func bad(check, remedy, format string, args ...any) finding {
	return finding{Check: check, What: fmt.Sprintf(format, args...), Remedy: remedy}
}

func doctor(ctx context.Context, flags *config.Flags, asJSON bool) error {
	cfg, problems := config.Load(flags, goEnviron())
	var findings []finding
	for _, p := range problems {
		findings = append(findings, bad("settings", "correct or remove it", "%v", p))
	}
	if len(problems) == 0 {
		findings = append(findings, good("settings", "all can be used"))
	}
	findings = append(findings, checkGo(ctx)...)
	findings = append(findings, checkStore(ctx, cfg)...)
	findings = append(findings, checkSessions(cfg)...)
	return report(findings, asJSON)
}

func report(findings []finding, asJSON bool) error {
	toMend := 0
	for _, f := range findings {
		if !f.OK {
			toMend++
		}
	}
	if asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(findings); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			mark := "ok  "
			if !f.OK {
				mark = "MEND"
			}
			fmt.Printf("%s  %s: %s\n", mark, f.Check, f.What)
			if f.Remedy != "" {
				fmt.Printf("      -> %s\n", f.Remedy)
			}
		}
	}
	if toMend > 0 {
		return &cli.ExitError{Code: cli.ExitFail}
	}
	return nil
}
