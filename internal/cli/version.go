package cli

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
)

// release is a release's version, which the linker sets (-X); it is not changed.
var release string

// Version is the release's version, else the module's as the go command stamped
// it, else the commit.
func Version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}

// VersionCommand is the command that prints the version of a program.
func VersionCommand(program string) Command {
	return Command{
		Name:  "version",
		Short: "print the version",
		Setup: func(fs *flag.FlagSet) Run {
			asJSON := fs.Bool("json", false, "print JSON")
			return func(_ context.Context, args []string) error {
				if err := NoArgs(args); err != nil {
					return err
				}
				if *asJSON {
					return json.NewEncoder(os.Stdout).Encode(map[string]string{
						"version": Version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
					})
				}
				fmt.Printf("%s %s %s %s/%s\n", program, Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return nil
			}
		},
	}
}
