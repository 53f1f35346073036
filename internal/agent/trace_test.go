package agent_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/tracing/tracingtest"
)

const outer = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// traced is a session of a machine that asks for some actions.
func (m *machine) traced(tm *team, change func(*session.Hello)) session.Report {
	m.t.Helper()
	hello := session.Hello{
		Version: "v1.0.0", Store: m.dir, Remote: session.Remote{URL: tm.url}, Manifest: key,
		Project: "example.com/m", Command: "go build .", Traceparent: outer,
	}
	change(&hello)
	c, err := session.Connect(context.Background(), m.place, nil, hello, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	m.getAll(c, 0, some)
	r, ok := c.End(time.Minute)
	if !ok {
		m.t.Error("no report")
	}
	return r
}

// last is the last span of a name to have come.
func last(c *tracingtest.Collector, name string) tracingtest.Span {
	for _, s := range slices.Backward(c.Spans()) {
		if s.Name == name {
			return s
		}
	}
	return tracingtest.Span{Name: "there is no " + name}
}

// A session is a span of the trace that its go command was run in, and what is done
// for it, even after its end, are its children. Who waits for the uploads knows that
// the collector has them.
func TestTraces(t *testing.T) {
	collector := tracingtest.New()
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
	tm := startTeamAlone(t)
	startMachine(t).build(tm, 0, some)
	if s := last(collector, "larder upload"); s.Parent != "" || s.Kind != "client" || s.Attributes["larder.entries"] != "60" {
		t.Errorf("the upload of a session without a span: %+v", s)
	}

	m := startMachine(t)
	r := m.traced(tm, func(*session.Hello) {})
	if _, err := m.flush(); err != nil {
		t.Fatal(err)
	}
	s := last(collector, "larder session")
	if s.Trace != outer[3:35] || s.Parent != outer[36:52] || r.Traceparent != "00-"+s.Trace+"-"+s.ID+"-01" {
		t.Errorf("session %+v, and it was told %q", s, r.Traceparent)
	}
	if a := s.Attributes; a["larder.project"] != "example.com/m" || a["larder.command"] != "go build ." || a["host.name"] == "" || a["larder.round_trips"] != "1" {
		t.Errorf("its attributes: %q", a)
	}
	p, err := collector.Wait(20*time.Second, func(s tracingtest.Span) bool { m.flush(); return s.Name == "larder prefetch" })
	if err != nil || p.Trace != s.Trace || p.Parent != s.ID || p.Attributes["larder.entries"] != "60" || len(p.Attributes["larder.bytes"]) < 7 {
		t.Errorf("prefetch %+v, %v", p, err)
	}

	job := m.put(tm, some, some+5)
	job.Traceparent = r.Traceparent
	if err := job.Write(m.place); err != nil {
		t.Fatal(err)
	}
	m.flush()
	if u := last(collector, "larder upload"); u.Trace != s.Trace || u.Parent != s.ID || u.Attributes["larder.entries"] != "5" {
		t.Errorf("upload %+v", u)
	}

	if r := m.traced(tm, func(h *session.Hello) { h.Traceparent = strings.Repeat("x", 10_000) }); len(r.Traceparent) != len(outer) {
		t.Errorf("a session in what is no span is %q", r.Traceparent)
	}
	m.traced(tm, func(h *session.Hello) { h.Private = true })
	m.flush()
	private := last(collector, "larder session")
	for _, name := range []string{"larder.project", "larder.command", "host.name"} {
		if value := private.Attributes[name]; value != "" {
			t.Errorf("of a private session one is told that %s is %s", name, value)
		}
	}

	tm.proxy.Down()
	m = startMachine(t)
	m.traced(tm, func(*session.Hello) {})
	m.flush()
	if s := last(collector, "larder session"); s.Error != "" || s.Attributes["larder.breaker"] == "" || s.Attributes["larder.remote_errors"] == "0" {
		t.Errorf("a session with the server down: %+v", s)
	}
	if p := last(collector, "larder prefetch"); !strings.Contains(p.Error, "refused") {
		t.Errorf("a prefetch with the server down: %+v", p)
	}
}

// Off, a session is told of no span, and requests have no header.
func TestNotTraced(t *testing.T) {
	tm := startTeamAlone(t)
	startMachine(t).build(tm, 0, some)
	m := startMachine(t)
	if r := m.traced(tm, func(*session.Hello) {}); r.Traceparent != "" || r.Prefetched != some {
		t.Errorf("report %+v", r)
	}
	if n := tm.traced.Load(); n > 0 {
		t.Errorf("%d requests named a span", n)
	}
}
