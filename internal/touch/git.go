package touch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Find returns the root of the checkout that dir is in, and the paths of what git
// tracks there, relative to it. git itself is asked, so whatever form its index
// has will do.
func Find(ctx context.Context, dir string) (root string, tracked []string, err error) {
	top, err := git(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return "", nil, err
	}
	root = filepath.FromSlash(strings.TrimSuffix(strings.TrimSuffix(top, "\n"), "\r"))
	list, err := git(ctx, root, "ls-files", "-z", "--cached")
	if err != nil {
		return "", nil, err
	}
	tracked = strings.Split(strings.TrimSuffix(list, "\x00"), "\x00")
	if list == "" {
		tracked = nil
	}
	return root, slices.DeleteFunc(tracked, unsafePath), nil
}

// unsafePath reports whether a path would lead out of the checkout. git does not
// let such into an index.
func unsafePath(p string) bool { return !filepath.IsLocal(filepath.FromSlash(p)) }

// Refresh has git note the new times. Until then git would read every file again
// at the next status, and at each after that which may not write the index. It
// compares contents itself: what was modified stays modified.
func Refresh(ctx context.Context, root string) error {
	_, err := git(ctx, root, "update-index", "-q", "--unmerged", "--ignore-missing", "--refresh")
	return err
}

// git runs git in dir and returns what it prints.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return "", fmt.Errorf("git %s: %s", args[0], bytes.TrimSpace(exit.Stderr))
	}
	if err != nil {
		return "", fmt.Errorf("git %s in %s: %w", args[0], dir, err)
	}
	return string(out), nil
}
