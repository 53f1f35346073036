package tracing

import (
	"log/slog"
	"net/url"

	"go.opentelemetry.io/otel/sdk/resource"
)

// OpenAt is Open without an environment, for tests that run side by side.
func OpenAt(to string, log *slog.Logger) *Tracer {
	u, err := url.Parse(to)
	if err != nil {
		panic(err)
	}
	return newTracer(collector{url: *u.JoinPath("v1/traces"), timeout: timeoutDefault}, resource.Empty(), log)
}

// ParseHeaders is parseHeaders, to be fuzzed.
var ParseHeaders = parseHeaders
