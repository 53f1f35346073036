//go:build unix

package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-build/larder/internal/entry"
)

// A server is a team server in a process of its own, which can be started again
// at the same address.
type server struct {
	larderd, dir string
	address      string

	mu  sync.Mutex
	cmd *exec.Cmd
}

func startServer(ctx context.Context, larderd, dir string) (*server, error) {
	s := &server{larderd: larderd, dir: dir, address: "127.0.0.1:0"}
	return s, s.start(ctx)
}

func (s *server) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrFile := s.dir + ".addr"
	if err := os.Remove(addrFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	log, err := os.OpenFile(s.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.larderd, "serve", "-listen", s.address, "-dir", s.dir, "-addr-file", addrFile)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	s.cmd = cmd
	const limit, poll = 30 * time.Second, 10 * time.Millisecond
	for begin := time.Now(); ; time.Sleep(poll) {
		if text, err := os.ReadFile(addrFile); err == nil {
			s.address = strings.TrimSpace(string(text))
			return nil
		}
		if time.Since(begin) > limit || ctx.Err() != nil {
			cmd.Process.Kill()
			cmd.Wait()
			return fmt.Errorf("start the server: it does not listen after %v; see %s.log", limit, s.dir)
		}
	}
}

// stop ends the server as a service manager does.
func (s *server) stop() error { return s.end(os.Interrupt) }

// kill ends it as nobody should.
func (s *server) kill() error { return s.end(os.Kill) }

func (s *server) end(signal os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil
	}
	err := s.cmd.Process.Signal(signal)
	waited := s.cmd.Wait()
	s.cmd = nil
	if signal == os.Kill {
		return err
	}
	return errors.Join(err, waited)
}

// A lie is what a server may do that no network does.
type lie int

const (
	honest    lie = iota
	wrongBody     // other bytes, with a checksum that is right for them
	swapped       // each entry has the body of the one before it
	doubled       // each entry comes twice
	reversed      // entries come in the opposite order
	statuses      // every other request is answered 500, 503, 429, 507 or 404
	nonsense      // answers are text
)

// A liar stands before a server and changes what it answers.
type liar struct {
	address  string
	server   *http.Server
	ended    chan struct{}
	lie      atomic.Int32
	requests atomic.Int64
}

func newLiar(target string) (*liar, error) {
	l := &liar{ended: make(chan struct{})}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target})
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Header.Get("Content-Type") != "application/vnd.larder.stream" {
			return nil
		}
		changed, err := tell(lie(l.lie.Load()), r.Body)
		r.Body = io.NopCloser(changed)
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.address = listener.Addr().String()
	l.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := l.requests.Add(1)
		switch lie(l.lie.Load()) {
		case statuses:
			if n%2 == 0 {
				w.WriteHeader([]int{500, 503, 429, 507, 404}[n/2%5])
				return
			}
		case nonsense:
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, "<html>It works!</html>")
			return
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() {
		defer close(l.ended)
		l.server.Serve(listener)
	}()
	return l, nil
}

func (l *liar) close() {
	l.server.Close()
	<-l.ended
}

// tell changes a stream of entries.
func tell(what lie, r io.Reader) (io.Reader, error) {
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
	case wrongBody:
		for i, it := range rest {
			if len(it.body) > 0 {
				it.body[len(it.body)/2] ^= 1
				rest[i].frame.Header.Sum = entry.Checksum(it.body)
			}
		}
	case swapped:
		for i := len(rest) - 1; i > 0; i-- {
			h, from := &rest[i].frame.Header, rest[i-1].frame.Header
			if rest[i].frame.Kind == entry.Entry && rest[i-1].frame.Kind == entry.Entry {
				h.Size, h.Stored, h.Sum, h.Encoding, rest[i].body = from.Size, from.Stored, from.Sum, from.Encoding, rest[i-1].body
			}
		}
	case doubled:
		items = append(items, rest...)
	case reversed:
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
