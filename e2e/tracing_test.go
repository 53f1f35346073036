package e2e_test

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/larder-build/larder/internal/tracing/tracingtest"
)

const (
	endpointVariable = "OTEL_EXPORTER_OTLP_ENDPOINT"
	delayVariable    = "OTEL_BSP_SCHEDULE_DELAY" // milliseconds before spans are sent; 5 s by default
)

// collectorKey is under which a script keeps its collector.
type collectorKey struct{}

// cmdCollector: collector starts a collector of traces, to which all that is started
// from now on sends them.
func cmdCollector(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: collector")
	}
	c := tracingtest.New()
	ts.Defer(c.Close)
	ts.Value(collectorKey{}).(*scriptCollector).Collector = c
	ts.Setenv(endpointVariable, c.URL)
	ts.Setenv(delayVariable, "50")
}

// A scriptCollector is a script's collector, once it has one.
type scriptCollector struct{ *tracingtest.Collector }

// cmdTraced: traced NAME PARENT [KEY=PATTERN...] waits until the collector has a span
// of that name, in a trace with its parent, whose attributes match: "-" is no parent,
// a traceparent one that the script has made up. ! traced PATTERN: nothing in any
// span matches.
func cmdTraced(ts *testscript.TestScript, neg bool, args []string) {
	c := ts.Value(collectorKey{}).(*scriptCollector)
	if neg && len(args) == 1 {
		pattern := regexp.MustCompile(args[0])
		for _, s := range c.Spans() {
			if text := fmt.Sprintf("%+v", s); pattern.MatchString(text) {
				ts.Fatalf("there is %s", text)
			}
		}
		return
	}
	if neg || len(args) < 2 {
		ts.Fatalf("usage: traced NAME PARENT [KEY=PATTERN...], ! traced PATTERN")
	}
	name, parent := args[0], args[1]
	want := make(map[string]*regexp.Regexp)
	for _, arg := range args[2:] {
		key, pattern, _ := strings.Cut(arg, "=")
		want[key] = regexp.MustCompile("^(" + pattern + ")$")
	}
	isChild := func(s tracingtest.Span) bool {
		if parent == "-" || strings.HasPrefix(parent, "00-") {
			return parent == "-" && s.Parent == "" || parent == "00-"+s.Trace+"-"+s.Parent+"-01"
		}
		for _, p := range c.Spans() {
			if p.Name == parent && p.ID == s.Parent && p.Trace == s.Trace {
				return true
			}
		}
		return false
	}
	_, err := c.Wait(2*time.Minute, func(s tracingtest.Span) bool {
		for key, pattern := range want {
			if !pattern.MatchString(s.Attributes[key]) {
				return false
			}
		}
		return s.Name == name && isChild(s)
	})
	if err != nil {
		var all strings.Builder
		for _, s := range c.Spans() {
			fmt.Fprintf(&all, "%s %s: %s < %s %s %q\n", s.Service, s.Name, s.ID, s.Parent, s.Error, s.Attributes)
		}
		ts.Fatalf("%v:\n%s", err, &all)
	}
}
