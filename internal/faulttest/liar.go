package faulttest

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/larder-build/larder/internal/entry"
)

// A Lie is what a server may do that no network does.
type Lie int

const (
	Honest    Lie = iota
	WrongBody     // other bytes, with a checksum that is right for them
	Damaged       // a bit of each body is another, and its checksum is not
	Swapped       // each entry has the body of the one before it
	Doubled       // each entry comes twice
	Reversed      // entries come in the opposite order
	Statuses      // every other request is answered 500, 503, 429, 507 or 404
	Nonsense      // answers are text
	Stuck         // prefetches are never answered, all else is: it looks well
	Forbidden     // a firewall's page, with status 403
	Small         // bodies of more than SmallBytes are answered 413
)

// SmallBytes is how large a body Small takes.
const SmallBytes = 20_000

// A Liar stands before a team server and changes what it answers.
type Liar struct {
	address  string
	server   *http.Server
	ended    chan struct{}
	lie      atomic.Int32
	requests atomic.Int64
}

// NewLiar starts a Liar before the server at target, host:port, on a loopback
// address. It is honest at first.
func NewLiar(target string) (*Liar, error) {
	l := &Liar{ended: make(chan struct{})}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target})
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Header.Get("Content-Type") != "application/vnd.larder.stream" {
			return nil
		}
		changed, err := tell(Lie(l.lie.Load()), r.Body)
		r.Body, r.ContentLength = io.NopCloser(changed), -1
		r.Header.Del("Content-Length")
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.address = listener.Addr().String()
	l.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := l.requests.Add(1)
		switch Lie(l.lie.Load()) {
		case Statuses:
			if n%2 == 0 {
				w.WriteHeader([]int{500, 503, 429, 507, 404}[n/2%5])
				return
			}
		case Nonsense:
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "<html>It works!</html>")
			return
		case Forbidden:
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "<html>Your administrator does not like this.</html>")
			return
		case Small:
			body, err := io.ReadAll(io.LimitReader(r.Body, SmallBytes+1))
			if err != nil || len(body) > SmallBytes {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		case Stuck:
			if strings.Contains(r.URL.Path, "/prefetch/") {
				io.Copy(io.Discard, r.Body) // else it is not seen that the client goes
				<-r.Context().Done()
				return
			}
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() {
		defer close(l.ended)
		l.server.Serve(listener)
	}()
	return l, nil
}

// Addr is where it listens, host:port.
func (l *Liar) Addr() string { return l.address }

// Tell has it lie from the next answer on.
func (l *Liar) Tell(lie Lie) { l.lie.Store(int32(lie)) }

// Close ends it and all connections.
func (l *Liar) Close() {
	l.server.Close()
	<-l.ended
}

// tell changes a stream of entries.
func tell(what Lie, r io.Reader) (io.Reader, error) {
	type item struct {
		frame entry.Frame
		body  []byte
	}
	var items []item
	in := entry.NewStreamReader(r)
	for {
		f, err := in.Next()
		if err != nil {
			return nil, err
		}
		if f.Kind == entry.End {
			break
		}
		i := item{frame: f}
		if f.Kind == entry.Entry {
			if i.body, err = io.ReadAll(in.Body()); err != nil {
				return nil, err
			}
		}
		items = append(items, i)
	}
	// What comes first in a prefetch, the plan and the filter, stays there.
	heads := 0
	for heads < len(items) && items[heads].frame.Kind == entry.Blob {
		heads++
	}
	rest := items[heads:]
	switch what {
	case WrongBody, Damaged:
		for i, it := range rest {
			if len(it.body) > 0 {
				it.body[len(it.body)/2] ^= 1
			}
			if what == WrongBody {
				rest[i].frame.Header.Sum = entry.Checksum(it.body)
			}
		}
	case Swapped:
		for i := len(rest) - 1; i > 0; i-- {
			h, from := &rest[i].frame.Header, rest[i-1].frame.Header
			if rest[i].frame.Kind == entry.Entry && rest[i-1].frame.Kind == entry.Entry {
				h.Size, h.Stored, h.Sum, h.Encoding, rest[i].body = from.Size, from.Stored, from.Sum, from.Encoding, rest[i-1].body
			}
		}
	case Doubled:
		items = append(items, rest...)
	case Reversed:
		for i, j := 0, len(rest)-1; i < j; i, j = i+1, j-1 {
			rest[i], rest[j] = rest[j], rest[i]
		}
	}
	var out bytes.Buffer
	w := entry.NewStreamWriter(&out)
	for _, it := range items {
		var err error
		switch it.frame.Kind {
		case entry.Entry:
			err = w.Entry(&it.frame.Header, bytes.NewReader(it.body))
		case entry.Blob:
			err = w.Blob(it.frame.Blob)
		default:
			err = w.Action(it.frame.Kind, it.frame.ActionID)
		}
		if err != nil {
			return nil, err
		}
	}
	return &out, w.End()
}
