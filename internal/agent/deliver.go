package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/remote"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/store"
)

// asideMax is how many entries in a row may fail, each alone, before it is not theirs
// but the remote's failure. Those that failed are set aside until all else is up.
const asideMax = 3

// refusalAge is for how long a server that takes no uploads from a token is not asked
// again, unless the token has changed.
const refusalAge = time.Hour

// A delivery is the upload of one job, with one token from its beginning to its end,
// whatever the token's file holds meanwhile.
type delivery struct {
	*uploader
	up    *upstream
	store *store.Store
	job   *session.Job
	file  string           // of the job
	used  []entry.ActionID // what the job's session has used, by its IDs on the server

	failed   error                    // why some of it is to be tried again, when all else is up
	tooLarge map[entry.ActionID]int64 // what was left out for its size, in bytes
}

// answers are what the remotes have said, in one round through the queue, of whom they
// take a token for.
type answers map[answerKey]answer

type answerKey struct {
	up    *upstream
	token string
}

type answer struct {
	identity session.Identity
	err      error
}

// of asks whom a remote takes a token for, once in a round. It also tells a remote that
// does not answer: to upload to one that hangs takes a minute to fail, as what is sent
// has to get to a disk, and a flush may be waiting.
func (a answers) of(ctx context.Context, up *upstream, token remote.Token) (session.Identity, error) {
	key := answerKey{up, token.Hash()}
	if known, ok := a[key]; ok {
		return known.identity, known.err
	}
	if err := up.closed(); errors.Is(err, errResting) { // else it may be back, breaker or not
		return session.Identity{}, err
	}
	id, err := up.ask(ctx, token)
	if err != nil {
		up.failed(ctx, nil, err)
	}
	if ctx.Err() == nil {
		a[key] = answer{id, err}
	}
	return id, err
}

// upload delivers a job. An error means that there is something left of it to be tried
// again; nil that it is done with, be it that there was nothing to be done.
func (u *uploader) upload(ctx context.Context, file string, j *session.Job, answers answers) error {
	up, err := u.agent.upstream(j.Remote)
	if err != nil {
		return nil // it was to be uploaded nowhere
	}
	token, err := up.client.Token()
	if err != nil {
		up.failed(ctx, nil, err)
		return up.uploadFailed(ctx, "upload", err)
	}
	if up.uploadsOff(token) != nil {
		return nil
	}
	now, err := answers.of(ctx, up, token)
	if err != nil {
		return up.uploadFailed(ctx, "upload", err)
	}
	if !mine(j, now) {
		u.agent.log.Warn("what was built with another token is not uploaded", "remote", up.remote.URL, "entries", len(j.Puts), "then", j.Identity, "now", now)
		up.sayOf("another identity", fmt.Sprintf("remote %s: the token has changed since the build; what was built with another one (%d entries) is not uploaded with this one",
			up.remote.URL, len(j.Puts)))
		return nil
	}
	s := store.Open(store.Options{Dir: j.Store}) // nothing is made in it: it may be gone
	d := &delivery{uploader: u, up: up, store: s, job: j, file: file}
	return d.run(u.agent.tracer.Join(remote.WithToken(ctx, token), j.Traceparent), token)
}

// mine reports whether a job may be uploaded as somebody: only as who has built it.
func mine(j *session.Job, now session.Identity) bool {
	if j.Remote.TokenFile == "" {
		return true // there was and is no token
	}
	return j.Identity != nil && j.Identity.Same(now)
}

func (d *delivery) run(ctx context.Context, token remote.Token) error {
	defer d.sayTooLarge()
	d.used = d.up.alike.dress(ctx, d.store, d.job)
	if err := d.executables(ctx); err != nil {
		return d.up.uploadFailed(ctx, "upload an executable", err)
	}
	if err := d.dropKnown(ctx); err != nil {
		return d.up.uploadFailed(ctx, "ask what is there already", err)
	}
	if err := d.entries(ctx); err != nil {
		return d.up.uploadFailed(ctx, "upload", err)
	}
	if err := d.manifest(ctx); err != nil {
		return d.up.uploadFailed(ctx, "upload the manifest", err)
	}
	if d.failed != nil {
		d.job.Used = nil
		d.keep()
		return d.up.uploadFailed(ctx, "upload", d.failed)
	}
	return nil
}

// entries sends the job's entries in batches. What has been sent is taken out of the
// job's file, so that a crash does not send it all again. An entry that fails alone is
// set aside, or left out if it will never pass.
func (d *delivery) entries(ctx context.Context) error {
	var aside []session.Put
	defer func() { d.job.Puts = append(d.job.Puts, aside...) }()
	for inARow := 0; len(d.job.Puts) > 0; {
		if err := d.calm(ctx); err != nil {
			return err
		}
		n, sent, err := d.batch(ctx, d.job.Puts)
		switch {
		case err == nil:
			inARow = 0
		case !ofWhatWasSent(ctx, err):
			return err
		case sent > 1:
			continue // in smaller parts
		default:
			if inARow++; inARow >= asideMax {
				return err
			}
			d.failed = err
			n++
			aside = append(aside, d.job.Puts[n-1])
		}
		d.job.Puts = d.job.Puts[n:]
		if left := d.job.Puts; len(left) > 0 {
			d.job.Puts = append(left[:len(left):len(left)], aside...)
			d.keep()
			d.job.Puts = left
		}
	}
	return nil
}

// keep writes down what is left of a job. Where that fails, all of it is sent again if
// the agent ends before it is done.
func (d *delivery) keep() {
	if err := d.job.WriteFile(d.file); err != nil {
		d.agent.log.Warn("what is left of a job cannot be written", "job", d.file, "error", err)
	}
	d.mu.Lock()
	d.jobs[d.file] = entries(d.job)
	d.mu.Unlock()
}

// manifest sends what the session has used: as much of it as passes. What was used last
// is missing then from what is sent ahead to the next build of the kind, which asks for
// it. (To send the list in parts would need a server that knows of parts, for builds of
// over 30,000 actions behind a proxy that has not been told of any limit.)
func (d *delivery) manifest(ctx context.Context) error {
	key, ok := session.ManifestKey(d.job.Manifest)
	if !ok {
		return nil
	}
	for used := d.used; len(used) > 0; {
		used = used[:min(len(used), int(max(d.up.room.size(manifestBytes)/entry.HashSize, 1)))]
		err := d.up.client.MergeManifest(ctx, d.up.alike.key(key), used)
		if !remote.IsStatus(err, http.StatusRequestEntityTooLarge) {
			return err
		}
		d.agent.log.Warn("the list of what a build uses is too large for what stands between", "remote", d.up.remote.URL, "actions", len(used))
		d.up.room.tooLarge(int64(len(used) * entry.HashSize))
		used = used[:len(used)/2]
	}
	return nil
}

// manifestBytes is more than a server takes (manifest.ItemsMax).
const manifestBytes = 100_000 * entry.HashSize

// dropKnown takes what the server has already out of what a job is unsure of.
func (d *delivery) dropKnown(ctx context.Context) error {
	j, up := d.job, d.up
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

// leaveOut notes an entry that is too large to pass.
func (d *delivery) leaveOut(h *entry.Header, bytes int64) {
	d.agent.log.Warn("an entry is too large for what stands between, and is not uploaded", "remote", d.up.remote.URL, "action", h.ActionID, "bytes", bytes)
	if d.tooLarge == nil {
		d.tooLarge = make(map[entry.ActionID]int64)
	}
	d.tooLarge[h.ActionID] = bytes
}

func (d *delivery) sayTooLarge() {
	if len(d.tooLarge) == 0 {
		return
	}
	least := float64(slices.Min(slices.Collect(maps.Values(d.tooLarge)))) / 1e6
	what := fmt.Sprintf("an entry of %.1f MB is too large for what stands between (413) and is not uploaded", least)
	if n := len(d.tooLarge); n > 1 {
		what = fmt.Sprintf("%d entries of %.1f MB and more are too large for what stands between (413) and are not uploaded", n, least)
	}
	d.up.sayOf("too large", fmt.Sprintf("remote %s: %s; raise its limit, see docs/proxies.md", d.up.remote.URL, what))
}

// ofWhatWasSent reports whether a request may have failed because of its body: others may
// pass then, and so may a smaller part of this one.
func ofWhatWasSent(ctx context.Context, err error) bool {
	var status *remote.StatusError
	var token *remote.TokenError
	var op *net.OpError
	switch {
	case err == nil, ctx.Err() != nil, errors.As(err, &token), errors.Is(err, remote.ErrStalled), errors.Is(err, os.ErrDeadlineExceeded):
		return false
	case errors.As(err, &status):
		switch status.Code {
		case "", "bad_request", "too_large":
		default:
			return false // the server has understood it
		}
		switch status.Status {
		case http.StatusBadRequest, http.StatusForbidden, http.StatusNotAcceptable, http.StatusLengthRequired,
			http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
			return true
		}
		return false
	case errors.As(err, &op) && op.Op == "dial":
		return false
	}
	return errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) // the connection was cut
}

// A refusal is that a server takes no uploads from a token.
type refusal struct {
	err   error
	token string
	at    time.Time
}

// uploadsOff is why the server takes no uploads from a token, nil if it does, as far as
// is known.
func (up *upstream) uploadsOff(token remote.Token) error {
	up.mu.Lock()
	defer up.mu.Unlock()
	if r := up.refusal; r != nil && r.token == token.Hash() && time.Since(r.at) < refusalAge {
		return r.err
	}
	return nil
}

// readOnly is the API's code for a token that may not write.
const readOnly = "read_only"

// uploadFailed is what a failure means for the job: nil, so that it ends, only if the
// server itself has said that it takes no uploads from this token. All else may pass.
func (up *upstream) uploadFailed(ctx context.Context, what string, err error) error {
	var status *remote.StatusError
	if !errors.As(err, &status) || status.Code != readOnly {
		if wait := restFor(err); wait > 0 {
			until := time.Now().Add(wait)
			up.resting.Store(&until)
		}
		return fmt.Errorf("%s to %s: %w", what, up.remote.URL, err)
	}
	token, _ := remote.TokenOf(ctx)
	up.mu.Lock()
	up.refusal = &refusal{err, token.Hash(), time.Now()}
	up.mu.Unlock()
	up.say("remote " + up.remote.URL + ": " + message(err) + "; nothing is uploaded; set LARDER_MODE=readonly to say so yourself")
	return nil
}
