package main

import (
	"context"
	"flag"
	"os"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/gocommand"
)

func doctorCommand() cli.Command {
	return cli.Command{
		Name:  "doctor",
		Args:  "[-- go COMMAND [ARG...]]",
		Short: "check the go command's wiring, the local store, the agent and the remote, and what costs hits here",
		Long: `What is marked MEND should be mended, and makes the exit code 1. What is marked
COST works, but costs hits in the checkout that the working directory is in: with
the remedy. It is looked at for "go test ./..." or the go command that is given, of
which nothing is built or run. docs/doctor.md tells all that is looked at.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			flags := config.AddFlags(fs)
			asJSON := fs.Bool("json", false, "print JSON")
			return func(ctx context.Context, args []string) error {
				if len(args) == 0 {
					args = []string{"go", "test", "./..."}
				}
				if _, err := gocommand.Parse(args); err != nil {
					return &cli.HintError{Err: &cli.UsageError{What: err.Error()}, Hint: "for example: larder doctor -- go test -race ./..."}
				}
				return examine(ctx, flags, args, *asJSON)
			}
		},
	}
}

func examine(ctx context.Context, flags *config.Flags, args []string, asJSON bool) error {
	cfg, problems := config.Load(flags, goEnviron())
	var findings []cli.Finding
	for _, p := range problems {
		findings = append(findings, cli.Bad("settings", "correct or remove it", "%v", p))
	}
	if len(problems) == 0 {
		findings = append(findings, cli.Good("settings", "all can be used"))
	}
	goEnv, goFindings := checkGo(ctx)
	findings = append(findings, goFindings...)
	findings = append(findings, checkStore(ctx, cfg)...)
	findings = append(findings, checkSessions(cfg)...)
	findings = append(findings, checkAgent(ctx, cfg)...)
	findings = append(findings, checkRemote(ctx, flags, cfg)...)
	if goEnv != nil {
		findings = append(findings, checkHits(ctx, flags, cfg, goEnv, args)...)
	}
	return cli.ReportFindings(os.Stdout, findings, asJSON)
}
