// Package server is the team server's HTTP API (docs/api.md) over its storage.
//
// It promises that a body leaves it only after its checksum was compared, that an
// entry is acknowledged only when it is durable, and that a body is taken in only
// if it is what its header says; whether an action really yields that output it
// cannot know, which is why it matters who may write where (auth). Whatever a
// request does, it is bounded: in time without progress, in bytes, in memory.
package server

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/dashboard"
	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/server/history"
	"github.com/larder-build/larder/internal/tracing"
)

// Limits of requests. They are what no honest client reaches.
const (
	entryBytesMax = 2 << 30          // of one stored body
	getsMax       = 100_000          // actions of a batch
	haveBytesMax  = 16 << 20         // of the filter that a prefetch comes with
	requestsMax   = 512              // at once; more are answered 429
	idleLimit     = 30 * time.Second // without a byte read or written

	// ConnectionsMax is how many connections the server accepts at once.
	ConnectionsMax = 4096
)

// Options are a server's parts.
type Options struct {
	Storage *disk.Store
	// Authenticate returns what a token, "" if there is none, may do; its errors
	// are auth's. Nil lets everyone do everything.
	Authenticate func(token string) (auth.Grant, error)
	// Find returns what the token with a hash (auth.Hash) may do, for browsers that
	// have logged in with it. Nil is of no use where Authenticate is not.
	Find    func(hash string) (auth.Grant, error)
	Secure  bool // browsers reach the server by TLS only
	Log     *slog.Logger
	Version string // of larderd, for capabilities
	Tracer  *tracing.Tracer
}

// A Server serves the API.
type Server struct {
	storage      *disk.Store
	history      *history.History
	authenticate func(string) (auth.Grant, error)
	log          *slog.Logger
	tracer       *tracing.Tracer
	version      string
	codec        *body.Codec
	filters      filters
	metrics      *metrics
	buffers      sync.Pool  // of *[]byte, to read bodies into
	manifests    sync.Mutex // a merge reads, then writes
	reports      rate
	recorded     recorded
	inFlight     atomic.Int64
	draining     atomic.Bool
	open         bool // it has no tokens
	mux          http.ServeMux
}

// New returns a server.
func New(o Options) *Server {
	s := &Server{
		storage: o.Storage, history: history.Open(o.Storage, nil, o.Log), authenticate: o.Authenticate, log: o.Log, version: o.Version,
		tracer: o.Tracer, codec: body.NewCodec(),
	}
	if s.open = s.authenticate == nil; s.open {
		s.authenticate = func(string) (auth.Grant, error) { return auth.Open(), nil }
	}
	s.buffers.New = func() any { return new([]byte) }
	s.filters.init(o.Storage)
	s.metrics = newMetrics(s)
	for pattern, op := range map[string]operation{
		"GET /v1/capabilities":    {"capabilities", s.capabilities},
		"GET /v1/entry/{action}":  {"get", s.getEntry},
		"PUT /v1/entry/{action}":  {"put", s.putEntry},
		"POST /v1/get":            {"batch_get", s.batchGet},
		"POST /v1/put":            {"batch_put", s.batchPut},
		"GET /v1/manifest/{key}":  {"get_manifest", s.getManifest},
		"POST /v1/manifest/{key}": {"merge_manifest", s.mergeManifest},
		"POST /v1/prefetch/{key}": {"prefetch", s.prefetch},
		"GET /v1/filter":          {"filter", s.getFilter},
		"POST /v1/sessions":       {"report_sessions", s.postSessions},
		"GET /v1/sessions":        {"list_sessions", s.listSessions},
		"GET /metrics":            {"metrics", s.getMetrics},
	} {
		s.mux.Handle(pattern, s.handler(op))
	}
	page := s.page(dashboard.New(dashboard.Options{
		Storage: o.Storage, History: s.history, Record: s.Record, Version: o.Version, Log: o.Log, Secure: o.Secure, Find: s.find(o),
		Refused: func(err error) { s.metrics.refused.WithLabelValues(refusal(err)).Inc() },
	}))
	for _, pattern := range dashboard.Patterns() {
		s.mux.Handle(pattern, page)
	}
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	s.mux.HandleFunc("GET /readyz", s.ready)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &apiError{status: http.StatusNotFound, code: "no_such_path", message: "there is no " + r.Method + " of this path; see docs/api.md"})
	})
	return s
}

// find is how the dashboard finds what tokens may do; nil if there are none.
func (s *Server) find(o Options) func(hash string) (auth.Grant, error) {
	if o.Authenticate == nil {
		return nil
	}
	if o.Find == nil {
		return func(string) (auth.Grant, error) { return auth.Grant{}, auth.ErrUnknown }
	}
	return o.Find
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.open && !fromHere(r) {
		writeError(w, &apiError{status: http.StatusForbidden, code: "cross_site", message: "this server has no tokens, so it is not for other sites' pages, nor for other names than localhost"})
		return
	}
	s.mux.ServeHTTP(w, r)
}

// fromHere tells requests of programs on this machine from those that a page of
// another site has a browser make, which reaches loopback too: across origins, or
// through a name that the site has made to resolve to it.
func fromHere(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return false
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		// Following a link is harmless; what it leads to is not shown to the other site.
		return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate"
	}
	origin := r.Header.Get("Origin")
	return origin == "" || strings.TrimPrefix(strings.TrimPrefix(origin, "http://"), "https://") == r.Host
}

// page serves the dashboard, with what requests of the API have in common.
func (s *Server) page(h http.Handler) http.Handler {
	busy := func(w http.ResponseWriter) {
		http.Error(w, "too many requests at once; try again in a second", http.StatusTooManyRequests)
	}
	return s.bounded("dashboard", busy, func(_ *statusWriter, p *progress, r *http.Request, _ *auth.Grant) {
		h.ServeHTTP(p.writer(), r)
	})
}

// bounded is what all requests have in common: they are counted, measured and
// traced, their bodies must get on, and no more than requestsMax are served at a
// time; busy answers the others. serve sets whose request it is, and may panic then.
func (s *Server) bounded(name string, busy func(http.ResponseWriter), serve func(*statusWriter, *progress, *http.Request, *auth.Grant)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		sw := &statusWriter{ResponseWriter: w}
		var grant auth.Grant
		var p *progress
		r, span := s.trace(r)
		defer func() {
			s.metrics.observe(name, sw.code(), grant, time.Since(begin))
			traced(span, sw, p, grant)
		}()
		defer s.inFlight.Add(-1)
		if s.inFlight.Add(1) > requestsMax {
			busy(sw)
			return
		}
		p = newProgress(sw, r)
		r.Body = p.body()
		serve(sw, p, r, &grant)
	})
}

// Drain makes the server say that it is not ready, so that load balancers send
// requests elsewhere; it goes on to serve what comes.
func (s *Server) Drain() { s.draining.Store(true) }

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		writeError(w, &apiError{status: http.StatusServiceUnavailable, code: "draining", message: "the server is about to end"})
		return
	}
	w.Write([]byte("ok\n"))
}

// Headers of each answer that say whom the server has taken the request for: the
// token's name, and the namespace that it writes, "" if it may not.
const (
	nameHeader      = "Larder-Name"
	namespaceHeader = "Larder-Namespace"
)

// An operation is one thing that the API does.
type operation struct {
	name string
	run  func(w http.ResponseWriter, r *http.Request, g auth.Grant) error
}

// handler is what all operations have in common: who it is, whether there is
// room, deadlines, errors, numbers.
func (s *Server) handler(op operation) http.Handler {
	busy := func(w http.ResponseWriter) {
		w.Header().Set("Retry-After", "1")
		writeError(w, &apiError{status: http.StatusTooManyRequests, code: "busy", message: "too many requests at once; try again in a second"})
	}
	return s.bounded(op.name, busy, func(w *statusWriter, p *progress, r *http.Request, grant *auth.Grant) {
		var err error
		if *grant, err = s.authenticate(bearer(r)); err == nil {
			w.Header().Set(nameHeader, grant.Name)
			w.Header().Set(namespaceHeader, grant.Write)
			err = op.run(p.writer(), r, *grant)
		} else {
			s.metrics.refused.WithLabelValues(refusal(err)).Inc()
			w.Header().Set("WWW-Authenticate", `Bearer realm="larder"`)
			err = &apiError{status: http.StatusUnauthorized, code: refusal(err), message: err.Error()}
		}
		s.finish(w, r, op, err)
	})
}

// finish answers an operation's error. Where the answer has already begun, the
// connection is cut, so that the client does not take what it has for all.
func (s *Server) finish(w *statusWriter, r *http.Request, op operation, err error) {
	if err == nil {
		return
	}
	var known *apiError
	if !errors.As(err, &known) {
		known = &apiError{status: http.StatusInternalServerError, code: "internal", message: "the server has a problem; its log says more"}
		if errors.Is(err, disk.ErrFull) {
			known = &apiError{status: http.StatusInsufficientStorage, code: "full", message: "the server's disk is full; it is making room"}
		}
		if r.Context().Err() == nil {
			s.log.Error("request", "operation", op.name, "remote", r.RemoteAddr, "error", err)
		}
	}
	if w.status != 0 {
		tracing.SpanOf(r.Context()).Fail(err)
		panic(http.ErrAbortHandler)
	}
	writeError(w, known)
}

// bearer is the request's token.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

func refusal(err error) string {
	switch {
	case errors.Is(err, auth.ErrNoToken):
		return "no_token"
	case errors.Is(err, auth.ErrExpired):
		return "expired_token"
	}
	return "unknown_token"
}
