package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/larder-build/larder/internal/agent"
	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/tracing"
)

// agentMemory is what the agent's garbage collector aims to stay under.
const agentMemory = 96 << 20

func agentCommand() cli.Command {
	return cli.Command{
		Name:  "agent",
		Short: "be the agent, which larder starts by itself when it is needed",
		Long: `There is one agent for a user; another one ends at once. It ends by itself when
it has not been needed for a while and has nothing left to upload.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			idle := fs.Duration("idle", 15*time.Minute, "end after this `duration` without a build")
			stop := fs.Bool("stop", false, "end the running agent instead; what it has to upload is kept for the next one")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				place, err := session.FindPlace()
				if err != nil {
					return err
				}
				if *stop {
					return stopAgent(ctx, place)
				}
				debug.SetMemoryLimit(agentMemory)
				log := slog.New(slog.NewTextHandler(os.Stderr, nil))
				tracer := tracing.Open("larder-agent", cli.Version(), log)
				defer tracer.Close()
				return agent.Run(ctx, agent.Options{Place: place, Version: cli.Version(), Idle: *idle, Log: log, Tracer: tracer})
			}
		},
	}
}

func stopAgent(ctx context.Context, place session.Place) error {
	c, err := session.Connect(ctx, place, nil, session.Hello{Version: cli.Version()}, nil)
	if errors.Is(err, session.ErrNoAgent) {
		return nil // none runs
	}
	if err != nil {
		return err
	}
	c.Stop()
	return nil
}
