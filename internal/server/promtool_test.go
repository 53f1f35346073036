package server_test

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/larder-build/larder/internal/server/disk"
)

// What is shipped for Prometheus is what its own tool takes: the alerts parse and do
// as their tests say, and what the server exports is well formed and well named.
func TestPrometheus(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("LARDER_NEED_PROMTOOL") != "" {
			t.Fatal(err)
		}
		t.Skip("no promtool here; Debian's package prometheus has one")
	}
	s := start(t, disk.Options{MaxBytes: 1 << 30})
	s.use()
	_, _, exposition := s.do("ops", "GET", "/metrics", nil, nil)
	for _, args := range [][]string{
		{"check", "rules", "../../deploy/prometheus/alerts.yaml"},
		{"test", "rules", "../../deploy/prometheus/alerts_test.yaml"},
		{"check", "metrics"},
	} {
		cmd := exec.Command(promtool, args...)
		cmd.Stdin = bytes.NewReader(exposition)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
