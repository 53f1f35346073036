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
		Long: `There is one agent for a user, and another one for each other network namespace,
other proxy variables, certificates (SSL_CERT_FILE, SSL_CERT_DIR) or limits that the
user runs builds with; a second one for the same ends at once. It ends by itself when
it has not been needed for a while and has nothing left to upload.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			idle := fs.Duration("idle", 15*time.Minute, "end after this `duration` without a build")
			stop := fs.Bool("stop", false, "end the user's running agents instead; what they have to upload is kept for the next ones")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				place, err := session.FindPlace()
				if err != nil {
					return err
				}
				if *stop {
					return stopAgents(ctx, place)
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

// stopAgents ends the user's agents, in whatever surroundings they were started.
func stopAgents(ctx context.Context, place session.Place) error {
	for _, p := range append(place.Others(), place) {
		c, err := session.Connect(ctx, p, nil, session.Hello{Version: cli.Version()}, nil)
		if errors.Is(err, session.ErrNoAgent) {
			continue // none runs
		}
		if err != nil {
			return err
		}
		c.Stop()
	}
	return nil
}
