package agent

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/linked"
	"github.com/larder-build/larder/internal/remote"
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

// executables uploads the executables that a session has linked, where they still
// are as it made them. That they are is what package linked makes sure of, since
// anybody may have written there meanwhile. The error is the remote's: where one fails
// by itself, it stays in the job and the others go on.
func (d *delivery) executables(ctx context.Context) error {
	for _, path := range candidates(d.job) {
		if len(d.job.Unput) == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		err = d.executable(ctx, f)
		f.Close()
		if err != nil && !ofWhatWasSent(ctx, err) {
			return err
		}
		if err != nil {
			d.failed = err
		}
	}
	return nil
}

func (d *delivery) executable(ctx context.Context, f *os.File) error {
	e, err := linked.Inspect(f)
	if err != nil {
		return nil // it is something else
	}
	for i, unput := range d.job.Unput {
		var id entry.ActionID
		if n, err := hex.Decode(id[:], []byte(unput.Action)); err != nil || n != len(id) || !e.Of(id) {
			continue
		}
		unputs := d.job.Unput
		d.job.Unput = append(unputs[:i:i], unputs[i+1:]...)
		if unput.Cost < linkCostMin {
			return nil
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil
		}
		o := &outgoing{plain: f, header: entry.Header{ActionID: d.up.alike.form(id, false), OutputID: e.OutputID, Size: e.Size, Time: d.job.Time, Cost: unput.Cost, Alone: true}}
		if err := d.agent.codec.Measure(&o.header, f); err != nil || d.passing(o) == nil {
			return nil // it has changed meanwhile, or will not pass
		}
		ctx, span := d.agent.tracer.Start(ctx, "larder upload executable", tracing.Client)
		defer span.End()
		_, _, err := d.up.client.Put(ctx, func(w *entry.StreamWriter) error { return o.send(d.agent.codec, w) })
		span.Number("larder.bytes", o.header.Stored)
		switch {
		case err == nil:
			d.add(1, o.header.Stored)
			return nil
		case remote.IsStatus(err, http.StatusRequestEntityTooLarge):
			d.up.room.tooLarge(o.bytes())
			d.leaveOut(&o.header, o.bytes())
			return nil
		}
		span.Fail(err)
		d.job.Unput = unputs // for the next time
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
