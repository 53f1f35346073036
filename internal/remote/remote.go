// Package remote is the client of a team server (docs/api.md), and the breaker
// that keeps a failing one from costing builds more than hits.
//
// Each request is one round trip, and bounded: a server has StartLimit to begin
// its answer and StallLimit for each next byte of it. What a Client returns has
// not been verified: bodies are to be compared with their headers (body).
package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/larder-build/larder/internal/manifest"
)

const (
	// ConnectLimit is how long a connection may take: three times the round trip
	// to the other side of the world.
	ConnectLimit = time.Second
	// StartLimit is how long an answer may take to begin. A build waits for it
	// once, then the breaker knows.
	StartLimit = 2 * time.Second
	// StallLimit is how long an answer that has begun may pause.
	StallLimit = 2 * time.Second
	// putLimit is StartLimit for what no build waits for, and the disk's sync with it.
	putLimit = 60 * time.Second

	answerBytesMax = 64 << 10 // of JSON
	tokenBytesMax  = 4 << 10
	filterBytesMax = 5 * manifest.FilterMax
)

// A StatusError is an answer other than success.
type StatusError struct {
	Status  int    // of HTTP
	Code    string // the API's, "" if the answer is not the API's
	Message string
	// RetryAfter is for how long the answer asks to be left alone; 0: it does not say.
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("unexpected status %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("status %d: %s", e.Status, e.Message)
}

// IsStatus reports whether err is an answer of one of the given statuses.
func IsStatus(err error, statuses ...int) bool {
	var e *StatusError
	if !errors.As(err, &e) {
		return false
	}
	for _, s := range statuses {
		if e.Status == s {
			return true
		}
	}
	return false
}

// Options say which server, and as whom.
type Options struct {
	URL       string // http or https
	TokenFile string // read for each connection to come; "" is none
	Version   string // of Larder, for the server's log
	// Traceparent is the span that a request is made in, "" if there is none, which
	// the server is told. Nil is a function that knows of none.
	Traceparent func(ctx context.Context) string
	// Changed is called before a request with another token than the last one's goes
	// out, and before the first. It may be nil.
	Changed func(Token)
}

// A Client speaks to one server. It is safe for concurrent use.
type Client struct {
	base      url.URL
	tokenFile string
	agent     string
	parent    func(ctx context.Context) string
	changed   func(Token)
	writers   writers
	http      *http.Client
	Speed     Speed
}

// New returns a client. It does no I/O.
func New(o Options) (*Client, error) {
	base, err := url.Parse(o.URL)
	if err != nil {
		return nil, err
	}
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("%q is not an http or https URL", o.URL)
	}
	c := &Client{base: *base, tokenFile: o.TokenFile, agent: "larder/" + o.Version, parent: o.Traceparent, changed: o.Changed}
	dialer := &net.Dialer{Timeout: ConnectLimit, KeepAlive: 30 * time.Second}
	c.http = &http.Client{
		// Tokens are not to be sent anywhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         dialer.DialContext,
			TLSHandshakeTimeout: StartLimit,
			MaxIdleConnsPerHost: 8,
			IdleConnTimeout:     90 * time.Second,
			ReadBufferSize:      64 << 10,
			WriteBufferSize:     64 << 10,
			DisableCompression:  true,
			// A stream of HTTP/2 has at most 4 MB on the way, which over 50 ms is
			// 80 MB/s; a connection of HTTP/1.1 has what the system's windows grow to.
			Protocols: onlyHTTP1(),
		},
	}
	return c, nil
}

func onlyHTTP1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// A call is one request.
type call struct {
	method, path string
	header       http.Header
	body         io.Reader // nil is none
	start        time.Duration
	typical      bool // its round trip says how long others will take
}

// do makes a request, and returns an answer of status 2xx, or 304 to a request with
// If-None-Match. The answer's
// body ends in an error where it stalls. It must be closed, which ends the request.
func (c *Client) do(ctx context.Context, r call) (*http.Response, error) {
	what := func(err error) error { return fmt.Errorf("%s %s: %w", r.method, r.path, err) }
	token, set, err := c.tokenOf(ctx)
	if err != nil {
		return nil, err
	}
	if !set && c.writers.use(token) && c.changed != nil {
		c.changed(token)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var written atomic.Pointer[time.Time]
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { now := time.Now(); written.Store(&now) },
		GotFirstResponseByte: func() {
			if at := written.Load(); at != nil && r.typical { // and not answered before all was sent
				c.Speed.addRoundTrip(time.Since(*at))
			}
		},
	})
	req, err := http.NewRequestWithContext(traced, r.method, c.base.JoinPath(r.path).String(), r.body)
	if err != nil {
		cancel(nil)
		return nil, what(err)
	}
	if r.header != nil {
		req.Header = r.header
	}
	req.Header.Set("User-Agent", c.agent)
	// All requests may be repeated, which package http does, with this, where a
	// connection has gone that was kept: after a restart of the server.
	req.Header["Idempotency-Key"] = nil
	if token.secret != "" {
		req.Header.Set("Authorization", "Bearer "+token.secret)
	}
	if c.parent != nil {
		if parent := c.parent(ctx); parent != "" {
			req.Header.Set("Traceparent", parent)
		}
	}
	watch := time.AfterFunc(r.start, func() { cancel(errStalled(r.start)) })
	if pipe, ok := r.body.(*io.PipeReader); ok {
		// A long upload is no silence: its limit begins with each piece of it.
		req.Body = &sending{pipe, watch, r.start}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		watch.Stop()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, what(plain(err))
	}
	if name := resp.Header.Get(nameHeader); name != "" {
		c.writers.note(token, Writer{name, resp.Header.Get(namespaceHeader)})
	}
	watch.Reset(StallLimit)
	resp.Body = &stallReader{r: resp.Body, ctx: ctx, cancel: cancel, watch: watch, speed: &c.Speed}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusNotModified && req.Header.Get("If-None-Match") != "" {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, what(statusError(resp))
}

type sending struct {
	*io.PipeReader
	watch *time.Timer
	limit time.Duration
}

func (s *sending) Read(p []byte) (int, error) {
	s.watch.Reset(s.limit)
	return s.PipeReader.Read(p)
}

// plain is err without the method and URL that the message around it names.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func statusError(resp *http.Response) error {
	e := &StatusError{Status: resp.StatusCode}
	if n, err := strconv.ParseInt(resp.Header.Get("Retry-After"), 10, 32); err == nil && n > 0 {
		e.RetryAfter = time.Duration(n) * time.Second
	}
	var answer struct {
		Error struct{ Code, Message string }
	}
	data, _ := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if json.Unmarshal(data, &answer) == nil {
		e.Code, e.Message = answer.Error.Code, answer.Error.Message
	}
	return e
}

// ErrStalled is what errors about a server that is too slow wrap.
var ErrStalled = errors.New("the server does not answer")

func errStalled(limit time.Duration) error { return fmt.Errorf("%w within %v", ErrStalled, limit) }

// A stallReader is an answer's body that must not pause for long.
type stallReader struct {
	r      io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	watch  *time.Timer
	speed  *Speed
}

func (s *stallReader) Read(p []byte) (int, error) {
	// The timer runs only while the network is waited for: whoever reads may take
	// its time.
	s.watch.Reset(StallLimit)
	begin := time.Now()
	n, err := s.r.Read(p)
	s.watch.Stop()
	s.speed.addTransfer(n, time.Since(begin))
	if err != nil && err != io.EOF {
		if cause := context.Cause(s.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (s *stallReader) Close() error {
	s.watch.Stop()
	s.cancel(nil)
	return s.r.Close()
}
