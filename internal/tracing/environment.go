package tracing

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This is the part of OpenTelemetry's environment that its Go SDK leaves to
// exporters. The rest (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, samplers,
// OTEL_BSP_…, limits of spans) the SDK reads itself. The variables are those of
// opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables and
// opentelemetry.io/docs/specs/otel/protocol/exporter.

const (
	exporterVariable = "OTEL_TRACES_EXPORTER"
	disabledVariable = "OTEL_SDK_DISABLED"
	// endpointDefault is where a collector on this machine listens.
	endpointDefault = "http://localhost:4318"
	timeoutDefault  = 10 * time.Second
	timeoutMax      = 30 * time.Second
)

// otlp is a variable of the exporter's: of traces or, if that is not set, of all
// signals.
func otlp(name string) string {
	if value := strings.TrimSpace(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_" + name)); value != "" {
		return value
	}
	return strings.TrimSpace(os.Getenv("OTEL_EXPORTER_OTLP_" + name))
}

// wanted reports whether the environment wants traces, or why they are not to be had.
func wanted() (bool, error) {
	if strings.EqualFold(strings.TrimSpace(os.Getenv(disabledVariable)), "true") {
		return false, nil
	}
	switch exporters := strings.TrimSpace(os.Getenv(exporterVariable)); {
	case exporters == "" && otlp("ENDPOINT") == "", exporters == "none":
		return false, nil
	case exporters != "" && !slices.ContainsFunc(strings.Split(exporters, ","), func(name string) bool { return strings.TrimSpace(name) == "otlp" }):
		return false, fmt.Errorf("%s is %q; larderd knows otlp and none", exporterVariable, exporters)
	}
	if protocol := otlp("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return false, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q; larderd speaks http/protobuf only, on port 4318 as a rule; OTEL_EXPORTER_OTLP_TRACES_PROTOCOL and …_TRACES_ENDPOINT can say so for traces", protocol)
	}
	return true, nil
}

// A collector is where to send traces, and how.
type collector struct {
	url     url.URL
	headers http.Header
	timeout time.Duration
	gzip    bool
	tls     *tls.Config
}

// target reads where to send traces.
func target() (to collector, err error) {
	if to.url, err = endpoint(); err != nil {
		return to, err
	}
	if to.headers, err = parseHeaders(otlp("HEADERS")); err != nil {
		return to, fmt.Errorf("OTEL_EXPORTER_OTLP_HEADERS: %w", err)
	}
	to.timeout = timeoutDefault
	if text := otlp("TIMEOUT"); text != "" {
		ms, err := strconv.ParseInt(text, 10, 32)
		if err != nil || ms < 0 {
			return to, fmt.Errorf("OTEL_EXPORTER_OTLP_TIMEOUT is %q, not a number of milliseconds", text)
		}
		if to.timeout = min(time.Duration(ms)*time.Millisecond, timeoutMax); ms == 0 { // no limit
			to.timeout = timeoutMax
		}
	}
	switch compression := otlp("COMPRESSION"); compression {
	case "", "none":
	case "gzip":
		to.gzip = true
	default:
		return to, fmt.Errorf("OTEL_EXPORTER_OTLP_COMPRESSION is %q; larderd knows gzip and none", compression)
	}
	to.tls, err = certificates()
	return to, err
}

// endpoint is the URL to which spans are posted.
func endpoint() (url.URL, error) {
	name, own := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", true
	text := strings.TrimSpace(os.Getenv(name))
	if text == "" {
		name, own = "OTEL_EXPORTER_OTLP_ENDPOINT", false
		text = otlp("ENDPOINT")
	}
	if text == "" {
		text = endpointDefault
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return url.URL{}, fmt.Errorf("%s is not an http or https URL", name) // which may have a password
	}
	if !own {
		u = u.JoinPath("v1/traces")
	}
	return *u, nil
}

// parseHeaders parses "name=value,name2=value2", with values as in a URL. Its
// errors do not have what may be secret.
func parseHeaders(text string) (http.Header, error) {
	headers := make(http.Header)
	for i, pair := range strings.Split(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || err != nil || !isToken(name) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, fmt.Errorf("number %d is not name=value", i+1)
		}
		headers.Set(name, value)
	}
	return headers, nil
}

// isToken tells what can be a header's name.
func isToken(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// certificates is what a TLS connection to the collector trusts and shows; nil is
// the system's, and nothing.
func certificates() (*tls.Config, error) {
	roots, cert, key := otlp("CERTIFICATE"), otlp("CLIENT_CERTIFICATE"), otlp("CLIENT_KEY")
	if roots == "" && cert == "" && key == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if roots != "" {
		pem, err := os.ReadFile(roots)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("OTEL_EXPORTER_OTLP_CERTIFICATE has no certificates")
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and …_KEY: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
