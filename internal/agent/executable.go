package agent

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/linked"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/tracing"
)

const (
	// outputsMax is how many files are looked at for executables.
	outputsMax = 500
	// executableBytesMax is the largest executable that is uploaded. Fetching more
	// seldom pays.
	executableBytesMax = 512 << 20
	// linkCostMin is what linking must have cost for the executable to be uploaded.
	linkCostMin = 500 * time.Millisecond
)

// uploadLinked uploads the executables that a session has linked, where they still
// are as it made them. That they are is what package linked makes sure of, since
// anybody may have written there meanwhile.
func (u *uploader) uploadLinked(ctx context.Context, up *upstream, j *session.Job) error {
	for _, path := range candidates(j) {
		if len(j.Unput) == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		err = u.uploadExecutable(ctx, up, j, f)
		f.Close()
		if err != nil {
			return up.uploadFailed("upload an executable", err)
		}
	}
	return nil
}

func (u *uploader) uploadExecutable(ctx context.Context, up *upstream, j *session.Job, f *os.File) error {
	e, err := linked.Inspect(f)
	if err != nil {
		return nil // it is something else
	}
	for i, unput := range j.Unput {
		var id entry.ActionID
		if n, err := hex.Decode(id[:], []byte(unput.Action)); err != nil || n != len(id) || !e.Of(id) {
			continue
		}
		j.Unput = append(j.Unput[:i:i], j.Unput[i+1:]...)
		if unput.Cost < linkCostMin {
			return nil
		}
		if _, err := f.Seek(0, 0); err != nil {
			return nil
		}
		h := entry.Header{ActionID: up.alike.form(id, false), OutputID: e.OutputID, Size: e.Size, Time: j.Time, Cost: unput.Cost, Alone: true}
		var stored int64
		ctx, span := u.agent.tracer.Start(ctx, "larder upload executable", tracing.Client)
		defer span.End()
		_, _, err := up.client.Put(ctx, func(w *entry.StreamWriter) (err error) {
			stored, err = u.sendLarge(w, &h, f)
			return err
		})
		span.Number("larder.bytes", stored)
		span.Fail(err)
		if err == nil && stored > 0 {
			u.add(1, stored)
		}
		return err
	}
	return nil
}

// candidates are the files that a session may have linked.
func candidates(j *session.Job) (paths []string) {
	young := func(info os.FileInfo) bool {
		return info.Mode().IsRegular() && !info.ModTime().Before(j.Time.Add(-time.Second)) && info.Size() <= executableBytesMax
	}
	for _, path := range j.Outputs {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if !info.IsDir() {
			paths = append(paths, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			continue
		}
		for _, e := range entries[:min(len(entries), outputsMax)] {
			if info, err := e.Info(); err == nil && young(info) {
				paths = append(paths, filepath.Join(path, e.Name()))
			}
		}
	}
	return paths
}
