package tracing_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/larder-build/larder/internal/tracing"
	"github.com/larder-build/larder/internal/tracing/tracingtest"
)

// setenv sets the environment, in which nothing else is of OpenTelemetry.
func setenv(t *testing.T, pairs ...string) {
	t.Helper()
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, value) // which puts it back
			os.Unsetenv(name)
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		t.Setenv(pairs[i], pairs[i+1])
	}
}

func open(t *testing.T, log io.Writer) *tracing.Tracer {
	t.Helper()
	return tracing.Open("larder-test", "v1.2.3", slog.New(slog.NewTextHandler(log, nil)))
}

// Traces are off unless they are asked for, and where they cannot be had.
func TestOff(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for name, tt := range map[string]struct {
		env  []string
		says string // in the log; "" is nothing
	}{
		"nothing is set":      {nil, ""},
		"only a service":      {[]string{"OTEL_SERVICE_NAME", "ci", "OTEL_TRACES_SAMPLER", "always_on"}, ""},
		"metrics only":        {[]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://localhost:4318"}, ""},
		"disabled":            {[]string{endpoint, "http://localhost:4318", "OTEL_SDK_DISABLED", "TRUE"}, ""},
		"no exporter":         {[]string{endpoint, "http://localhost:4318", "OTEL_TRACES_EXPORTER", "none"}, ""},
		"another exporter":    {[]string{endpoint, "http://localhost:4318", "OTEL_TRACES_EXPORTER", "zipkin"}, "zipkin"},
		"gRPC":                {[]string{endpoint, "http://localhost:4317", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, "http/protobuf only"},
		"gRPC for traces":     {[]string{endpoint, "http://localhost:4317", "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"}, "http/protobuf only"},
		"no URL":              {[]string{endpoint, "user:SECRET@localhost:4318"}, "not an http or https URL"},
		"not a URL of a host": {[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http:///v1/traces"}, "not an http or https URL"},
		"headers":             {[]string{endpoint, "http://localhost:4318", "OTEL_EXPORTER_OTLP_HEADERS", "a=b,SECRET"}, "number 2"},
		"timeout":             {[]string{endpoint, "http://localhost:4318", "OTEL_EXPORTER_OTLP_TIMEOUT", "10s"}, "milliseconds"},
		"compression":         {[]string{endpoint, "http://localhost:4318", "OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"}, "zstd"},
		"certificate":         {[]string{endpoint, "https://localhost:4318", "OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"}, "/nowhere"},
		"half a certificate":  {[]string{endpoint, "https://localhost:4318", "OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nowhere"}, "CLIENT_CERTIFICATE"},
	} {
		t.Run(name, func(t *testing.T) {
			setenv(t, tt.env...)
			var log bytes.Buffer
			if open(t, &log) != nil {
				t.Error("traces are on")
			}
			if (tt.says == "") != (log.Len() == 0) || !strings.Contains(log.String(), tt.says) || strings.Contains(log.String(), "SECRET") {
				t.Errorf("it says %q", &log)
			}
		})
	}
}

// What is off costs nothing.
func TestOffIsFree(t *testing.T) {
	setenv(t)
	before := runtime.NumGoroutine()
	tracer := open(t, io.Discard)
	ctx := context.Background()
	allocs := testing.AllocsPerRun(100, func() {
		ctx, span := tracer.Start(tracer.Join(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), "name", tracing.Server)
		span.Text("a", "b")
		span.Number("c", 1)
		tracing.SpanOf(span.In(ctx)).Add("d", 1)
		span.Fail(io.EOF)
		span.End()
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	tracer.Flush(ctx)
	tracer.Close()
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, then %d", before, after)
	}
}

const outer = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// Spans reach a collector as the environment wants it.
func TestSpans(t *testing.T) {
	c := tracingtest.New()
	defer c.Close()
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT", c.URL+"/", "OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b, Authorization=Bearer x=y",
		"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip", "OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test", "OTEL_SERVICE_NAME", "other")
	tracer := open(t, io.Discard)
	ctx, parent := tracer.Start(tracer.Join(context.Background(), outer), "parent", tracing.Server)
	childCtx, child := tracer.Start(ctx, "child", tracing.Client)
	for range 3 {
		tracing.SpanOf(childCtx).Add("larder.hits", 2)
	}
	child.Text("text", strings.Repeat("ä", 1000)) // cut off in the middle of one
	child.Text("none", "")
	child.Number("n", 7)
	child.Fail(errors.New("it broke"))
	child.End()
	child.End()
	parent.End()
	tracer.Close()

	spans := c.Spans()
	if len(spans) != 2 {
		t.Fatalf("%d spans: %+v", len(spans), spans)
	}
	one, two := spans[0], spans[1]
	if two.Name != "parent" || two.Kind != "server" || two.Trace != outer[3:35] || two.Parent != outer[36:52] || two.Error != "" {
		t.Errorf("parent %+v", two)
	}
	if one.Name != "child" || one.Kind != "client" || one.Trace != two.Trace || one.Parent != two.ID || one.Error != "error: it broke" {
		t.Errorf("child %+v", one)
	}
	if a := one.Attributes; a["larder.hits"] != "6" || a["n"] != "7" || !strings.HasPrefix(a["text"], "ää") || len(a["text"]) > 310 || len(a) != 3 {
		t.Errorf("attributes %q", a)
	}
	if r := one.OfTheResource; one.Service != "other" || r["service.version"] != "v1.2.3" || r["deployment.environment"] != "test" {
		t.Errorf("resource %q", r)
	}
	if h := c.Header(); h.Get("X-Key") != "a b" || h.Get("Authorization") != "Bearer x=y" || h.Get("Content-Encoding") != "gzip" {
		t.Errorf("header %q", h)
	}
	if got := tracing.Parent(childCtx); got != "00-"+one.Trace+"-"+one.ID+"-01" {
		t.Errorf("traceparent %q", got)
	}
}

// Samplers and outer traces decide what is sent; what is wrong does not count.
func TestSampled(t *testing.T) {
	for name, tt := range map[string]struct {
		sampler, parent string
		spans           int
	}{
		"by default":               {"", "", 1},
		"never":                    {"always_off", "", 0},
		"the outer one is not":     {"", strings.TrimSuffix(outer, "01") + "00", 0},
		"the outer one is nothing": {"", "00-zz", 1},
		"no such sampler":          {"by_hand", outer, 1},
	} {
		t.Run(name, func(t *testing.T) {
			c := tracingtest.New()
			defer c.Close()
			env := []string{}
			if tt.sampler != "" {
				env = []string{"OTEL_TRACES_SAMPLER", tt.sampler}
			}
			setenv(t, append(env, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", c.URL+"/v1/traces",
				"OTEL_BSP_MAX_QUEUE_SIZE", "-5", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0", "OTEL_BSP_SCHEDULE_DELAY", "-1")...)
			tracer := open(t, io.Discard)
			_, span := tracer.Start(tracer.Join(context.Background(), tt.parent), "name", tracing.Internal)
			span.End()
			tracer.Close()
			if n := len(c.Spans()); n != tt.spans {
				t.Errorf("%d spans, want %d", n, tt.spans)
			}
		})
	}
}

// A collector that is no good costs spans, one line of the log, and no more.
func TestBadCollectors(t *testing.T) {
	var elsewhere, silent atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	t.Cleanup(other.Close) // once the parallel tests are over
	down := httptest.NewServer(nil)
	down.Close()
	for name, handler := range map[string]http.HandlerFunc{
		"down": nil,
		"silent": func(_ http.ResponseWriter, r *http.Request) {
			silent.Add(1)
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
		"busy": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"not one": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) },
		"elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := down.URL
			if handler != nil {
				srv := httptest.NewServer(handler)
				defer srv.Close()
				url = srv.URL
			}
			var log bytes.Buffer // written by one goroutine, which Close ends
			tracer := tracing.OpenAt(url, slog.New(slog.NewTextHandler(&log, nil)))
			for range 20_000 { // more than any queue has room for
				_, span := tracer.Start(context.Background(), "name", tracing.Internal)
				span.End()
			}
			tracer.Flush(context.Background())
			tracer.Close()
			if n := strings.Count(log.String(), "\n"); n > 1 || elsewhere.Load() > 0 {
				t.Errorf("it was followed %d times, and said\n%s", elsewhere.Load(), &log)
			}
			if name == "silent" && silent.Load() > 1 {
				t.Errorf("it was waited for %d times", silent.Load())
			}
			if name == "endless" && !strings.Contains(log.String(), "status 400") {
				t.Errorf("its answer was read on and on:\n%s", &log)
			}
		})
	}
}

// A collector that has come back is said to.
func TestCollectorReturns(t *testing.T) {
	var c tracingtest.Collector
	var well atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !well.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		c.ServeHTTP(w, r)
	}))
	defer srv.Close()
	var log bytes.Buffer
	tracer := tracing.OpenAt(srv.URL, slog.New(slog.NewTextHandler(&log, nil)))
	for i := range 4 {
		well.Store(i >= 2)
		_, span := tracer.Start(context.Background(), "name", tracing.Internal)
		span.End()
		tracer.Flush(context.Background())
	}
	tracer.Close()
	if n := len(c.Spans()); n != 2 {
		t.Errorf("%d spans", n)
	}
	if got := log.String(); strings.Count(got, "dropped") != 1 || strings.Count(got, "again") != 1 || !strings.Contains(got, "status 403") {
		t.Errorf("it says\n%s", got)
	}
}
