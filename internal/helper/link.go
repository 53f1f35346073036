package helper

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/stats"
)

// A Link is a session's way to the agent. It connects when something is missing
// locally for the first time, so that a session that has all never does, and it
// gives up quietly, but for one line, when the agent is not to be had.
type Link struct {
	Place   session.Place
	Starter session.Starter
	Hello   func() session.Hello // called once, before the first connection
	Outputs func() []string      // where executables may be that the session has linked
	Say     func(line string)    // tells the user

	mu       sync.Mutex
	client   *session.Client
	hello    session.Hello
	attempts int
	ever     bool              // connected once
	span     string            // of the session, as the agent said at its end
	identity *session.Identity // whose the session is; nil: nobody has said
}

// attemptsMax is how often a session connects: once, and again if the agent dies
// (it is started anew then), but not for ever.
const attemptsMax = 3

// reportLimit is how long the end of a session waits for the agent's numbers.
const reportLimit = 200 * time.Millisecond

// connect returns the connection; nil if there is none to be had. Whoever comes
// meanwhile waits for the first.
func (l *Link) connect(ctx context.Context) *session.Client {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil && l.client.Err() == nil {
		return l.client
	}
	if l.attempts >= attemptsMax {
		return nil
	}
	if l.attempts++; l.attempts == 1 {
		l.hello = l.Hello()
	}
	if l.client != nil {
		l.client.Close()
	}
	client, err := l.dial(ctx)
	if err != nil {
		l.client, l.attempts = nil, attemptsMax
		l.Say(err.Error() + "; this build goes on without the remote")
		return nil
	}
	if !l.ever { // a later agent may see another token; what was built before is not that one's
		l.identity = client.Welcome.Identity
	}
	l.client, l.ever = client, true
	return client
}

// dial connects, unless that has just been in vain.
func (l *Link) dial(ctx context.Context) (*session.Client, error) {
	if l.Place.Silent() {
		return nil, fmt.Errorf("%w: it did not answer another build a moment ago", session.ErrNoAgent)
	}
	return session.Connect(ctx, l.Place, &l.Starter, l.hello, l.Say)
}

// Get has an action brought into the store, and reports whether it is there.
func (l *Link) Get(ctx context.Context, id entry.ActionID) bool {
	c := l.connect(ctx)
	return c != nil && c.Get(ctx, id)
}

// results asks the agent what it did in the session; used are the keys of actions
// that were in the store when they were asked for. Without a connection there was
// nothing to be done.
func (l *Link) results(used []stats.Key) (report session.Report, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil {
		report, _ = l.client.End(reportLimit, used...)
		l.span = report.Traceparent
		if id := report.Identity; id != nil && l.identity != nil && id.Token == l.identity.Token {
			l.identity = id
		}
	}
	return report, l.ever
}

// end ends the link, once the session's job is in the queue. Without a connection
// there is no job: all was there already, or there is no agent to upload it. put says
// that something was put: then nobody knows whose it is, and so whose the store is.
func (l *Link) end(job *session.Job, put bool) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if put && !l.ever && l.hello.Store != "" {
		os.Remove(session.IdentityFile(l.hello.Store))
	}
	if l.ever && job != nil {
		job.Manifest, job.Traceparent, job.Identity = l.hello.Manifest, l.span, l.identity
		if job.Outputs = l.Outputs(); len(job.Outputs) == 0 {
			job.Unput = nil
		}
		if err = job.Write(l.Place); err != nil {
			err = fmt.Errorf("queue uploads: %w", err)
		}
	}
	if l.client != nil {
		l.client.Close()
	}
	return err
}

// asked reports whether the agent has heard of the session.
func (l *Link) asked() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ever
}
