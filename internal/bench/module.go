package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Module returns the directory of the module to build: the current one, or, for a
// path@version, a copy below work of what the module proxy has (a build needs to
// write to its go.sum). A copy that is there already is used again.
func Module(ctx context.Context, module, work string) (dir string, err error) {
	if module == "" {
		return os.Getwd()
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GO111MODULE=on", "GOWORK=off")
	out, err := cmd.Output()
	var download struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &download); jsonErr == nil && download.Error != "" {
		return "", fmt.Errorf("download %s: %s", module, download.Error)
	}
	if err != nil || download.Dir == "" {
		return "", fmt.Errorf("download %s: %w", module, err)
	}
	source := filepath.Join(work, "source", strings.ReplaceAll(module, "/", "_"))
	if _, err := os.Stat(source); err == nil {
		return source, nil
	}
	if err := os.MkdirAll(filepath.Dir(source), 0o777); err != nil {
		return "", err
	}
	if err := os.CopyFS(source, os.DirFS(download.Dir)); err != nil {
		return "", fmt.Errorf("copy %s: %w", module, err)
	}
	return source, nil
}

// Work returns the absolute path of a directory to work in, and what to call when
// it is done with: for "" a new temporary one, which goes then.
func Work(dir string) (path string, done func(), err error) {
	if dir != "" {
		path, err = filepath.Abs(dir)
		return path, func() {}, err
	}
	if path, err = os.MkdirTemp("", "larder-bench-"); err != nil {
		return "", nil, fmt.Errorf("make a directory to work in: %w", err)
	}
	return path, func() { os.RemoveAll(path) }, nil
}
