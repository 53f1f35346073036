package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"

	"github.com/larder-build/larder/internal/cli"
)

func versionCommand() cli.Command {
	return cli.Command{
		Name:  "version",
		Short: "print Larder's version",
		Setup: func(fs *flag.FlagSet) cli.Run {
			asJSON := fs.Bool("json", false, "print JSON")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				if *asJSON {
					return json.NewEncoder(os.Stdout).Encode(map[string]string{
						"version": version(), "go": runtime.Version(), "os": runtime.GOOS, "arch": runtime.GOARCH,
					})
				}
				fmt.Printf("larder %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return nil
			}
		},
	}
}
