package cli_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/cli"
)

func app(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name: "prog", About: "Prog does it.", Stdout: stdout, Stderr: stderr,
		Commands: []cli.Command{{
			Name: "do", Args: "WHAT", Short: "do a thing",
			Setup: func(fs *flag.FlagSet) cli.Run {
				loud := fs.Bool("loud", false, "say so")
				return func(ctx context.Context, args []string) error {
					if len(args) == 0 {
						return &cli.HintError{Err: &cli.UsageError{What: "nothing to do"}, Hint: "name it"}
					}
					switch args[0] {
					case "fail":
						return errors.New("it broke")
					case "seven":
						return &cli.ExitError{Code: 7}
					case "eight":
						return &cli.ExitError{Code: 8, Err: errors.New("eight it is")}
					}
					if *loud {
						io.WriteString(stdout, "done\n")
					}
					return nil
				}
			},
		}},
	}
}

func TestMainExitsAndExplains(t *testing.T) {
	for _, tt := range []struct {
		args   string
		code   int
		stdout string // in it
		stderr string // all of it
	}{
		{"", 0, "Commands:\n  do", ""},
		{"-h", 0, "Prog does it.", ""},
		{"help do", 0, "prog do [FLAG...] WHAT", ""},
		{"do -h", 0, "-loud\n", ""},
		{"do -loud thing", 0, "done\n", ""},
		{"do fail", 1, "", "prog do: it broke\n"},
		{"do seven", 7, "", ""},
		{"do eight", 8, "", "prog do: eight it is\n"},
		{"do", 2, "", "prog do: nothing to do\nprog: hint: name it\n"},
		{"do -soft", 2, "", "prog do: flag provided but not defined: -soft\nprog: hint: run \"prog do -h\" for its flags\n"},
		{"undo", 2, "", "prog: no command \"undo\"\nprog: hint: run \"prog help\" for the commands\n"},
		{"completion", 2, "", "prog completion: name a shell: bash, zsh or fish\n"},
		{"completion bash", 0, "do) words=\"-loud -h\"", ""},
		{"completion zsh", 0, "#compdef prog", ""},
		{"completion fish", 0, "complete -c prog -n '__fish_seen_subcommand_from do' -o loud", ""},
	} {
		var stdout, stderr bytes.Buffer
		if code := app(&stdout, &stderr).Main(context.Background(), strings.Fields(tt.args)); code != tt.code {
			t.Errorf("%q: exit code %d, want %d", tt.args, code, tt.code)
		}
		if !strings.Contains(stdout.String(), tt.stdout) || stderr.String() != tt.stderr {
			t.Errorf("%q: stdout %q, stderr %q", tt.args, &stdout, &stderr)
		}
	}
}

func TestIsTerminal(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, f := range []*os.File{null, r} {
		if cli.IsTerminal(f) {
			t.Errorf("%s is a terminal", f.Name())
		}
	}
}
