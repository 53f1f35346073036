package remote_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/faulttest"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/remote"
)

// impatience is short, but longer than a busy machine takes for nothing.
const impatience = time.Second

// behind is a client of a server behind a proxy, with short limits.
func behind(t *testing.T, handle http.HandlerFunc) (*remote.Client, *faulttest.Proxy) {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	p, err := faulttest.NewProxy(strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	c, err := remote.New(remote.Options{URL: "http://" + p.Addr(), Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	c.SetLimits(impatience, impatience, impatience)
	return c, p
}

// emptyStream answers a stream without frames when it has read the request, and a
// manifest that it has it.
func emptyStream(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	if strings.Contains(r.URL.Path, "/manifest/") {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	out := entry.NewStreamWriter(w)
	if strings.Contains(r.URL.Path, "/prefetch/") {
		out.Blob(manifest.Plan(nil).Append(nil))
		out.Blob(nil)
	}
	out.End()
}

// filterOf is a filter of about so many bytes.
func filterOf(size int) *manifest.Filter {
	return manifest.NewFilter(func(yield func(entry.ActionID) bool) {
		for i := range size / 3 {
			sum := sha256.Sum256([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
			if !yield(entry.ActionID(sum)) {
				return
			}
		}
	})
}

// What is sent over a slow uplink may take several times the limit: that is no
// silence, neither while it waits for the system to take it nor while it waits there.
func TestSlowUplink(t *testing.T) {
	const rate = 400_000 // bytes a second
	filter := filterOf(3 * rate)
	size := len(filter.Append(nil))
	if size < 2*rate {
		t.Fatalf("a filter of %d bytes takes no time", size)
	}
	incompressible := bytes.Repeat([]byte("0123456789abcdef"), 3*rate/16)
	for name, send := range map[string]func(*remote.Client) error{
		"a filter": func(c *remote.Client) error {
			p, err := c.Prefetch(context.Background(), [32]byte{1}, filter, "")
			if err == nil {
				p.Close()
			}
			return err
		},
		"gets": func(c *remote.Client) error {
			s, err := c.Get(context.Background(), make([]entry.ActionID, 3*rate/32))
			if err == nil {
				s.Close()
			}
			return err
		},
		"a manifest": func(c *remote.Client) error {
			return c.MergeManifest(context.Background(), [32]byte{1}, make([]entry.ActionID, 3*rate/32))
		},
		"an entry": func(c *remote.Client) error {
			h := entry.Header{Size: int64(len(incompressible)), Stored: int64(len(incompressible)), Sum: entry.Checksum(incompressible), OutputID: sha256.Sum256(incompressible)}
			_, _, err := c.Put(context.Background(), func(w *entry.StreamWriter) error { return w.Entry(&h, bytes.NewReader(incompressible)) })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p := behind(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/put") {
					io.Copy(io.Discard, r.Body)
					io.WriteString(w, `{"stored":1}`)
					return
				}
				emptyStream(w, r)
			})
			p.SetFault(faulttest.Fault{Kind: faulttest.Sip, Rate: rate})
			begin := time.Now()
			if err := send(c); err != nil {
				t.Errorf("after %v: %v", time.Since(begin), err)
			}
			if took := time.Since(begin); took < impatience+impatience/2 {
				t.Errorf("took %v: that was no slow uplink", took)
			}
		})
	}
}

// What comes over a slow line may take several times the limit, in one piece too.
func TestSlowDownlink(t *testing.T) {
	const rate = 200_000 // bytes a second
	body := bytes.Repeat([]byte("0123456789abcdef"), 3*rate/16)
	h := entry.Header{Size: int64(len(body)), Stored: int64(len(body)), Sum: entry.Checksum(body), OutputID: sha256.Sum256(body)}
	c, p := behind(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		out := entry.NewStreamWriter(w)
		out.Entry(&h, bytes.NewReader(body))
		out.End()
	})
	p.SetFault(faulttest.Fault{Kind: faulttest.Drip, Rate: rate})
	begin := time.Now()
	s, err := c.Get(context.Background(), []entry.ActionID{{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if f, err := s.Next(); err != nil || f.Kind != entry.Entry {
		t.Fatalf("%+v, %v", f, err)
	}
	if _, err := io.ReadFull(s.Body(), make([]byte, len(body))); err != nil {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	if took := time.Since(begin); took < impatience+impatience/2 {
		t.Errorf("took %v: that was no slow line", took)
	}
}

// A server that takes nothing of a request is silent, however large the request is
// and the system's buffers are.
func TestDeafServer(t *testing.T) {
	for name, size := range map[string]int{"small": 100, "in the system's buffers": 100_000, "larger than they are": 12 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, p := behind(t, emptyStream)
			p.SetFault(faulttest.Fault{Kind: faulttest.Sip})
			if err := c.MergeManifest(context.Background(), [32]byte{1}, make([]entry.ActionID, size/32+1)); !errors.Is(err, remote.ErrStalled) {
				t.Errorf("%d bytes: %v", size, err)
			}
		})
	}
}

// While this side has nothing to send, nobody else is silent.
func TestSlowWriter(t *testing.T) {
	c, _ := behind(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, `{"stored":0}`)
	})
	_, _, err := c.Put(context.Background(), func(w *entry.StreamWriter) error {
		time.Sleep(impatience + impatience/2) // a body that takes long to compress
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A server that answers before it has all, and closes the connection while the rest
// comes, has answered.
func TestAnswerInTheMiddle(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			io.ReadFull(conn, make([]byte, 10_000))
			io.WriteString(conn, "HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 6\r\n\r\n<html>")
			conn.Close() // with a reset, since there is more to read
		}
	}()
	c, err := remote.New(remote.Options{URL: "http://" + listener.Addr().String(), Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := make([]byte, 1<<20)
	for i := range 200 {
		_, _, err := c.Put(context.Background(), func(w *entry.StreamWriter) error {
			for range 8 {
				h := entry.Header{Size: int64(len(body)), Stored: int64(len(body)), Sum: entry.Checksum(body)}
				if err := w.Entry(&h, bytes.NewReader(body)); err != nil {
					return err
				}
			}
			return nil
		})
		if !remote.IsStatus(err, http.StatusRequestEntityTooLarge) {
			t.Fatalf("try %d: %v", i, err)
		}
	}
}
