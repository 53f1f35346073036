package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/session"
)

// checkLimit is how long larderd may take to look at the remote.
const checkLimit = 30 * time.Second

// checkAgent looks at the agent and at what waits to be uploaded.
func checkAgent(ctx context.Context, cfg config.Config) []cli.Finding {
	const check = "agent"
	if _, ok := remoteOf(cfg); !ok {
		return nil
	}
	place, err := session.FindPlace()
	if err != nil {
		return []cli.Finding{cli.Bad(check, "have one directory that this user can write: a home, /var/tmp or /tmp", "%v: builds go on without the remote", err)}
	}
	var findings []cli.Finding
	c, err := session.Connect(ctx, place, nil, session.Hello{Version: cli.Version()}, nil)
	switch {
	case err == nil:
		findings = append(findings, cli.Good(check, "version %s runs as process %d; its log is %s", c.Welcome.Version, c.Welcome.PID, place.Log()))
		c.Close()
	default:
		if _, programErr := (session.Starter{Place: place, Larderd: cfg.Larderd}).Program(); programErr != nil {
			return append(findings, cli.Bad(check, "install larderd beside larder, or set LARDER_LARDERD to its path", "%v: builds go on without the remote", programErr))
		}
		findings = append(findings, cli.Good(check, "does not run; the next build that lacks something starts it"))
	}
	jobs, err := place.Jobs()
	if err != nil {
		return append(findings, cli.Bad("uploads", "make it readable, or remove it", "%s cannot be read: %v", place.Queue(), err))
	}
	if len(jobs) > 0 {
		findings = append(findings, cli.Good("uploads", "what %s made waits to be uploaded; larder flush waits for it", count(int64(len(jobs)), "build")))
	}
	return findings
}

// checkRemote has larderd look at the remote, as the agent will: this program does
// not link what speaks HTTP.
func checkRemote(ctx context.Context, flags *config.Flags, cfg config.Config) []cli.Finding {
	const check = "remote"
	if _, ok := remoteOf(cfg); !ok {
		if cfg.Remote != "" {
			return []cli.Finding{cli.Good(check, "%s is set, and off (LARDER_MODE)", cfg.Remote)}
		}
		return []cli.Finding{cli.Good(check, "none is set: this machine's cache is its own")}
	}
	place, err := session.FindPlace()
	if err != nil {
		return nil // checkAgent has said it
	}
	program, err := session.Starter{Place: place, Larderd: cfg.Larderd}.Program()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"check", "-json"}, flags.Args()...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var findings []cli.Finding
	var exit *exec.ExitError
	if jsonErr := json.Unmarshal(out, &findings); jsonErr != nil {
		if err == nil || errors.As(err, &exit) {
			err = jsonErr
		}
		return []cli.Finding{cli.Bad(check, "install larder and larderd of one version", "%s could not look at it: %v", program, err)}
	}
	return findings
}
