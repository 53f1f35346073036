package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/explain"
	"github.com/larder-build/larder/internal/touch"
)

// lookMax bounds each command that Look runs. Listing a module of 1,000 packages
// takes half a second.
const lookMax = 10 * time.Second

// Look collects what is known of the checkout in the working directory, apart from
// Command, Sharing and what tests read. goEnv is what "go env" prints there; environ is
// the environment for the go command, with a cache that it may use.
func Look(ctx context.Context, goEnv map[string]string, environ []string) *Checkout {
	c := &Checkout{Go: goEnv, Getenv: os.Getenv, Written: written(goEnv["GOENV"])}
	c.CC = ccVersion(ctx, goEnv["CC"])
	if c.module() == "" {
		return c
	}
	if data, err := os.ReadFile(goMod(goEnv)); err == nil {
		c.Mod = parseMod(string(data))
	}
	if packages, err := list(ctx, environ); err != nil {
		c.Problem = err.Error()
	} else {
		c.Packages = packages
	}
	if root, tracked, err := touch.Find(ctx, "."); err == nil {
		slices.Sort(tracked)
		c.Root, c.Tracked, c.Trees = root, tracked, worktrees(ctx, root)
	}
	return c
}

// goMod is the file that says which version of Go is wanted.
func goMod(goEnv map[string]string) string {
	if work := goEnv["GOWORK"]; work != "" && work != "off" {
		return work
	}
	return goEnv["GOMOD"]
}

// parseMod finds the go and toolchain lines of a go.mod or go.work.
func parseMod(text string) (m Mod) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "//")
		switch fields := strings.Fields(line); {
		case len(fields) != 2:
		case fields[0] == "go":
			m.Go = fields[1]
		case fields[0] == "toolchain" && fields[1] != "default":
			m.Toolchain = fields[1]
		}
	}
	return m
}

// written are the variables in the file that "go env -w" writes
// (cmd/go/internal/cfg/cfg.go, readEnvFile). It is not there if nothing was.
func written(file string) map[string]bool {
	names := make(map[string]bool)
	data, err := os.ReadFile(file)
	if err != nil {
		return names
	}
	for line := range strings.Lines(string(data)) {
		if name, _, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(name, "#") {
			names[strings.TrimSpace(name)] = true
		}
	}
	return names
}

// list asks the go command for the packages of the main module and what they import,
// in an order in which imports come first. Packages with errors are listed too.
func list(ctx context.Context, environ []string) ([]Package, error) {
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-deps", "-json=ImportPath,Name,Dir,Standard,DepOnly,CgoFiles,Imports,TestGoFiles,XTestGoFiles", "./...")
	cmd.Env = environ
	cmd.WaitDelay = time.Second
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // go list has ended well, and its helper, for which it does not wait, has not
	}
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n")
		return nil, fmt.Errorf("go list ./...: %w: %s", err, first)
	}
	var packages []Package
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		var p Package
		if err := in.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go list prints: %w", err)
		}
		packages = append(packages, p)
	}
}

// ccVersion is the line of what the C compiler prints that the go command takes for
// its version, and makes part of IDs (gccToolID in cmd/go/internal/work/buildid.go);
// "" if there is none.
func ccVersion(ctx context.Context, cc string) string {
	args, err := cacheprog.SplitCommand(cc)
	if err != nil || len(args) == 0 {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], "-###", "-x", "c", "-c", "-")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return ""
	}
	return versionLine(string(out))
}

// versionLine finds the first line with the word "version", followed by a digit, and
// no word that ends in a colon before.
func versionLine(text string) string {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		for i, field := range fields {
			if strings.HasSuffix(field, ":") {
				break
			}
			if field == "version" && i+1 < len(fields) && fields[i+1][0] >= '0' && fields[i+1][0] <= '9' {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// worktrees counts the checkouts of the repository that git knows of.
func worktrees(ctx context.Context, root string) int {
	cmd := exec.CommandContext(ctx, "git", "worktree", "list", "--porcelain")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return 1
	}
	return strings.Count("\n"+string(out), "\nworktree ")
}

// AddTests adds what tests have read, from the trace of a go command that did not run
// them. whole is whether it came to its end.
func (c *Checkout) AddTests(actions []explain.Action, whole bool) {
	for i := range actions {
		a := &actions[i]
		if a.Kind != explain.Test {
			continue
		}
		t := Test{Package: a.Package}
		for _, r := range a.Reads() {
			switch {
			case r.Op != "env":
				t.Files = append(t.Files, filepath.Clean(r.Name))
			case !r.Unset:
				t.Env = append(t.Env, r.Name)
			}
		}
		c.Tests = append(c.Tests, t)
	}
	switch tested := c.packages(func(p Package) bool { return p.own() && p.tested() }); {
	case tested == 0:
		c.Seen = "there are no tests"
	case len(c.Tests) == 0:
		c.Seen = `what tests read is not known: the store has no results for this code; run "go test ./..." first`
	case whole:
		c.Seen = "those of " + plural(len(c.Tests), "package")
	default:
		c.Seen = fmt.Sprintf("those of %d of %d packages; of the others nothing is known here", len(c.Tests), tested)
	}
}
