// Package tracing sends what larderd did to an OpenTelemetry collector, if the
// standard environment variables name one (docs/operations.md lists them).
//
// It promises to be off without them, at no cost: then Open returns nil, and the
// methods of a nil Tracer and of a nil Span do nothing and allocate nothing. And it
// promises that a collector that is down, slow, hostile or no collector costs spans
// and nothing else: they wait in a queue of bounded length from which they are
// dropped, sending is one goroutine's, and ending takes closeLimit at most.
//
// What is in a span is what its maker puts there, and nothing else: no headers, no
// addresses of clients, no environment but OTEL_RESOURCE_ATTRIBUTES.
package tracing

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	// closeLimit bounds what the end of the program, and flushLimit what somebody
	// who waits for uploads, waits for a collector.
	closeLimit = time.Second
	flushLimit = time.Second
	// queueMax bounds the spans that wait, whatever OTEL_BSP_MAX_QUEUE_SIZE says: at
	// about a kilobyte each.
	queueMax = 8192
	// delayMin is the least time between two looks at the queue.
	delayMin = 10 * time.Millisecond
	// textBytesMax bounds a text in a span.
	textBytesMax = 300
)

// A Tracer makes spans. A nil one makes none.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	sender   *sender
}

// Open returns a tracer as the environment wants it; nil if it wants none, or if
// what it wants cannot be had, which is said to log. service is the name of what is
// traced, where the environment has no other one.
func Open(service, version string, log *slog.Logger) *Tracer {
	on, err := wanted()
	if err != nil {
		log.Warn("no traces", "error", err)
	}
	if !on || err != nil {
		return nil
	}
	to, err := target()
	if err != nil {
		log.Warn("no traces", "error", err)
		return nil
	}
	res, err := resource.New(context.Background(), resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version)),
		resource.WithFromEnv())
	if err != nil {
		log.Warn("traces: a part of OTEL_RESOURCE_ATTRIBUTES is left out", "error", err)
	}
	log.Info("traces are sent", "to", to.url.Host)
	return newTracer(to, res, log)
}

func newTracer(to collector, res *resource.Resource, log *slog.Logger) *Tracer {
	s := newSender(to, log)
	exporter := otlptrace.NewUnstarted(s) // there is nothing to start
	t := &Tracer{sender: s, provider: sdk.NewTracerProvider(sdk.WithResource(res), sdk.WithBatcher(exporter, bounded))}
	t.tracer = t.provider.Tracer("github.com/larder-build/larder")
	return t
}

// bounded keeps the environment's numbers within what makes sense: package sdk
// takes any, and panics at some.
func bounded(o *sdk.BatchSpanProcessorOptions) {
	o.MaxQueueSize = min(max(o.MaxQueueSize, 1), queueMax)
	o.MaxExportBatchSize = min(max(o.MaxExportBatchSize, 1), o.MaxQueueSize)
	o.BatchTimeout = max(o.BatchTimeout, delayMin)
}

// Flush sends what has ended, but does not wait for long.
func (t *Tracer) Flush(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, flushLimit)
	defer cancel()
	t.provider.ForceFlush(ctx) // what the sender could not send it has said
}

// Close sends what has ended, for closeLimit at most, and ends all that the tracer
// has started. Spans that end later are dropped.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	limit := time.AfterFunc(closeLimit, t.sender.cut)
	defer limit.Stop()
	t.provider.Shutdown(context.Background())
	t.sender.close()
}

// A Kind says how a span relates to others.
type Kind int

const (
	Internal Kind = iota // work of this program
	Client               // a request that it makes, until it is answered
	Server               // a request that it answers
)

var kinds = [...]trace.SpanKind{Internal: trace.SpanKindInternal, Client: trace.SpanKindClient, Server: trace.SpanKindServer}

// Start begins a span, as a child of the one in ctx, and returns a context with it.
func (t *Tracer) Start(ctx context.Context, name string, kind Kind) (context.Context, *Span) {
	if t == nil {
		return ctx, nil
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kinds[kind]))
	s := &Span{span: span}
	return context.WithValue(ctx, spanKey{}, s), s
}

// parentHeader is the header that names a parent (www.w3.org/TR/trace-context).
const parentHeader = "traceparent"

// Join returns a context in which spans are children of what traceparent names,
// which is as in the header of that name. One that is empty or wrong changes nothing.
func (t *Tracer) Join(ctx context.Context, traceparent string) context.Context {
	if t == nil || traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{parentHeader: traceparent})
}

// Parent is the traceparent of the span in ctx; "" if there is none.
func Parent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[parentHeader]
}

// A Span is something that is being done. Its methods are safe for concurrent use;
// those of a nil one do nothing.
type Span struct {
	span trace.Span

	mu   sync.Mutex
	sums []sum
}

type sum struct {
	key string
	n   int64
}

type spanKey struct{}

// SpanOf returns the span of a context; nil if it has none.
func SpanOf(ctx context.Context) *Span {
	s, _ := ctx.Value(spanKey{}).(*Span)
	return s
}

// In returns a context in which spans are the span's children, and which ends with
// ctx.
func (s *Span) In(ctx context.Context) context.Context {
	if s == nil {
		return ctx
	}
	return context.WithValue(trace.ContextWithSpan(ctx, s.span), spanKey{}, s)
}

// Text notes a text, or what fits of it; not an empty one.
func (s *Span) Text(key, value string) {
	if s == nil || value == "" {
		return
	}
	s.span.SetAttributes(attribute.String(key, clip(value)))
}

// Number notes a number.
func (s *Span) Number(key string, n int64) {
	if s == nil {
		return
	}
	s.span.SetAttributes(attribute.Int64(key, n))
}

// Add adds to a number that is noted when the span ends.
func (s *Span) Add(key string, n int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.sums, func(have sum) bool { return have.key == key }); i >= 0 {
		s.sums[i].n += n
		return
	}
	s.sums = append(s.sums, sum{key, n})
}

// Fail notes why what was done failed. Nil is no failure.
func (s *Span) Fail(err error) {
	if s == nil || err == nil {
		return
	}
	s.span.SetStatus(codes.Error, clip(err.Error()))
}

// End ends the span; only the first time counts.
func (s *Span) End() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, have := range s.sums {
		s.span.SetAttributes(attribute.Int64(have.key, have.n))
	}
	s.sums = nil
	s.span.End()
}

// clip makes a text fit for a span. One that is not UTF-8 cannot be encoded.
func clip(text string) string { return strings.ToValidUTF8(text[:min(len(text), textBytesMax)], "?") }
