// Package faulttest makes networks fail and servers lie, for tests and benchmarks.
//
// A Proxy stands before a TCP server and can be far away, hang, cut off, damage
// what passes or not be there, and be changed from one to another while
// connections are open. A Liar stands before a team server and does what no network
// does: it answers well-formed streams that are wrong. And the real nginx can be started
// before one, as people have it.
package faulttest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A Kind is what goes wrong on a connection.
type Kind int

const (
	None     Kind = iota
	Hang          // what the client sends is taken, and nothing answered after After bytes
	Drop          // connections are closed as soon as they are made
	Reset         // the connection is reset after After bytes of the answer
	Truncate      // the connection is closed after After bytes of the answer
	Flip          // a bit of byte After of the answer is flipped
	Drip          // the answer comes at Rate bytes a second
	Sip           // what the client sends is taken at Rate bytes a second, 0 is not at all
)

// A Fault is a Kind with its numbers.
type Fault struct {
	Kind  Kind
	After int64
	Rate  int64
}

const (
	// chunkBytes is what is read at a time, and chunksMax how many of those may be
	// on their way in one direction: more than any real network would hold.
	chunkBytes = 64 << 10
	chunksMax  = 1024
	// dripInterval is the time between two pieces of a drip.
	dripInterval = 20 * time.Millisecond
	// sipBuffer is the system's buffer for what a sipper has not read: the rest stays
	// with the client.
	sipBuffer = 64 << 10
)

// A Proxy passes TCP connections on to a target.
type Proxy struct {
	target  string
	address string
	rtt     atomic.Int64
	fault   atomic.Pointer[Fault]
	count   atomic.Int64
	up      atomic.Int64
	down    atomic.Int64

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	hung     chan struct{} // closed by Down
	closed   bool
	work     sync.WaitGroup
}

// NewProxy returns a proxy that listens on a port of its own on loopback.
func NewProxy(target string) (*Proxy, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, address: address, conns: make(map[net.Conn]bool)}
	p.fault.Store(new(Fault))
	if err := p.Up(); err != nil {
		return nil, err
	}
	return p, nil
}

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.address }

// SetRTT makes every byte come half of d later in each direction, and making a
// connection take d.
func (p *Proxy) SetRTT(d time.Duration) { p.rtt.Store(int64(d)) }

// SetFault changes what goes wrong, for what passes from now on.
func (p *Proxy) SetFault(f Fault) { p.fault.Store(&f) }

// Connections is how many have been made.
func (p *Proxy) Connections() int { return int(p.count.Load()) }

// Bytes are those that have passed to the target and from it.
func (p *Proxy) Bytes() (up, down int64) { return p.up.Load(), p.down.Load() }

// Down closes the listener and all connections: nobody is there.
func (p *Proxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
		close(p.hung)
	}
	for c := range p.conns {
		c.Close()
	}
}

// Up listens again, at the same address.
func (p *Proxy) Up() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.listener != nil {
		return errors.New("proxy is up or closed")
	}
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", p.target, err)
	}
	p.listener, p.address, p.hung = l, l.Addr().String(), make(chan struct{})
	p.work.Add(1)
	go func() {
		defer p.work.Done()
		p.accept(l)
	}()
	return nil
}

// Close ends the proxy and waits for all that it does.
func (p *Proxy) Close() {
	p.Down()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.work.Wait()
}

func (p *Proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		p.count.Add(1)
		if !p.add(client) {
			continue
		}
		p.work.Add(1)
		go func() {
			defer p.work.Done()
			defer p.remove(client)
			p.serve(client)
		}()
	}
}

// add notes a connection that Down is to close; false if it is too late.
func (p *Proxy) add(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *Proxy) remove(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) serve(client net.Conn) {
	p.mu.Lock()
	hung := p.hung
	p.mu.Unlock()
	switch f := p.fault.Load(); {
	case f.Kind == Drop:
		return
	case f.Kind == Hang && f.After == 0:
		io.Copy(io.Discard, client)
		<-hung
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	if !p.add(server) {
		return
	}
	defer p.remove(server)
	var both sync.WaitGroup
	both.Add(1)
	if p.fault.Load().Kind == Sip {
		client.(*net.TCPConn).SetReadBuffer(sipBuffer)
	}
	go func() {
		defer both.Done()
		// The connection's own round trip comes before the first byte.
		p.pump(server, &sipper{client, p, hung}, &p.up, time.Duration(p.rtt.Load()), false)
		server.(*net.TCPConn).CloseWrite()
	}()
	p.pump(client, server, &p.down, 0, true)
	if p.fault.Load().Kind == Hang {
		<-hung // not even an end is seen
	}
	client.Close()
	both.Wait()
}

// A chunk is on its way until it is due.
type chunk struct {
	data []byte
	due  time.Time
}

// pump copies from src to dst, each byte half a round trip late, and the first
// ones first later than that. Of an answer it does what the fault says.
func (p *Proxy) pump(dst, src net.Conn, count *atomic.Int64, first time.Duration, answer bool) {
	way := make(chan chunk, chunksMax)
	var reading sync.WaitGroup
	reading.Add(1)
	go func() {
		defer reading.Done()
		defer close(way)
		start := time.Now().Add(first)
		for {
			// Fresh for each chunk: it is read while others are on their way.
			b := make([]byte, chunkBytes)
			n, err := src.Read(b)
			if n > 0 {
				due := time.Now()
				if due.Before(start) {
					due = start
				}
				way <- chunk{b[:n], due.Add(time.Duration(p.rtt.Load()) / 2)}
			}
			if err != nil {
				return
			}
		}
	}()
	var passed int64
	for c := range way {
		if wait := time.Until(c.due); wait > 0 {
			time.Sleep(wait)
		}
		if !p.write(dst, c.data, passed, answer) {
			src.Close() // ends the reading
			break
		}
		passed += int64(len(c.data))
		count.Add(int64(len(c.data)))
	}
	for range way { // what nobody is to have any more
	}
	reading.Wait()
}

// write writes a piece of which passed bytes came before, and reports whether
// there is more to come.
func (p *Proxy) write(dst net.Conn, b []byte, passed int64, answer bool) bool {
	f := p.fault.Load()
	if answer {
		at := f.After - passed
		within := at >= 0 && at < int64(len(b))
		switch {
		case f.Kind == Hang:
			b = b[:min(max(at, 0), int64(len(b)))]
		case f.Kind == Drop, f.Kind == Reset && at < 0:
			return false
		case f.Kind == Flip && within:
			b[at] ^= 1
		case (f.Kind == Reset || f.Kind == Truncate) && at < int64(len(b)):
			dst.Write(b[:max(at, 0)])
			if f.Kind == Reset {
				dst.(*net.TCPConn).SetLinger(0)
			}
			dst.Close()
			return false
		case f.Kind == Drip:
			return drip(dst, b, f.Rate)
		}
	}
	_, err := dst.Write(b)
	return err == nil
}

// A sipper is a client's connection, which is read slowly if that is the fault.
type sipper struct {
	net.Conn
	proxy *Proxy
	hung  chan struct{}
}

func (s *sipper) Read(b []byte) (int, error) {
	for {
		switch f := s.proxy.fault.Load(); {
		case f.Kind != Sip:
			return s.Conn.Read(b)
		case f.Rate > 0:
			n, err := s.Conn.Read(b[:min(len(b), piece(f.Rate))])
			time.Sleep(dripInterval)
			return n, err
		}
		select {
		case <-s.hung:
			return 0, net.ErrClosed
		case <-time.After(dripInterval):
		}
	}
}

// piece is how many bytes of a rate pass in a dripInterval.
func piece(rate int64) int { return max(int(rate*int64(dripInterval)/int64(time.Second)), 1) }

func drip(dst net.Conn, b []byte, rate int64) bool {
	piece := piece(rate)
	for len(b) > 0 {
		n := min(piece, len(b))
		if _, err := dst.Write(b[:n]); err != nil {
			return false
		}
		b = b[n:]
		time.Sleep(dripInterval)
	}
	return true
}
