package agent

import (
	"context"
	"net/url"
	"os"

	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/tracing"
)

// The agent's spans: one for a session, and its children: the prefetch, each batch
// of gets, each batch of uploads, of which the last are made after it has ended.
// They say no more than what sessions report to the dashboard (docs/dashboard.md).

// trace begins the span of a session, if it is a build.
func (c *conn) trace(ctx context.Context) (context.Context, *tracing.Span) {
	t := c.agent.tracer
	if t == nil || c.hello.Store == "" {
		return ctx, nil
	}
	ctx, span := t.Start(t.Join(ctx, c.hello.Traceparent), "larder session", tracing.Internal)
	if u, err := url.Parse(c.hello.Remote.URL); err == nil {
		span.Text("server.address", u.Hostname())
	}
	if !c.hello.Private {
		machine, _ := os.Hostname()
		span.Text("host.name", machine)
		span.Text("larder.project", c.hello.Project)
		span.Text("larder.command", c.hello.Command)
	}
	return ctx, span
}

// traced ends the span of a session that is over, before its helper is told: who
// waits for the go command may flush then. It returns what names the span.
func (c *conn) traced(r session.Report) string {
	if c.span == nil {
		return ""
	}
	for _, n := range []struct {
		key string
		n   int64
	}{
		{"larder.fetched", r.Fetched}, {"larder.prefetched", r.Prefetched}, {"larder.fetched_bytes", r.FetchedBytes},
		{"larder.hits_prefetched", r.HitsAhead}, {"larder.round_trips", r.RoundTrips}, {"larder.skipped", r.Skipped},
		{"larder.filtered", r.Filtered}, {"larder.remote_errors", r.Errors},
	} {
		c.span.Number(n.key, n.n)
	}
	c.span.Text("larder.breaker", r.Breaker)
	c.span.End()
	return tracing.Parent(c.span.In(context.Background()))
}

// traced ends the span of a stream that has come to its end. That its session did
// not wait for that is no failure.
func (in *incoming) traced(err error) {
	in.span.Number("larder.bytes", in.progress.bytes.Load())
	if in.ctx.Err() == nil {
		in.span.Fail(err)
	}
	in.span.End()
}
