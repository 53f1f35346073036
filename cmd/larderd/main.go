// Larderd is Larder's daemon: the team server (larderd serve) and the agent that
// larder, the helper, starts for each user (larderd agent).
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/larder-build/larder/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(app().Main(ctx, os.Args[1:]))
}

func app() *cli.App {
	return &cli.App{
		Name: "larderd",
		About: `Larderd is the daemon of Larder, the build and test cache for the go command.

Run a team server: larderd serve -dir /var/lib/larder -listen :7070 -tokens FILE -tls-cert FILE -tls-key FILE`,
		Epilogue: `Exit codes: 0 done; 1 it could not be done; 2 wrong usage.`,
		Commands: []cli.Command{
			serveCommand(),
			tokenCommand(),
			agentCommand(),
			checkCommand(),
			benchCommand(),
			cli.VersionCommand("larderd"),
		},
		Stdout: os.Stdout,
		Stderr: os.Stderr,
	}
}
