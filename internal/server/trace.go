package server

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/tracing"
)

// A request is one span: what was asked for by the pattern of its path, so without
// action IDs, and what came of it in numbers. The names of what is HTTP's are
// OpenTelemetry's (opentelemetry.io/docs/specs/semconv/http/http-spans).

// spanStored counts entries that were stored.
const spanStored = "larder.stored"

// trace begins the span of a request, a child of the client's if that names one.
func (s *Server) trace(r *http.Request) (*http.Request, *tracing.Span) {
	if s.tracer == nil {
		return r, nil
	}
	ctx, span := s.tracer.Start(s.tracer.Join(r.Context(), r.Header.Get("Traceparent")), r.Pattern, tracing.Server)
	method, route, _ := strings.Cut(r.Pattern, " ")
	span.Text("http.request.method", method)
	span.Text("http.route", route)
	return r.WithContext(ctx), span
}

// traced ends the span of a request. p is nil where none of it was read.
func traced(span *tracing.Span, w *statusWriter, p *progress, g auth.Grant) {
	if span == nil {
		return
	}
	status := w.code()
	span.Number("http.response.status_code", int64(status))
	span.Number("http.response.body.size", w.sent)
	if p != nil {
		span.Number("http.request.body.size", p.received)
	}
	span.Text("larder.namespace", g.Home())
	if status >= http.StatusInternalServerError {
		span.Fail(fmt.Errorf("status %d", status))
	}
	span.End()
}

// count counts what was sent for an action.
func count(span *tracing.Span, sent entry.Kind) {
	switch sent {
	case entry.Entry:
		span.Add("larder.hits", 1)
	case entry.Miss:
		span.Add("larder.misses", 1)
	case entry.Withheld:
		span.Add("larder.withheld", 1)
	}
}
