package server_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/server/disk"
)

var metricName = regexp.MustCompile(`\blarder_[a-z_]+[a-z]\b`)

func names(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, name := range metricName.FindAllString(string(data), -1) {
		found[name] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// use has the server do something for each of its metrics.
func (s *testServer) use() {
	s.t.Helper()
	s.do("main", "PUT", "/v1/entry/"+action(1).String(), nil, packed(s.t, action(1), small, nil))
	s.do("main", "GET", "/v1/entry/"+action(1).String(), nil, nil)
	s.do("main", "GET", "/v1/entry/"+action(2).String(), nil, nil)
	s.do("", "GET", "/v1/entry/"+action(2).String(), nil, nil)
	s.do("main", "POST", "/v1/sessions", nil, reports(report("one", 4, 1)))
}

// The metrics are those in the docs, and what is shipped for Grafana and Prometheus
// asks for no others.
func TestMetricsAreDocumented(t *testing.T) {
	s := start(t, disk.Options{MaxBytes: 1 << 30})
	s.use()
	_, _, out := s.do("ops", "GET", "/metrics", nil, nil)
	served := make(map[string]bool)
	with := make(map[string]bool) // and those of histograms
	for _, line := range regexp.MustCompile(`(?m)^# TYPE (larder_\S+) (\S+)$`).FindAllStringSubmatch(string(out), -1) {
		served[line[1]], with[line[1]] = true, true
		if line[2] == "histogram" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				with[line[1]+suffix] = true
			}
		}
	}
	documented := names(t, "../../docs/operations.md")
	if want := slices.Sorted(maps.Keys(served)); !slices.Equal(documented, want) {
		t.Errorf("documented are\n%q, served\n%q", documented, want)
	}
	for _, path := range []string{"../../deploy/grafana/larder.json", "../../deploy/prometheus/alerts.yaml"} {
		asked := names(t, path)
		if len(asked) < 10 {
			t.Errorf("%s names %d metrics only", path, len(asked))
		}
		for _, name := range asked {
			if !with[name] {
				t.Errorf("%s asks for %s, which there is not", path, name)
			}
		}
	}
	data, err := os.ReadFile("../../deploy/grafana/larder.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct{ Panels []struct{ Title string } }
	if err := json.Unmarshal(data, &dashboard); err != nil || len(dashboard.Panels) < 10 {
		t.Errorf("the Grafana dashboard has %d panels, %v", len(dashboard.Panels), err)
	}
	for _, label := range []string{"operation", "status", "namespace", "reason", "source"} {
		if !strings.Contains(string(out), label+`="`) {
			t.Errorf("no metric has the label %s", label)
		}
	}
}
