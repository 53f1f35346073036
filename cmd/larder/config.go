package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"text/tabwriter"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
)

func configCommand() cli.Command {
	return cli.Command{
		Name:  "config",
		Short: "print each setting, its value and where that came from",
		Long: `A setting is, in this order: a flag (-max-size), an environment variable
(LARDER_MAX_SIZE), a key of the TOML file (max_size), the default. The file is
the one that LARDER_CONFIG names, else larder/config.toml in the user's
configuration directory.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			flags := config.AddFlags(fs)
			asJSON := fs.Bool("json", false, "print JSON")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				return showConfig(commandConfig(flags), *asJSON)
			}
		},
	}
}

func showConfig(cfg config.Config, asJSON bool) error {
	if asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(struct {
			File     string         `json:"file"`
			Settings []config.Value `json:"settings"`
		}{cfg.File, cfg.Values})
	}
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, v := range cfg.Values {
		fmt.Fprintf(tw, "%s\t%s\t(%s)\n", v.Name, v.Value, v.Source)
	}
	fmt.Fprintf(tw, "\nfile\t%s\n", cfg.File)
	return tw.Flush()
}

// commandConfig reads the settings for a command and prints what is wrong with
// them, as the helper does.
func commandConfig(flags *config.Flags) config.Config {
	cfg, problems := config.Load(flags, goEnviron())
	for _, p := range problems {
		fmt.Fprintf(os.Stderr, "larder: %v\n", p)
	}
	return cfg
}

// goEnviron is the environment as the go command gives it to the helper: with
// the GOCACHE that "go env -w" may have set. Without a go command it is as it is.
func goEnviron() []string {
	environ := os.Environ()
	if os.Getenv("GOCACHE") != "" {
		return environ
	}
	if dir := goCache(); dir != "" {
		environ = append(environ, "GOCACHE="+dir)
	}
	return environ
}

// goCache is the go command's cache directory, "" if there is no go command.
func goCache() string {
	env, _ := goEnv(context.Background(), "go", "", "GOCACHE")
	return env["GOCACHE"]
}

// goEnv is what a go command that is run in dir says of variables; with none, of all.
func goEnv(ctx context.Context, command, dir string, variables ...string) (map[string]string, error) {
	cmd := exec.CommandContext(ctx, command, append([]string{"env", "-json"}, variables...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	env := make(map[string]string)
	if err := json.Unmarshal(out, &env); err != nil {
		return nil, fmt.Errorf("read what %s env prints: %w", command, err)
	}
	return env, nil
}
