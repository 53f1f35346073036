package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/cli"
)

// checkGo looks at the go command and at its wiring to a cache program, as the go
// command itself sees both. It returns what "go env" prints; nil if there is no go
// command that uses cache programs.
func checkGo(ctx context.Context) (map[string]string, []cli.Finding) {
	out, err := exec.CommandContext(ctx, "go", "env", "-json").Output()
	if err != nil {
		return nil, []cli.Finding{cli.Bad("go", "install Go, or put it on PATH", "the go command cannot be run: %v", err)}
	}
	var env map[string]string
	if err := json.Unmarshal(out, &env); err != nil {
		return nil, []cli.Finding{cli.Bad("go", "", "what go env prints cannot be read: %v", err)}
	}
	version := env["GOVERSION"]
	if tooOld(version) {
		return nil, []cli.Finding{cli.Bad("go", "use Go 1.24 or later", "%s does not use cache programs", version)}
	}
	return env, []cli.Finding{cli.Good("go", "%s", version), checkProg(ctx, env["GOCACHEPROG"])}
}

// tooOld reports whether version is of a Go that knows no GOCACHEPROG unless it
// was built with an experiment.
func tooOld(version string) bool {
	for _, old := range []string{"go1.21", "go1.22", "go1.23"} {
		if version == old || strings.HasPrefix(version, old+".") || strings.HasPrefix(version, old+"rc") {
			return true
		}
	}
	return false
}

// checkProg starts the program that GOCACHEPROG names, as the go command does,
// and asks it for something.
func checkProg(ctx context.Context, command string) cli.Finding {
	const check = "GOCACHEPROG"
	if command == "" {
		return cli.Good(check, `is not set: Larder is used under "larder run" only ("go env -w GOCACHEPROG=larder" would use it always)`)
	}
	args, err := cacheprog.SplitCommand(command)
	if err != nil || len(args) == 0 {
		return cli.Bad(check, "correct its quotes", "%s: %v", command, err)
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return cli.Bad(check, "put its directory on PATH, or set GOCACHEPROG to its full path", "%s is not found: %v; builds fail", args[0], errors.Unwrap(err))
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	begin := time.Now()
	// What is asked here is nothing to count.
	client, err := cacheprog.Start(ctx, command, &cacheprog.StartOptions{Env: append(os.Environ(), "LARDER_STATS=false")})
	if err != nil {
		return cli.Bad(check, "run it by hand and read what it prints", "%s does not start as a cache program: %v; builds fail", command, err)
	}
	started := time.Since(begin)
	var id cacheprog.ActionID
	rand.Read(id[:])
	_, err = client.Get(ctx, id)
	if closeErr := client.Close(); closeErr != nil && (err == nil || errors.Is(err, cacheprog.ErrMiss)) {
		err = closeErr
	}
	if err != nil && !errors.Is(err, cacheprog.ErrMiss) {
		return cli.Bad(check, "run it by hand and read what it prints", "%s answers a get with: %v", command, err)
	}
	if self, err := os.Executable(); err == nil && !sameFile(self, path) {
		return cli.Bad(check, "is that the one you mean?", "works, but is %s, not this program (%s)", path, self)
	}
	return cli.Good(check, "%s, ready after %v", path, started.Round(10*time.Microsecond))
}

func sameFile(a, b string) bool {
	ai, aerr := os.Stat(a)
	bi, berr := os.Stat(b)
	return aerr == nil && berr == nil && os.SameFile(ai, bi)
}
