package remote

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// queueGuess and slowestGuess stand for what only some systems tell: how much of
	// what was written is still on this machine. A queue is thought to hold the last
	// 512 KiB, which is what a system's buffer for a connection is, about, and to
	// drain at 128 KB/s, the uplink of a slow DSL line: a silent server is noticed 4 s
	// later at most, and only after a large request.
	queueGuess   = 512 << 10
	slowestGuess = 128_000 // bytes a second

	// answerGrace is how long a connection that takes no more may take to tell what
	// the server has answered: that was sent before the connection was closed.
	answerGrace = time.Second
)

// A conn is a connection that knows how much of what was written to it has left the
// machine. And it gives a server's answer precedence over the failure to write what
// the server did not want any more.
type conn struct {
	net.Conn
	raw  syscall.RawConn // nil: it is no socket of the system's
	over chan struct{}   // closed when nothing more is read
	end  sync.Once

	mu      sync.Mutex
	begun   bool // requests are made on it, so somebody reads
	written int64
	request int64     // of written, what belongs to the present request
	wrote   time.Time // the last of it
}

func newConn(c net.Conn) *conn {
	n := &conn{Conn: c, over: make(chan struct{})}
	if s, ok := c.(syscall.Conn); ok {
		n.raw, _ = s.SyscallConn()
	}
	return n
}

// connOf is the conn below TLS, nil if there is none.
func connOf(c net.Conn) *conn {
	for {
		switch t := c.(type) {
		case *conn:
			return t
		case *tls.Conn:
			c = t.NetConn()
		default:
			return nil
		}
	}
}

// begin notes that a request begins.
func (c *conn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun, c.request = true, 0
}

// left is how many bytes have left the machine.
func (c *conn) left() int64 {
	c.mu.Lock()
	written, request, wrote := c.written, c.request, c.wrote
	c.mu.Unlock()
	if c.raw != nil {
		if n, ok := queued(c.raw); ok {
			return written - n
		}
	}
	drained := int64(time.Since(wrote).Seconds() * slowestGuess)
	return written - max(0, min(request, queueGuess)-drained)
}

// Write writes. When the server has closed the connection in the middle of a request,
// the error waits until what it had answered was read: package net/http takes
// whichever it sees first, and "413" says more than "broken pipe".
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	c.written += int64(n)
	c.request += int64(n)
	c.wrote = time.Now()
	begun := c.begun
	c.mu.Unlock()
	if err != nil && begun && !errors.Is(err, net.ErrClosed) {
		grace := time.NewTimer(answerGrace)
		defer grace.Stop()
		select {
		case <-c.over:
		case <-grace.C:
		}
	}
	return n, err
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.end.Do(func() { close(c.over) })
	}
	return n, err
}

func (c *conn) Close() error {
	c.end.Do(func() { close(c.over) })
	return c.Conn.Close()
}
