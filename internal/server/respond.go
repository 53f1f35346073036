package server

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

// An apiError is an error as the client gets it: a status, a code for programs, a
// text for people.
type apiError struct {
	status  int
	code    string
	message string
	cause   error // may be nil
}

func (e *apiError) Unwrap() error { return e.cause }

func (e *apiError) Error() string { return e.message }

func badRequest(message string) error {
	return &apiError{status: http.StatusBadRequest, code: "bad_request", message: message}
}

func notFound(what string) error {
	return &apiError{status: http.StatusNotFound, code: "not_found", message: "there is no such " + what}
}

// messageBytesMax bounds what of a request may come back in an error.
const messageBytesMax = 300

func writeError(w http.ResponseWriter, e *apiError) {
	message := e.message
	if len(message) > messageBytesMax {
		message = message[:messageBytesMax]
	}
	writeJSON(w, e.status, map[string]any{"error": map[string]string{"code": e.code, "message": message}})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // strings and numbers; the connection's errors are the client's
}

// beginStream says that the answer is a stream. nginx keeps what it has of an answer
// back until there is more, as it comes configured; but not of one that says so (its
// module ngx_http_proxy_module, proxy_buffering).
func beginStream(w http.ResponseWriter) {
	w.Header().Set("Content-Type", streamType)
	w.Header().Set("X-Accel-Buffering", "no")
}

// A statusWriter remembers the status of its answer.
type statusWriter struct {
	http.ResponseWriter
	status int
	sent   int64 // bytes of the body
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	return n, err
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *statusWriter) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// A progress moves a request's deadlines on for as long as bytes flow, so that
// there is no limit to how long a large transfer takes, but one to how long a
// client can keep a connection with none.
type progress struct {
	control  *http.ResponseController
	w        http.ResponseWriter
	r        io.ReadCloser
	until    time.Time
	received int64 // bytes of the request's body
}

func newProgress(w http.ResponseWriter, r *http.Request) *progress {
	p := &progress{control: http.NewResponseController(w), w: w, r: r.Body}
	p.move()
	return p
}

// move moves the deadlines on, but not for every few bytes.
func (p *progress) move() {
	now := time.Now()
	if p.until.Sub(now) > idleLimit-time.Second {
		return
	}
	p.until = now.Add(idleLimit)
	p.control.SetReadDeadline(p.until)
	p.control.SetWriteDeadline(p.until)
}

func (p *progress) body() io.ReadCloser         { return (*progressReader)(p) }
func (p *progress) writer() http.ResponseWriter { return (*progressWriter)(p) }

type progressReader progress

func (p *progressReader) Read(b []byte) (int, error) {
	(*progress)(p).move()
	n, err := p.r.Read(b)
	p.received += int64(n)
	return n, err
}

func (p *progressReader) Close() error { return p.r.Close() }

type progressWriter progress

func (p *progressWriter) Header() http.Header    { return p.w.Header() }
func (p *progressWriter) WriteHeader(status int) { p.w.WriteHeader(status) }
func (p *progressWriter) Write(b []byte) (int, error) {
	(*progress)(p).move()
	return p.w.Write(b)
}
func (p *progressWriter) Unwrap() http.ResponseWriter { return p.w }
