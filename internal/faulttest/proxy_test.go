package faulttest_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/faulttest"
)

// startEcho starts a server that sends back what it gets, and a proxy before it.
func startEcho(t *testing.T) *faulttest.Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	p, err := faulttest.NewProxy(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// exchange sends data and returns what comes back, until the end.
func exchange(p *faulttest.Proxy, data []byte, limit time.Duration) ([]byte, error) {
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	go func() {
		c.Write(data)
		c.(*net.TCPConn).CloseWrite()
	}()
	return io.ReadAll(c)
}

const patience = 20 * time.Second

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestFaults(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	flipped := bytes.Clone(data)
	flipped[700_001] ^= 1
	p := startEcho(t)
	for _, tt := range []struct {
		name  string
		fault faulttest.Fault
		limit time.Duration
		want  []byte
		err   func(error) bool
	}{
		{"none", faulttest.Fault{}, patience, data, nil},
		{"drop", faulttest.Fault{Kind: faulttest.Drop}, patience, nil, nil},
		{"truncate", faulttest.Fault{Kind: faulttest.Truncate, After: 123_456}, patience, data[:123_456], nil},
		{"truncate at once", faulttest.Fault{Kind: faulttest.Truncate}, patience, nil, nil},
		{"flip", faulttest.Fault{Kind: faulttest.Flip, After: 700_001}, patience, flipped, nil},
		{"reset", faulttest.Fault{Kind: faulttest.Reset, After: 10}, patience, nil, func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
		{"hang", faulttest.Fault{Kind: faulttest.Hang}, 50 * time.Millisecond, nil, isTimeout},
		{"hang later", faulttest.Fault{Kind: faulttest.Hang, After: 123_456}, 500 * time.Millisecond, data[:123_456], isTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.SetFault(tt.fault)
			got, err := exchange(p, data, tt.limit)
			if tt.err != nil {
				if !tt.err(err) || tt.want != nil && !bytes.Equal(got, tt.want) {
					t.Errorf("error %v after %d bytes", err, len(got))
				}
				return
			}
			// A proxy that goes away while the client still sends may be seen as a reset.
			if err != nil && len(tt.want) == len(data) || !bytes.Equal(got, tt.want) && err == nil {
				t.Errorf("%d bytes, want %d; %v", len(got), len(tt.want), err)
			}
		})
	}
}

// Distance costs what it should: a round trip for the connection, one for the
// answer, and no bandwidth.
func TestRTT(t *testing.T) {
	p := startEcho(t)
	const rtt = 60 * time.Millisecond
	p.SetRTT(rtt)
	data := bytes.Repeat([]byte("x"), 20<<20)
	begin := time.Now()
	got, err := exchange(p, data, patience)
	took := time.Since(begin)
	if err != nil || len(got) != len(data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if took < 2*rtt {
		t.Errorf("took %v, less than two round trips", took)
	}
	if up, down := p.Bytes(); up != int64(len(data)) || down != up || p.Connections() != 1 {
		t.Errorf("%d bytes up, %d down, %d connections", up, down, p.Connections())
	}
}

func TestDrip(t *testing.T) {
	p := startEcho(t)
	p.SetFault(faulttest.Fault{Kind: faulttest.Drip, Rate: 10_000})
	begin := time.Now()
	if got, err := exchange(p, make([]byte, 2000), patience); err != nil || len(got) != 2000 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if took := time.Since(begin); took < 150*time.Millisecond {
		t.Errorf("2,000 bytes at 10,000 a second took %v", took)
	}
}

func TestDownAndUp(t *testing.T) {
	p := startEcho(t)
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.Down()
	if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
		t.Error("the connection lives on")
	}
	if _, err := exchange(p, nil, patience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while it is down: %v", err)
	}
	if err := p.Up(); err != nil {
		t.Fatal(err)
	}
	if got, err := exchange(p, []byte("again"), patience); err != nil || string(got) != "again" {
		t.Errorf("up again: %q, %v", got, err)
	}
}
