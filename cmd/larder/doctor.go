package main

import (
	"context"
	"flag"
	"os"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
)

func doctorCommand() cli.Command {
	return cli.Command{
		Name:  "doctor",
		Short: "check the go command's wiring, the local store, the agent and the remote, and say what to mend",
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

func doctor(ctx context.Context, flags *config.Flags, asJSON bool) error {
	cfg, problems := config.Load(flags, goEnviron())
	var findings []cli.Finding
	for _, p := range problems {
		findings = append(findings, cli.Bad("settings", "correct or remove it", "%v", p))
	}
	if len(problems) == 0 {
		findings = append(findings, cli.Good("settings", "all can be used"))
	}
	findings = append(findings, checkGo(ctx)...)
	findings = append(findings, checkStore(ctx, cfg)...)
	findings = append(findings, checkSessions(cfg)...)
	findings = append(findings, checkAgent(ctx, cfg)...)
	findings = append(findings, checkRemote(ctx, flags, cfg)...)
	return cli.ReportFindings(os.Stdout, findings, asJSON)
}
