package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/bench"
)

// putPeak puts a body of the given size through a helper of its own, as the go
// command would, and returns the helper's peak memory in bytes.
func (b *bencher) putPeak(ctx context.Context, size int64) (peak int64, err error) {
	dir := filepath.Join(b.work, "put")
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, b.self, "-dir", dir, "-stats=false")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start larder: %w", err)
	}
	defer func() {
		if waitErr := cmd.Wait(); err == nil {
			err = waitErr
		}
	}()
	defer in.Close()
	client, err := cacheprog.NewClient(ctx, out, in, nil)
	if err != nil {
		return 0, err
	}
	body, err := randomFile(filepath.Join(b.work, "body"), size)
	if err != nil {
		return 0, err
	}
	defer os.Remove(body.Name())
	defer body.Close()
	if _, _, err := client.Put(ctx, cacheprog.ActionID{1}, body); err != nil {
		return 0, fmt.Errorf("put a body of %d bytes: %w", size, err)
	}
	if peak, err = bench.PeakMemory(cmd.Process.Pid); err != nil {
		return 0, err
	}
	return peak, client.Close()
}

func randomFile(name string, size int64) (*os.File, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	random := rand.NewChaCha8([32]byte{})
	if _, err := io.CopyN(f, random, size); err != nil {
		f.Close()
		return nil, fmt.Errorf("write a random body: %w", err)
	}
	return f, nil
}
