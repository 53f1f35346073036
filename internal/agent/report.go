package agent

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/larder-build/larder/internal/remote"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/stats"
)

const (
	// reportEvery is how often the agent looks for reports to send.
	reportEvery = 2 * time.Second
	// reportRetry is how long it waits after a server took none.
	reportRetry = 10 * time.Second
	// reportLimit bounds a request with reports, and flushReports what a flush
	// waits for them: nothing is lost with them but lines of a dashboard.
	reportLimit  = 5 * time.Second
	flushReports = time.Second
	// reportBatch is how many reports go into a request.
	reportBatch = 100
)

// A reporter sends what sessions leave in the place's outbox to their servers. It
// is no part of what builds wait for: a server that takes no reports opens no
// breaker, and is asked again later.
type reporter struct {
	agent *agent
	hurry chan chan struct{} // whoever waits for one round
	ended chan struct{}
}

// newReporter starts a reporter, which ends with ctx.
func newReporter(a *agent, ctx context.Context) *reporter {
	r := &reporter{agent: a, hurry: make(chan chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.run(ctx)
	}()
	return r
}

func (r *reporter) wait() { <-r.ended }

func (r *reporter) run(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	var pauseUntil time.Time
	for {
		var done chan struct{}
		select {
		case <-ctx.Done():
			return
		case done = <-r.hurry:
		case <-tick.C:
			if time.Now().Before(pauseUntil) {
				continue
			}
		}
		if left := r.send(ctx); left > 0 {
			pauseUntil = time.Now().Add(reportRetry)
		}
		if done != nil {
			close(done)
		}
	}
}

// flush has the reporter send now, and waits for that, but not for long.
func (r *reporter) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, flushReports)
	defer cancel()
	done := make(chan struct{})
	select {
	case r.hurry <- done:
	case <-r.ended:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// send sends what is there, and returns how many reports are left.
func (r *reporter) send(ctx context.Context) int {
	place := r.agent.place
	if !place.HasNotices() {
		return 0
	}
	notices, err := place.SetAside()
	if err != nil {
		r.agent.log.Warn("reports", "error", err)
		return 0
	}
	byRemote := make(map[session.Remote][]session.Notice)
	for _, n := range notices {
		n.Remote.ReadOnly = false // says nothing about reports
		byRemote[n.Remote] = append(byRemote[n.Remote], n)
	}
	var left []session.Notice
	for to, notices := range byRemote {
		left = append(left, r.sendTo(ctx, to, notices)...)
	}
	if err := place.Sent(left); err != nil {
		r.agent.log.Warn("reports", "error", err)
	}
	return len(left)
}

// sendTo sends reports to one server, and returns those that are to be sent later.
func (r *reporter) sendTo(ctx context.Context, to session.Remote, notices []session.Notice) []session.Notice {
	up, err := r.agent.upstream(to)
	if err != nil {
		return nil // there is no such server
	}
	most := reportBatch
	for len(notices) > 0 {
		if up.closed() != nil {
			return notices
		}
		n := min(len(notices), most)
		reports := make([]stats.Report, n)
		queued := r.agent.uploads.report().Queued
		for i := range reports {
			reports[i] = notices[i].Report
			reports[i].Queued = queued
		}
		limited, cancel := context.WithTimeout(ctx, reportLimit)
		err := up.client.Report(limited, reports)
		cancel()
		switch {
		case err == nil:
		case remote.IsStatus(err, http.StatusRequestEntityTooLarge) && n > 1:
			most = n / 2
			continue
		case remote.IsStatus(err, http.StatusRequestEntityTooLarge):
			r.agent.log.Warn("a report is too large for what stands between; it is dropped", "remote", to.URL, "error", err)
		case takesNone(err):
			r.agent.log.Warn("the server takes no reports; they are dropped", "remote", to.URL, "error", err)
		default:
			r.agent.log.Warn("reports", "remote", to.URL, "error", err)
			return notices
		}
		notices = notices[n:]
	}
	return nil
}

// takesNone reports whether the server itself has said that it will not take these
// reports: it is of an older version, or they are of none that it knows. What a proxy
// says in its place passes, and so may what is wrong with a token.
func takesNone(err error) bool {
	var status *remote.StatusError
	if !errors.As(err, &status) || status.Code == "" {
		return false
	}
	switch status.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return false
	}
	return status.Status/100 == 4
}
