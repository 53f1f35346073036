package remote_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/remote"
)

// A phone is an injected net.Dialer: some addresses answer, some refuse, and the
// others say nothing until whoever waits gives up.
type phone struct {
	mu     sync.Mutex
	dialed []string
	open   atomic.Int64 // connections that are not closed, and attempts under way
}

var errRefused = errors.New("refused")

func (p *phone) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	p.mu.Lock()
	p.dialed = append(p.dialed, host)
	p.mu.Unlock()
	switch host {
	case "127.0.0.1", "127.0.0.2", "::1":
		one, other := net.Pipe()
		p.open.Add(1)
		return closing{one, func() { other.Close(); p.open.Add(-1) }}, nil
	case "127.0.0.9", "::9":
		return nil, errRefused
	}
	p.open.Add(1)
	defer p.open.Add(-1)
	<-ctx.Done()
	return nil, ctx.Err()
}

func (p *phone) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	dialed := p.dialed
	p.dialed = nil
	return dialed
}

type closing struct {
	net.Conn
	then func()
}

func (c closing) Close() error {
	c.then()
	return c.Conn.Close()
}

func addresses(texts ...string) (addrs []netip.Addr) {
	for _, text := range texts {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs
}

// dialer returns what connects over a phone to the names of a book.
func dialer(t *testing.T, p *phone, resolve, connect, next time.Duration, lookup func(context.Context, string) ([]netip.Addr, error)) *remote.Dialer {
	d := &remote.Dialer{Lookup: lookup, Dial: p.dial}
	d.Open(resolve, connect, next)
	t.Cleanup(func() {
		d.Close()
		if n := p.open.Load(); n != 0 {
			t.Errorf("%d connections or attempts are left", n)
		}
	})
	return d
}

const (
	never = time.Hour
	soon  = time.Millisecond
)

// Addresses are tried in turn, the next one when the one before has failed or says
// nothing, and the one that has worked is the first next time.
func TestAddresses(t *testing.T) {
	book := map[string][]netip.Addr{
		"dead-first": addresses("127.0.0.3", "127.0.0.4", "127.0.0.1"),
		"refused":    addresses("127.0.0.9", "127.0.0.1"),
		"both":       addresses("::9", "::3", "127.0.0.2"),
		"one":        addresses("127.0.0.9"),
		"none":       addresses("127.0.0.9", "127.0.0.3"),
		"nothing":    nil,
	}
	for _, tt := range []struct {
		name  string
		next  time.Duration
		first []string
		again []string
	}{
		{"dead-first", soon, []string{"127.0.0.3", "127.0.0.4", "127.0.0.1"}, []string{"127.0.0.1"}},
		{"refused", never, []string{"127.0.0.9", "127.0.0.1"}, []string{"127.0.0.1"}},
		{"both", never, []string{"::9", "127.0.0.2"}, []string{"127.0.0.2"}},
	} {
		p := new(phone)
		d := dialer(t, p, never, never, tt.next, func(_ context.Context, host string) ([]netip.Addr, error) { return book[host], nil })
		for _, want := range [][]string{tt.first, tt.again} {
			c, err := d.Connect(context.Background(), tt.name+":7070")
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			c.Close()
			got := p.take()
			slices.Sort(got) // a busy machine may begin them in another order
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s: tried %q, not %q", tt.name, got, want)
			}
			d.SetNext(never)
		}
	}
	p := new(phone)
	d := dialer(t, p, never, 10*time.Millisecond, soon, func(_ context.Context, host string) ([]netip.Addr, error) { return book[host], nil })
	if _, err := d.Connect(context.Background(), "one:7070"); !errors.Is(err, errRefused) {
		t.Errorf("one that refuses: %v", err)
	}
	if _, err := d.Connect(context.Background(), "none:7070"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("none that answers: %v", err)
	}
	if _, err := d.Connect(context.Background(), "nothing:7070"); err == nil {
		t.Error("connected to a name without addresses")
	}
	if _, err := d.Connect(context.Background(), "127.0.0.3:7070"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a dead address: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := d.Connect(ctx, "dead-first:7070"); err == nil {
		t.Error("connected for nobody")
	}
}

// A name server that does not answer is waited for once; its answer is for the next
// connection, and what it said before is good enough.
func TestDeadNameServer(t *testing.T) {
	p := new(phone)
	answer := make(chan []netip.Addr)
	asked := make(chan string, 10)
	d := dialer(t, p, 20*time.Millisecond, never, never, func(ctx context.Context, host string) ([]netip.Addr, error) {
		asked <- host
		select {
		case addrs := <-answer:
			return addrs, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	connect := func() error {
		c, err := d.Connect(context.Background(), "larder.example.com:7070")
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := connect(); err == nil || !strings.Contains(err.Error(), "look up larder.example.com: no name server answers within 20ms") {
		t.Errorf("a dead name server: %v", err)
	}
	<-asked
	answer <- addresses("127.0.0.1")
	for connect() != nil { // the answer is noted in a moment
	}
	if len(asked) != 0 {
		t.Error("asked again for what is known")
	}
	d.Forget("larder.example.com")
	if err := connect(); err != nil {
		t.Errorf("with an old answer: %v", err)
	}
	if <-asked; len(asked) != 0 {
		t.Error("asked twice at once")
	}
}

// Requests go through the dialer.
func TestRequestByName(t *testing.T) {
	var host string
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host = r.Host
		out := entry.NewStreamWriter(w)
		out.End()
	})}
	defer s.Close()
	go s.Serve(listener)
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	c, err := remote.New(remote.Options{URL: "http://larder.example.com:" + port, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	d := &remote.Dialer{
		Lookup: func(context.Context, string) ([]netip.Addr, error) { return addresses("127.0.0.3", "127.0.0.1"), nil },
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasPrefix(address, "127.0.0.3:") { // dead, and no more than that address
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	d.Open(time.Minute, time.Minute, soon)
	c.UseDialer(d)
	if err := c.Probe(context.Background()); err != nil || host != "larder.example.com:"+port {
		t.Errorf("%v, host %q", err, host)
	}
}
