package tracing_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/larder-build/larder/internal/tracing"
	"github.com/larder-build/larder/internal/tracing/tracingtest"
)

// BenchmarkSpan is what a request of the server costs more: with a collector, and
// without.
func BenchmarkSpan(b *testing.B) {
	c := tracingtest.New()
	defer c.Close()
	on := tracing.OpenAt(c.URL, slog.New(slog.DiscardHandler))
	defer on.Close()
	for name, tracer := range map[string]*tracing.Tracer{"off": nil, "on": on} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				ctx, span := tracer.Start(tracer.Join(context.Background(), outer), "GET /v1/entry/{action}", tracing.Server)
				span.Text("http.route", "/v1/entry/{action}")
				tracing.SpanOf(ctx).Add("larder.hits", 1)
				span.Number("http.response.status_code", 200)
				span.End()
			}
		})
	}
}
