package agent

import (
	"context"
	"os"
	"sync"
	"time"

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
	retry    time.Duration // until the next attempt; 0: none is due
}

func newUploader(a *agent) *uploader {
	return &uploader{agent: a, wake: make(chan struct{}, 1), ended: make(chan struct{})}
}

// start starts the uploader, which ends with ctx.
func (u *uploader) start(ctx context.Context) {
	u.count()
	go func() {
		defer close(u.ended)
		u.run(ctx)
	}()
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
	u.retry = 0 // who waits is not to wait for what failed an hour ago
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
	for {
		u.mu.Lock()
		retry := u.retry
		u.mu.Unlock()
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
		if ctx.Err() != nil {
			return
		}
		u.mu.Lock()
		u.problem = ""
		if u.retry = min(max(2*u.retry, retryFirst), retryLast); err == nil {
			u.retry = 0
		} else {
			u.problem = err.Error()
			u.agent.log.Warn("upload", "error", err, "again_in", u.retry)
		}
		u.mu.Unlock()
		u.count()
	}
}

// drain uploads all jobs. One that fails does not keep those for other remotes, nor
// those for the same one if it answers at all.
func (u *uploader) drain(ctx context.Context) error {
	var failed error
	for {
		names, err := u.agent.place.Jobs()
		if err != nil {
			return err
		}
		done := 0
		answers := make(answers)
		for _, name := range names {
			if err := u.calm(ctx); err != nil {
				return err
			}
			j := u.read(name)
			if j == nil {
				continue
			}
			if err := u.upload(ctx, name, j, answers); err != nil {
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

func (u *uploader) add(sent, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.uploaded += sent
	u.bytes += bytes
}
