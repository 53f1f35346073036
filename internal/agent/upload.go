package agent

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/larder-build/larder/internal/remote"
	"github.com/larder-build/larder/internal/session"
)

const (
	// patience is how long uploads wait for builds to end, whose CPUs they would
	// use, before they go on all the same.
	patience = time.Minute
	// retryFirst and retryLast bound the time between attempts.
	retryFirst = time.Second
	retryLast  = time.Minute
	// jobAge is when a job is given up: its outputs are trimmed by then.
	jobAge = 5 * 24 * time.Hour
	// jobsMax is how many jobs may wait; the oldest are given up.
	jobsMax = 1000
)

// An uploader sends what the place's queue holds, one job after the other, while
// no build is under way.
type uploader struct {
	agent *agent
	wake  chan struct{}
	ended chan struct{}

	mu       sync.Mutex
	hurrying int              // flushes that wait
	jobs     map[string]int64 // entries of the jobs, by file, as of the last look
	uploaded int64
	bytes    int64
	problem  string
}

// newUploader starts an uploader, which ends with ctx.
func newUploader(a *agent, ctx context.Context) *uploader {
	u := &uploader{agent: a, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	u.count()
	go func() {
		defer close(u.ended)
		u.run(ctx)
	}()
	return u
}

func (u *uploader) wait() { <-u.ended }

// look makes it look into the queue.
func (u *uploader) look() {
	u.count()
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// hurry makes it not wait for builds to end, or take that back.
func (u *uploader) hurry(by int) {
	u.mu.Lock()
	u.hurrying += by
	u.problem = ""
	u.mu.Unlock()
	u.look()
}

func (u *uploader) inHurry() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.hurrying > 0
}

func (u *uploader) drained() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.jobs) == 0
}

func (u *uploader) report() session.Report {
	u.mu.Lock()
	defer u.mu.Unlock()
	var queued int64
	for _, n := range u.jobs {
		queued += n
	}
	return session.Report{Queued: queued, Uploaded: u.uploaded, UploadedBytes: u.bytes, Problem: u.problem}
}

// count counts what is queued, and gives up what is too old or too much.
func (u *uploader) count() {
	names, _ := u.agent.place.Jobs()
	for len(names) > jobsMax {
		os.Remove(names[0])
		names = names[1:]
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	jobs := make(map[string]int64, len(names))
	for _, name := range names {
		if n, ok := u.jobs[name]; ok {
			jobs[name] = n
		} else if j := u.read(name); j != nil {
			jobs[name] = entries(j)
		}
	}
	u.jobs = jobs
}

// entries is what a job counts for: its manifest is something too.
func entries(j *session.Job) int64 { return max(int64(len(j.Puts)), 1) }

// read reads a job; nil if it is none, or too old: then it is removed.
func (u *uploader) read(name string) *session.Job {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	j, err := session.ParseJob(data)
	if err != nil || time.Since(j.Time) > jobAge {
		os.Remove(name)
		return nil
	}
	return j
}

func (u *uploader) run(ctx context.Context) {
	retry := time.Duration(0)
	for {
		var timer <-chan time.Time
		if retry > 0 {
			timer = time.After(retry)
		}
		select {
		case <-ctx.Done():
			return
		case <-u.wake:
		case <-timer:
		}
		err := u.drain(ctx)
		problem := ""
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			retry = 0
		default:
			retry = min(max(2*retry, retryFirst), retryLast)
			problem = err.Error()
			u.agent.log.Warn("upload", "error", err, "again_in", retry)
		}
		u.mu.Lock()
		u.problem = problem
		u.mu.Unlock()
		u.count()
	}
}

// drain uploads all jobs. One that fails does not keep those for other remotes.
func (u *uploader) drain(ctx context.Context) error {
	var failed error
	for {
		names, err := u.agent.place.Jobs()
		if err != nil {
			return err
		}
		done := 0
		for _, name := range names {
			if err := u.calm(ctx); err != nil {
				return err
			}
			j := u.read(name)
			if j == nil {
				continue
			}
			if err := u.upload(ctx, name, j); err != nil {
				failed = err
				continue
			}
			os.Remove(name)
			done++
			u.count()
		}
		if done == 0 || failed != nil {
			return failed
		}
	}
}

// calm waits until no build is under way, somebody waits for the uploads, or
// patience is at its end.
func (u *uploader) calm(ctx context.Context) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for u.agent.building() && !u.inHurry() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-u.wake: // a session has ended, or a flush begun
		case <-limit.C:
			return nil
		}
	}
	return nil
}

// upload sends a job's entries in batches, then its manifest. What has been sent
// is taken out of the job's file, so that a crash does not send it all again.
func (u *uploader) upload(ctx context.Context, name string, j *session.Job) error {
	up, err := u.agent.upstream(j.Remote)
	if err != nil {
		return nil // it was to be uploaded nowhere
	}
	up.mu.Lock()
	off := up.uploadsOff
	up.mu.Unlock()
	if off != nil {
		return nil
	}
	if err := up.answers(ctx); err != nil {
		return up.uploadFailed("upload", err)
	}
	s, release := u.agent.openStore(j.Store)
	defer release()
	ctx = u.agent.tracer.Join(ctx, j.Traceparent)
	used := up.alike.dress(ctx, s, j)
	if err := u.uploadLinked(ctx, up, j); err != nil {
		return err
	}
	if err := up.dropKnown(ctx, j); err != nil {
		return up.uploadFailed("ask what is there already", err)
	}
	for len(j.Puts) > 0 {
		if err := u.calm(ctx); err != nil {
			return err
		}
		n, err := u.batch(ctx, up, s, j.Puts)
		if err != nil {
			return up.uploadFailed("upload", err)
		}
		j.Puts = j.Puts[n:]
		if len(j.Puts) > 0 {
			if err := j.WriteFile(name); err != nil {
				return fmt.Errorf("write what is left of job %s: %w", name, err)
			}
		}
		u.mu.Lock()
		u.jobs[name] = entries(j)
		u.mu.Unlock()
	}
	key, ok := session.ManifestKey(j.Manifest)
	if !ok || len(j.Used) == 0 {
		return nil
	}
	if err := up.client.MergeManifest(ctx, up.alike.key(key), used); err != nil {
		return up.uploadFailed("upload the manifest", err)
	}
	return nil
}

// answers is nil if the remote answers now. To upload to one that hangs takes a minute
// to fail, as what is sent has to get to a disk, and a flush may be waiting.
func (up *upstream) answers(ctx context.Context) error {
	_, err := up.client.Capabilities(ctx)
	if err != nil {
		up.failed(ctx, nil, err)
	}
	return err
}

// dropKnown takes what the server has already out of what a job is unsure of.
func (up *upstream) dropKnown(ctx context.Context, j *session.Job) error {
	if j.Unsure <= 0 {
		return nil
	}
	up.mu.Lock()
	filter, tag := up.filter, up.filterTag
	up.mu.Unlock()
	now, _, err := up.client.Filter(ctx, tag)
	if err != nil {
		return err
	}
	if now != nil { // else it has not changed
		filter = now
	}
	sure := max(len(j.Puts)-j.Unsure, 0)
	known := func(p session.Put) bool { return filter.Has(p.Under) }
	j.Puts = append(j.Puts[:sure], slices.DeleteFunc(j.Puts[sure:], known)...)
	j.Unsure = 0
	return nil
}

// uploadFailed is what a failure means for the job: nil if there is nothing to be
// done about it, as the server takes no uploads from this token.
func (up *upstream) uploadFailed(what string, err error) error {
	if !remote.IsStatus(err, http.StatusForbidden) {
		return fmt.Errorf("%s to %s: %w", what, up.remote.URL, err)
	}
	up.mu.Lock()
	up.uploadsOff = err
	up.mu.Unlock()
	up.say("remote " + up.remote.URL + ": " + message(err) + "; nothing is uploaded; set LARDER_MODE=readonly to say so yourself")
	return nil
}
