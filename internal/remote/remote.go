// Package remote is the client of a team server (docs/api.md), and the breaker
// that keeps a failing one from costing builds more than hits.
//
// Each request is one round trip, and what is bounded is silence: a server has
// StartLimit to take some of a request, or to begin its answer when it has all, and
// StallLimit for each next byte of it. What a Client returns has
// not been verified: bodies are to be compared with their headers (body).
package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/larder-build/larder/internal/manifest"
)

const (
	// StartLimit is how long a server may be silent before its answer begins: take
	// nothing of the request, or not answer when it has all of it. A build waits for
	// it once, then the breaker knows.
	StartLimit = 2 * time.Second
	// StallLimit is how long an answer that has begun may pause.
	StallLimit = 2 * time.Second
	// putLimit is StartLimit for what no build waits for, and the disk's sync with it.
	putLimit = 60 * time.Second
	// keepLimit is how long a connection is kept that is not used: for less than the
	// 60 s after which the most impatient load balancers (AWS's, nginx 75 s) forget it.
	keepLimit = 50 * time.Second

	// readMax is how much of an answer is read at a time. Package http fills what it is
	// given before it returns, as long as a chunk lasts, which may be an entry of 8 MiB:
	// StallLimit would be on the whole of it. So a line of 8 KB/s is no silence.
	readMax = 16 << 10

	answerBytesMax = 64 << 10 // of JSON
	tokenBytesMax  = 4 << 10
	filterBytesMax = 5 * manifest.FilterMax
)

// limits are those of one client.
type limits struct {
	start, stall, put      time.Duration
	busyForBuild, busyElse time.Duration
}

// Options say which server, and as whom.
type Options struct {
	URL       string // http or https
	TokenFile string // read for each connection to come; "" is none
	Version   string // of Larder, for the server's log
	// CAFile has certificates of authorities (PEM) that the server's may be from,
	// beside those that the system trusts; ClientCert and ClientKey are what this side
	// shows, the key being in ClientCert's own file if ClientKey is "". Files that
	// change are read anew; "" is none.
	CAFile, ClientCert, ClientKey string
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
	limits    limits
	dialer    *dialer
	transport transports
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
	c := &Client{
		base: *base, tokenFile: o.TokenFile, agent: "larder/" + o.Version, parent: o.Traceparent, changed: o.Changed, dialer: newDialer(),
		limits: limits{start: StartLimit, stall: StallLimit, put: putLimit, busyForBuild: busyForBuild, busyElse: busyElse},
	}
	c.transport.init(o, c.newTransport)
	return c, nil
}

func (c *Client) newTransport(config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         c.dialer.connect,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: StartLimit,
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     keepLimit,
		ReadBufferSize:      64 << 10,
		WriteBufferSize:     64 << 10,
		DisableCompression:  true,
		// A stream of HTTP/2 has at most 4 MB on the way, which over 50 ms is
		// 80 MB/s; a connection of HTTP/1.1 has what the system's windows grow to.
		Protocols: onlyHTTP1(),
	}
}

func onlyHTTP1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// Close closes idle connections.
func (c *Client) Close() {
	c.transport.close()
	c.dialer.close()
}

// A call is one request.
type call struct {
	method, path string
	header       http.Header
	body         []byte         // nil is none
	pipe         *io.PipeReader // instead of body
	start        time.Duration  // the limit on silence
	busy         time.Duration  // within it, a server that asks for patience is asked once more
	typical      bool           // its round trip says how long others will take
}

// do makes a request, and returns an answer of status 2xx, or 304 to a request with
// If-None-Match. A server that asks for patience is asked once more, if that is soon.
// The answer's body ends in an error where it stalls. It must be closed, which ends
// the request.
func (c *Client) do(ctx context.Context, r call) (*http.Response, error) {
	begin := time.Now()
	resp, err := c.try(ctx, r)
	if wait, ok := patience(err); ok && r.pipe == nil && time.Since(begin)+wait <= r.busy {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
			resp, err = c.try(ctx, r)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	return resp, nil
}

func (c *Client) try(ctx context.Context, r call) (*http.Response, error) {
	token, set, err := c.tokenOf(ctx)
	if err != nil {
		return nil, err
	}
	if !set && c.writers.use(token) && c.changed != nil {
		c.changed(token)
	}
	transport, err := c.transport.get()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	watch := newWatch(r.start, func(err error) { cancel(err) })
	req, err := c.request(c.traced(ctx, r, watch), r, watch, token)
	if err != nil {
		watch.end()
		cancel(nil)
		return nil, err
	}
	client := http.Client{
		Transport: transport,
		// Tokens are not to be sent anywhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	watch.end()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, plain(err)
	}
	if name := resp.Header.Get(nameHeader); name != "" {
		c.writers.note(token, Writer{name, resp.Header.Get(namespaceHeader)})
	}
	stalled := time.AfterFunc(c.limits.stall, func() { cancel(errStalled(c.limits.stall)) })
	resp.Body = &stallReader{r: resp.Body, ctx: ctx, cancel: cancel, watch: stalled, limit: c.limits.stall, speed: &c.Speed}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusNotModified && req.Header.Get("If-None-Match") != "" {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, statusError(resp)
}

// traced is a context for a request, of which the watch and Speed hear.
func (c *Client) traced(ctx context.Context, r call, watch *watch) context.Context {
	var written atomic.Pointer[time.Time]
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:      func(info httptrace.GotConnInfo) { watch.connected(connOf(info.Conn)) },
		WroteRequest: func(httptrace.WroteRequestInfo) { now := time.Now(); written.Store(&now) },
		GotFirstResponseByte: func() {
			if at := written.Load(); at != nil && r.typical { // and not answered before all was sent
				c.Speed.addRoundTrip(time.Since(*at))
			}
		},
	})
}

func (c *Client) request(ctx context.Context, r call, watch *watch, token Token) (*http.Request, error) {
	var body io.Reader
	switch {
	case r.pipe != nil:
		body = r.pipe
	case r.body != nil:
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.base.JoinPath(r.path).String(), body)
	if err != nil {
		return nil, err
	}
	if r.pipe != nil {
		req.Body = watchedBody{r.pipe, watch}
	}
	if r.header != nil {
		req.Header = r.header.Clone()
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
	return req, nil
}

// plain is err without the method and URL that the message around it names.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
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
	limit  time.Duration
	speed  *Speed
}

func (s *stallReader) Read(p []byte) (int, error) {
	// The timer runs only while the network is waited for: whoever reads may take
	// its time.
	s.watch.Reset(s.limit)
	begin := time.Now()
	n, err := s.r.Read(p[:min(len(p), readMax)])
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
