// Package tracingtest is an OpenTelemetry collector for tests: a real OTLP over HTTP
// receiver that keeps what it is sent.
package tracingtest

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A Collector takes spans at URL + "/v1/traces". The zero value has no URL, and is
// a handler.
type Collector struct {
	URL string

	server *httptest.Server
	mu     sync.Mutex
	spans  []Span
	header http.Header
	wrong  error
	more   chan struct{} // closed when spans come, and made anew; nil: nobody waits
}

// A Span is a span that came. IDs are hexadecimal, "" for none.
type Span struct {
	Service, Name, Kind       string
	Trace, ID, Parent         string
	Start, End                time.Time
	Error                     string
	Attributes, OfTheResource map[string]string
}

// New starts a collector, which is to be closed.
func New() *Collector {
	c := new(Collector)
	c.server = httptest.NewServer(c)
	c.URL = c.server.URL
	return c
}

// Close ends it.
func (c *Collector) Close() { c.server.Close() }

// ServeHTTP takes what is sent.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	spans, err := read(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.header = r.Header.Clone()
	if err != nil {
		c.wrong = err
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c.spans = append(c.spans, spans...)
	if c.more != nil {
		close(c.more)
		c.more = nil
	}
}

func read(r *http.Request) (spans []Span, err error) {
	if r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		return nil, fmt.Errorf("%s %s of type %q is not OTLP", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(body); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var traces otlp.TracesData
	if err := proto.Unmarshal(data, &traces); err != nil {
		return nil, err
	}
	for _, rs := range traces.ResourceSpans {
		resource := attributes(rs.Resource.GetAttributes())
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				spans = append(spans, Span{
					Service: resource["service.name"], Name: s.Name,
					Kind:  strings.ToLower(strings.TrimPrefix(s.Kind.String(), "SPAN_KIND_")),
					Trace: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId), Parent: hex.EncodeToString(s.ParentSpanId),
					Start: time.Unix(0, int64(s.StartTimeUnixNano)), End: time.Unix(0, int64(s.EndTimeUnixNano)),
					Error: failure(s.Status), Attributes: attributes(s.Attributes), OfTheResource: resource,
				})
			}
		}
	}
	return spans, nil
}

func failure(s *otlp.Status) string {
	if s.GetCode() != otlp.Status_STATUS_CODE_ERROR {
		return ""
	}
	return "error: " + s.GetMessage()
}

func attributes(list []*common.KeyValue) map[string]string {
	m := make(map[string]string)
	for _, kv := range list {
		switch v := kv.Value.GetValue().(type) {
		case *common.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		case *common.AnyValue_IntValue:
			m[kv.Key] = fmt.Sprint(v.IntValue)
		default:
			m[kv.Key] = fmt.Sprintf("%v", v)
		}
	}
	return m
}

// Spans returns what has come.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// Header returns the header of the last request.
func (c *Collector) Header() http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.header
}

// Wait waits until a span for which is answers true has come, and returns the first
// of them. It is an error if none comes within limit, or if a request was no OTLP.
func (c *Collector) Wait(limit time.Duration, is func(Span) bool) (Span, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		c.mu.Lock()
		if c.more == nil {
			c.more = make(chan struct{})
		}
		spans, more, wrong := c.spans, c.more, c.wrong
		c.mu.Unlock()
		if wrong != nil {
			return Span{}, wrong
		}
		for _, s := range spans {
			if is(s) {
				return s, nil
			}
		}
		select {
		case <-more:
		case <-timer.C:
			return Span{}, fmt.Errorf("no such span after %v, among %d", limit, len(spans))
		}
	}
}
