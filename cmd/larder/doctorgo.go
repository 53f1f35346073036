package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
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
	const first = 24 // go1.24
	minor, ok := strings.CutPrefix(version, "go1.")
	if end := strings.IndexFunc(minor, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		minor = minor[:end]
	}
	n, err := strconv.Atoi(minor)
	return ok && err == nil && n < first
}

// checkProg starts the program that GOCACHEPROG names, as the go command does,
// and asks it for something.
func checkProg(ctx context.Context, command string) cli.Finding {
	const check = "GOCACHEPROG"
	if command == "" {
		return cli.Good(check, `is not set: Larder is used under "larder run" only ("larder enable" would use it always)`)
	}
	args, err := cacheprog.SplitCommand(command)
	if err != nil || len(args) == 0 {
		return cli.Bad(check, "correct its quotes", "%s: %v", command, err)
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return cli.Bad(check, "put its directory on PATH, or set GOCACHEPROG to its full path", "%s is not found: %v; builds fail", args[0], errors.Unwrap(err))
	}
	started, err := tryProg(ctx, command)
	if err != nil {
		return cli.Bad(check, "run it by hand and read what it prints", "%s %v; builds fail", command, err)
	}
	if self, err := ownPath(); err == nil && !sameFile(self, path) {
		return cli.Bad(check, "is that the one you mean?", "works, but is %s, not this program (%s)", path, self)
	}
	return cli.Good(check, "%s, ready after %v", path, started.Round(10*time.Microsecond))
}

// tryLimit is how long a cache program may take to start and to answer one get: a
// virus scanner that looks at it for the first time takes seconds.
const tryLimit = 30 * time.Second

// tryProg starts a cache program as the go command does, with more in its environment,
// and asks it for something that nothing has. It returns how long it took to start.
func tryProg(ctx context.Context, command string, env ...string) (started time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	begin := time.Now()
	// What is asked here is nothing to count.
	client, err := cacheprog.Start(ctx, command, &cacheprog.StartOptions{Env: append(append(os.Environ(), "LARDER_STATS=false"), env...)})
	if err != nil {
		return 0, fmt.Errorf("does not start as a cache program: %w", err)
	}
	started = time.Since(begin)
	var id cacheprog.ActionID
	rand.Read(id[:])
	_, err = client.Get(ctx, id)
	if closeErr := client.Close(); closeErr != nil && (err == nil || errors.Is(err, cacheprog.ErrMiss)) {
		err = closeErr
	}
	if err != nil && !errors.Is(err, cacheprog.ErrMiss) {
		return 0, fmt.Errorf("answers a get with: %w", err)
	}
	return started, nil
}

func sameFile(a, b string) bool {
	ai, aerr := os.Stat(a)
	bi, berr := os.Stat(b)
	return aerr == nil && berr == nil && os.SameFile(ai, bi)
}
