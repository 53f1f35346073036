package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	otlpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

const (
	// answerBytesMax is how much of an answer is read, so that the connection can be
	// used again; what is longer is cut off.
	answerBytesMax = 4 << 10
	// attemptsMax is how often spans are sent to a collector that asks for patience.
	attemptsMax = 3
	// pauseFirst is the time before the second attempt; it doubles. pauseMax bounds
	// what the collector may ask for.
	pauseFirst = time.Second
	pauseMax   = 10 * time.Second
)

// A sender posts spans to a collector as OTLP over HTTP.
//
// It stands in for package otlptracehttp, which links gRPC (61 packages, 3 MB, for
// messages that are sent over HTTP) and reads answers of any length into memory (up
// to v1.42; later ones need a newer Go than Larder does).
type sender struct {
	to     collector
	http   *http.Client
	log    *slog.Logger
	life   context.Context
	cut    context.CancelFunc // gives up what is being sent, and all that follows
	failed bool               // the last time; it is said once. UploadTraces is called by one at a time
}

var _ otlptrace.Client = (*sender)(nil)

func newSender(to collector, log *slog.Logger) *sender {
	s := &sender{to: to, log: log}
	s.life, s.cut = context.WithCancel(context.Background())
	s.http = &http.Client{
		// The headers may be secret, and are not to be sent anywhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: to.timeout}).DialContext,
			TLSClientConfig:     to.tls,
			TLSHandshakeTimeout: to.timeout,
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     30 * time.Second,
			ForceAttemptHTTP2:   true,
		},
	}
	return s
}

// Start is of otlptrace.Client; there is nothing to start.
func (s *sender) Start(context.Context) error { return nil }

// Stop is of otlptrace.Client; it is close that ends a sender.
func (s *sender) Stop(context.Context) error { return nil }

func (s *sender) close() {
	s.cut()
	s.http.CloseIdleConnections()
}

// UploadTraces sends spans. It returns no errors: package sdk would write a line
// for each, and a collector can be down for days. It says when it begins to fail.
func (s *sender) UploadTraces(ctx context.Context, spans []*otlpb.ResourceSpans) error {
	if s.life.Err() != nil {
		return nil // the program ends
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	err := s.send(ctx, spans)
	if s.life.Err() != nil {
		return nil
	}
	if err != nil && !s.failed {
		s.log.Warn("traces are dropped until the collector takes them", "collector", s.to.url.Host, "error", err)
	} else if err == nil && s.failed {
		s.log.Info("the collector takes traces again", "collector", s.to.url.Host)
	}
	s.failed = err != nil
	return nil
}

func (s *sender) send(ctx context.Context, spans []*otlpb.ResourceSpans) error {
	// The request's message, ExportTraceServiceRequest, has the same encoding, and
	// lives in a package that links gRPC (opentelemetry/proto/trace/v1/trace.proto
	// promises it).
	body, err := proto.Marshal(&otlpb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("encode spans: %w", err)
	}
	if s.to.gzip {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		w.Write(body)
		w.Close() // a buffer takes all
		body = packed.Bytes()
	}
	pause := pauseFirst
	for attempt := 1; ; attempt++ {
		after, err := s.post(ctx, body)
		if err == nil || after < 0 || attempt == attemptsMax {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(min(max(pause, after), pauseMax)):
		}
		pause *= 2
	}
}

// post posts a request once. after is the least time before it may be sent again;
// -1 if that makes no sense.
func (s *sender) post(ctx context.Context, body []byte) (after time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.to.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.to.url.String(), bytes.NewReader(body))
	if err != nil {
		return -1, err
	}
	for name, values := range s.to.headers {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	if s.to.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL may have a password
		}
		return -1, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, answerBytesMax))
	if resp.StatusCode/100 == 2 {
		return 0, nil
	}
	err = fmt.Errorf("status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch resp.StatusCode { // those of opentelemetry.io/docs/specs/otlp, "retryable response codes"
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.ParseInt(resp.Header.Get("Retry-After"), 10, 32)
		return time.Duration(max(seconds, 0)) * time.Second, err
	}
	return -1, err
}
