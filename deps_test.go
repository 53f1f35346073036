// Package larder_test holds the rules about who may import whom.
package larder_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/larder-build/larder"

// rules say for each package what it may import besides the standard library,
// directly. A package that is not listed fails the test: say here what it may
// import, and in docs/design.md why, if that is more than its neighbours may.
const rules = `
.                        -
cacheprog                -
cacheprogtest            cacheprog
cmd/larder               cacheprog cacheprogtest internal/bench internal/cli internal/config internal/content internal/doctor internal/entry internal/explain internal/folder internal/gocommand internal/helper internal/native internal/session internal/stats internal/store internal/touch golang.org/x/sys/unix
cmd/larderd              internal/agent internal/bench internal/body internal/cli internal/config internal/entry internal/faulttest internal/fresh internal/remote internal/server internal/server/auth internal/server/disk internal/session internal/store internal/tracing golang.org/x/crypto/acme golang.org/x/crypto/acme/autocert golang.org/x/net/netutil
e2e                      internal/entry internal/faulttest internal/store internal/tracing/tracingtest
e2e/soak                 internal/soak
internal/agent           internal/body internal/content internal/entry internal/filelock internal/linked internal/manifest internal/remote internal/session internal/stats internal/store internal/tracing golang.org/x/sync/semaphore
internal/bench           -
internal/body            internal/entry github.com/klauspost/compress/zstd
internal/cli             -
internal/config          github.com/BurntSushi/toml
internal/content         internal/entry
internal/doctor          cacheprog internal/cli internal/explain internal/touch
internal/entry           -
internal/entrytest       internal/entry
internal/explain         cacheprog internal/entry internal/folder internal/store
internal/faulttest       internal/entry
internal/filelock        -
internal/folder          golang.org/x/sys/unix
internal/fresh           -
internal/gocommand       -
internal/helper          cacheprog internal/content internal/entry internal/session internal/stats internal/store golang.org/x/sys/unix
internal/linked          internal/entry
internal/manifest        internal/entry
internal/native          internal/entry internal/session
internal/remote          internal/entry internal/fresh internal/manifest internal/stats golang.org/x/sys/unix
internal/server          internal/body internal/entry internal/manifest internal/server/auth internal/server/dashboard internal/server/disk internal/server/history internal/stats internal/tracing github.com/prometheus/client_golang/prometheus github.com/prometheus/client_golang/prometheus/collectors github.com/prometheus/client_golang/prometheus/promhttp
internal/server/auth     github.com/BurntSushi/toml
internal/server/dashboard internal/config internal/entry internal/server/auth internal/server/disk internal/server/history
internal/server/disk     internal/entry github.com/cockroachdb/pebble/v2 github.com/cockroachdb/pebble/v2/bloom github.com/cockroachdb/pebble/v2/vfs
internal/server/history  internal/entry internal/stats
internal/session         internal/entry internal/filelock internal/manifest internal/stats
internal/soak            internal/bench internal/faulttest
internal/stats           internal/content internal/entry internal/folder
internal/store           internal/entry internal/filelock internal/folder golang.org/x/sys/unix
internal/tracing         go.opentelemetry.io/otel/attribute go.opentelemetry.io/otel/codes go.opentelemetry.io/otel/exporters/otlp/otlptrace go.opentelemetry.io/otel/propagation go.opentelemetry.io/otel/sdk/resource go.opentelemetry.io/otel/sdk/trace go.opentelemetry.io/otel/trace go.opentelemetry.io/proto/otlp/trace/v1 google.golang.org/protobuf/proto
internal/tracing/tracingtest go.opentelemetry.io/proto/otlp/common/v1 go.opentelemetry.io/proto/otlp/trace/v1 google.golang.org/protobuf/proto
internal/touch           golang.org/x/sys/unix
`

// heavy are packages of the standard library that the helper, which starts with
// every go command, must not even link.
var heavy = []string{"net", "net/http", "regexp", "html/template", "text/template", "crypto/tls", "database/sql"}

func list(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestImports(t *testing.T) {
	allowed := make(map[string][]string)
	for _, line := range strings.Split(strings.TrimSpace(rules), "\n") {
		fields := strings.Fields(line)
		allowed[fields[0]] = fields[1:]
	}
	for _, line := range list(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(strings.TrimPrefix(fields[0], module), "/")
		if name == "" {
			name = "."
		}
		may, ok := allowed[name]
		if !ok {
			t.Errorf("package %s has no line in the rules", name)
			continue
		}
		for _, path := range fields[1:] {
			own := strings.TrimPrefix(path, module+"/")
			if strings.Contains(strings.Split(path, "/")[0], ".") && !slices.Contains(may, own) {
				t.Errorf("package %s imports %s, which the rules do not allow", name, path)
			}
		}
	}
}

func TestHelperIsLight(t *testing.T) {
	for _, path := range list(t, "-deps", "./cmd/larder") {
		if slices.Contains(heavy, path) || strings.Contains(path, "opentelemetry") {
			t.Errorf("larder links %s", path)
		}
	}
}

// Traces are sent over HTTP: gRPC, of which larderd has no other use, would be a
// tenth of the program.
func TestDaemonHasNoGRPC(t *testing.T) {
	for _, path := range list(t, "-deps", "./cmd/larderd") {
		if strings.HasPrefix(path, "google.golang.org/grpc") {
			t.Errorf("larderd links %s", path)
		}
	}
}
