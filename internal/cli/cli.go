// Package cli is the frame of a command line with commands: it finds the
// command, parses its flags, prints help and completion scripts, and turns
// errors into messages and exit codes.
//
// What a user reads when something fails is three clauses: what happened, what
// the program did about it, what they can do (the hint).
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// Exit codes, the same for every command. "run" ends with its command's own.
const (
	ExitOK    = 0 // done, nothing wrong
	ExitFail  = 1 // the command could not do its work, or it found what it looks for: damage, a finding
	ExitUsage = 2 // the command line is wrong; nothing was done
)

// An App is a program with commands.
type App struct {
	Name     string
	About    string // what it is, for the top of its help
	Epilogue string // the end of its help
	Commands []Command
	Stdout   io.Writer
	Stderr   io.Writer
}

// A Command is one of an App's commands.
type Command struct {
	Name  string
	Args  string // what follows the flags, as in a usage line: "-- CMD [ARG...]"
	Short string // one line, without a full stop
	Long  string // paragraphs
	// Setup adds the command's flags to fs and returns what runs once they are parsed.
	Setup func(fs *flag.FlagSet) Run
}

// Run is a command's work. args are the arguments after the flags.
type Run func(ctx context.Context, args []string) error

// A UsageError is a wrong command line.
type UsageError struct{ What string }

func (e *UsageError) Error() string { return e.What }

// An ExitError ends the program with Code. Err may be nil: then the command has
// said all there is to say.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// A HintError adds what the user can do to an error.
type HintError struct {
	Err  error
	Hint string
}

func (e *HintError) Error() string { return e.Err.Error() }

func (e *HintError) Unwrap() error { return e.Err }

// Main runs the command that args (without the program's name) name, and
// returns the exit code.
func (a *App) Main(ctx context.Context, args []string) int {
	if len(args) == 0 {
		a.help(a.Stdout)
		return ExitOK
	}
	name, rest := args[0], args[1:]
	switch name {
	case "-h", "-help", "--help":
		a.help(a.Stdout)
		return ExitOK
	case "help":
		if len(rest) == 0 {
			a.help(a.Stdout)
			return ExitOK
		}
		name, rest = rest[0], []string{"-h"}
	case "completion":
		return a.exit("completion", a.completion(rest))
	}
	for _, c := range a.Commands {
		if c.Name == name {
			return a.run(ctx, c, rest)
		}
	}
	return a.exit("", &HintError{
		Err:  &UsageError{fmt.Sprintf("no command %q", name)},
		Hint: fmt.Sprintf("run %q for the commands", a.Name+" help"),
	})
}

func (a *App) run(ctx context.Context, c Command, args []string) int {
	fs := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors and help are printed below, each once
	run := c.Setup(fs)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		a.commandHelp(c, fs)
		return ExitOK
	case err != nil:
		return a.exit(c.Name, &HintError{
			Err:  &UsageError{err.Error()},
			Hint: fmt.Sprintf("run %q for its flags", a.Name+" "+c.Name+" -h"),
		})
	}
	return a.exit(c.Name, run(ctx, fs.Args()))
}

// exit prints err, if any, as the user reads it, and returns its exit code.
func (a *App) exit(command string, err error) int {
	if err == nil {
		return ExitOK
	}
	code := ExitFail
	var exit *ExitError
	var usage *UsageError
	var hint *HintError
	if errors.As(err, &exit) {
		if code = exit.Code; exit.Err == nil {
			return code
		}
	} else if errors.As(err, &usage) {
		code = ExitUsage
	}
	fmt.Fprintf(a.Stderr, "%s: %v\n", strings.TrimSpace(a.Name+" "+command), err)
	if errors.As(err, &hint) {
		fmt.Fprintf(a.Stderr, "%s: hint: %s\n", a.Name, hint.Hint)
	}
	return code
}

func (a *App) help(w io.Writer) {
	fmt.Fprintf(w, "%s\n\nUsage:\n  %s COMMAND [FLAG...] [ARG...]\n\nCommands:\n", a.About, a.Name)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range a.Commands {
		fmt.Fprintf(tw, "  %s\t%s\n", c.Name, c.Short)
	}
	fmt.Fprintf(tw, "  completion\tprint a completion script for bash, zsh or fish\n")
	tw.Flush()
	fmt.Fprintf(w, "\nRun \"%s COMMAND -h\" for a command's flags.\n", a.Name)
	if a.Epilogue != "" {
		fmt.Fprintf(w, "\n%s\n", a.Epilogue)
	}
}

func (a *App) commandHelp(c Command, fs *flag.FlagSet) {
	w := a.Stdout
	fmt.Fprintf(w, "%s %s: %s\n\nUsage:\n  %s\n", a.Name, c.Name, c.Short,
		strings.TrimSpace(strings.Join([]string{a.Name, c.Name, "[FLAG...]", c.Args}, " ")))
	if c.Long != "" {
		fmt.Fprintf(w, "\n%s\n", c.Long)
	}
	fmt.Fprintf(w, "\nFlags:\n")
	fs.SetOutput(w)
	fs.PrintDefaults()
	fmt.Fprintf(w, "  -h\tprint this help\n")
}

// NoArgs is the UsageError for arguments where none are taken, or nil.
func NoArgs(args []string) error {
	if len(args) > 0 {
		return &UsageError{fmt.Sprintf("unexpected argument %q", args[0])}
	}
	return nil
}

// IsTerminal reports whether f is a terminal: a character device that is not
// the null device. (golang.org/x/term asks the system outright; this is as
// right for what people have, and the helper links nothing for it.)
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
