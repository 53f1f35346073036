// Larder is a build and test cache for the go command: the helper that the go
// command starts (GOCACHEPROG=larder), and the command line around it.
package main

import (
	"context"
	"os"
	"os/signal"
	"strings"

	"github.com/larder-build/larder/internal/cli"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == toolVersionArg {
		os.Exit(toolVersion(args[1:]))
	}
	if isHelper(args) {
		os.Exit(serve(args))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(app().Main(ctx, args))
}

// isHelper reports whether the go command is (or might be) at the other end:
// no command is named, only flags if anything, and no person sits there.
func isHelper(args []string) bool {
	if len(args) == 0 {
		return !cli.IsTerminal(os.Stdin)
	}
	switch args[0] {
	case "-h", "-help", "--help":
		return false
	}
	return strings.HasPrefix(args[0], "-")
}

func app() *cli.App {
	return &cli.App{
		Name: "larder",
		About: `Larder is a build and test cache for the go command.

Run one command with it: larder run -- go build ./...
Or have every go command use it: larder enable`,
		Epilogue: `Without a command and not at a terminal, larder is the helper: it speaks the
go command's cache protocol on its standard input and output.

Exit codes: 0 done; 1 it could not be done, or damage or a finding was found;
2 wrong usage. "larder pull" and "larder push" end with 0 whatever happens to the
remote. "larder run" ends with its command's own exit code, 126 if that
cannot be started and 127 if it is not found.`,
		Commands: []cli.Command{
			runCommand(),
			enableCommand(),
			disableCommand(),
			flushCommand(),
			pullCommand(),
			pushCommand(),
			statsCommand(),
			configCommand(),
			doctorCommand(),
			trimCommand(),
			verifyCommand(),
			explainCommand(),
			touchCommand(),
			benchCommand(),
			conformCommand(),
			cli.VersionCommand("larder"),
		},
		Stdout: os.Stdout,
		Stderr: os.Stderr,
	}
}
