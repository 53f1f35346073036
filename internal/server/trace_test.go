package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/tracing/tracingtest"
)

// Each request is a span, a child of the one that the client names, with what came
// of it in numbers; it has no token and no action ID.
func TestRequestsAreTraced(t *testing.T) {
	collector := tracingtest.New()
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	s := start(t, disk.Options{})
	one, two := action(1), action(2)
	entry := packed(t, one, small, nil)
	for i, tt := range []struct {
		token, method, path string
		body                []byte
		name                string // of the span
		want                map[string]string
	}{
		{"main", "PUT", "/v1/entry/" + one.String(), entry, "PUT /v1/entry/{action}",
			map[string]string{"http.response.status_code": "204", "http.request.body.size": fmt.Sprint(len(entry)), "larder.stored": "1", "larder.namespace": "trusted"}},
		{"pr", "GET", "/v1/entry/" + one.String(), nil, "GET /v1/entry/{action}",
			map[string]string{"http.response.status_code": "200", "http.response.body.size": fmt.Sprint(len(entry) - len("a liar") + len("main")), "larder.hits": "1", "larder.namespace": "pr", "http.route": "/v1/entry/{action}"}},
		{"main", "GET", "/v1/entry/" + two.String(), nil, "GET /v1/entry/{action}",
			map[string]string{"http.response.status_code": "404", "larder.misses": "1"}},
		{"main", "POST", "/v1/get", append(append(one[:], two[:]...), two[:]...), "POST /v1/get",
			map[string]string{"http.response.status_code": "200", "larder.hits": "1", "larder.misses": "2", "http.request.method": "POST"}},
		{"reader", "POST", "/v1/put", nil, "POST /v1/put",
			map[string]string{"http.response.status_code": "403"}},
		{"a-guess", "GET", "/v1/filter", nil, "GET /v1/filter",
			map[string]string{"http.response.status_code": "401", "larder.namespace": ""}},
		{"", "GET", "/login", nil, "GET /login",
			map[string]string{"http.response.status_code": "200"}},
	} {
		parent := fmt.Sprintf("%016x", i+1)
		header := http.Header{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-" + parent + "-01"}}
		s.do(tt.token, tt.method, tt.path, header, tt.body)
		span, err := collector.Wait(20*time.Second, func(s tracingtest.Span) bool { return s.Parent == parent })
		if err != nil {
			t.Fatalf("%s %s: %v", tt.method, tt.path, err)
		}
		if span.Name != tt.name || span.Kind != "server" || span.Service != "larder-server" || span.Error != "" {
			t.Errorf("%s %s: %+v", tt.method, tt.path, span)
		}
		for key, want := range tt.want {
			if got := span.Attributes[key]; got != want {
				t.Errorf("%s %s: %s is %q, want %q", tt.method, tt.path, key, got, want)
			}
		}
	}
	s.do("main", "GET", "/v1/capabilities", http.Header{"Traceparent": {"nonsense"}}, nil)
	span, err := collector.Wait(20*time.Second, func(s tracingtest.Span) bool { return s.Name == "GET /v1/capabilities" })
	if err != nil || span.Parent != "" {
		t.Errorf("in what is no span: %+v, %v", span, err)
	}
	all := fmt.Sprintf("%+v", collector.Spans())
	for _, secret := range []string{one.String(), two.String(), "a-guess", "127.0.0.1"} {
		if strings.Contains(all, secret) {
			t.Errorf("%s is in\n%s", secret, all)
		}
	}
}
