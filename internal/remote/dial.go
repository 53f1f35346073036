package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// ConnectLimit is how long a connection to one address may take: three times the
	// round trip to the other side of the world.
	ConnectLimit = time.Second
	// nextAddress is how long after an address was tried the next one is, if nothing
	// is known of the first yet. RFC 8305 (section 5) recommends 250 ms and allows
	// 100. A build waits, and what it costs to be hasty is a connection too many,
	// once for each that is kept for a minute.
	nextAddress = 100 * time.Millisecond
	// addressesMax is how many addresses of a name are tried: the last one begins
	// while StartLimit still has room for it.
	addressesMax = 8
	// ResolveLimit is how long a build waits for a name's addresses. The asking goes on
	// for lookupLimit, which is what a system takes to give up a dead name server
	// (5 s, resolv.conf(5)) and ask the next two: the next connection has the answer.
	ResolveLimit = time.Second
	lookupLimit  = 15 * time.Second
	// addressesFresh is how long addresses are used without asking again: what a short
	// TTL is, so that a server that has moved is found, and a burst of connections
	// asks once.
	addressesFresh = 30 * time.Second
)

// A dialer makes connections by name. Of several addresses a dead one costs
// nextAddress once, since the one that has worked is tried first from then on, and a
// name server that does not answer ResolveLimit. It is safe for concurrent use, and
// must be closed.
type dialer struct {
	lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	dial   func(ctx context.Context, network, address string) (net.Conn, error)

	resolveLimit, connectLimit, nextAddress time.Duration

	ctx     context.Context // of lookups, which outlast who wants to know
	cancel  context.CancelFunc
	lookups sync.WaitGroup

	mu    sync.Mutex
	names map[string]*name
}

// A name is what is known of a host's name.
type name struct {
	addrs   []netip.Addr
	when    time.Time // they were known
	good    netip.Addr
	asking  chan struct{} // closed when the asking that is under way is over; nil: none is
	problem error         // of the last asking
}

func newDialer() *dialer {
	d := &dialer{
		lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		},
		dial:         (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext,
		resolveLimit: ResolveLimit, connectLimit: ConnectLimit, nextAddress: nextAddress,
		names: make(map[string]*name),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// close ends what is asked, and waits for it.
func (d *dialer) close() {
	d.mu.Lock() // no asking begins from now on
	d.cancel()
	d.mu.Unlock()
	d.lookups.Wait()
}

// connect is a Transport's DialContext.
func (d *dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return d.one(ctx, network, address)
	}
	addrs, err := d.resolve(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	c, good, err := d.race(ctx, network, addrs, port)
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.names[host]; err == nil {
		n.good = good
	} else if ctx.Err() == nil {
		n.when = time.Time{} // the server may have moved
	}
	return c, err
}

// one connects to one address.
func (d *dialer) one(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.connectLimit)
	defer cancel()
	c, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

// resolve returns a name's addresses in the order in which they are to be tried.
// Those of another time are better than none.
func (d *dialer) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	d.mu.Lock()
	n := d.names[host]
	if n == nil {
		n = new(name)
		d.names[host] = n // of which there are two: the server's, and its proxy's
	}
	if time.Since(n.when) < addressesFresh {
		defer d.mu.Unlock()
		return n.order(), nil
	}
	if n.asking == nil {
		d.ask(host, n)
	}
	asking := n.asking
	d.mu.Unlock()

	limit := time.NewTimer(d.resolveLimit)
	defer limit.Stop()
	var late error
	select {
	case <-asking:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-limit.C:
		late = fmt.Errorf("no name server answers within %v", d.resolveLimit)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case len(n.addrs) > 0:
		return n.order(), nil
	case late != nil:
		return nil, late
	}
	return nil, n.problem
}

// ask looks a name up. The caller holds mu, and has seen that nobody else asks.
func (d *dialer) ask(host string, n *name) {
	asking := make(chan struct{})
	n.asking = asking
	if n.problem = d.ctx.Err(); n.problem != nil {
		close(asking)
		return
	}
	d.lookups.Add(1)
	go func() { // close waits for it
		defer d.lookups.Done()
		ctx, cancel := context.WithTimeout(d.ctx, lookupLimit)
		defer cancel()
		addrs, err := d.lookup(ctx, host)
		if err == nil && len(addrs) == 0 {
			err = errors.New("it has no addresses")
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if err == nil {
			n.addrs, n.when = alternate(addrs), time.Now()
		}
		n.asking, n.problem = nil, err
		close(asking)
	}()
}

// alternate is addresses in the resolver's order, but with the two families taking
// turns, as a machine may have no way to one of them.
func alternate(addrs []netip.Addr) []netip.Addr {
	var first, second, turns []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		if len(first) == 0 || a.Is4() == first[0].Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	for i := range max(len(first), len(second)) {
		turns = append(turns, first[min(i, len(first)):min(i+1, len(first))]...)
		turns = append(turns, second[min(i, len(second)):min(i+1, len(second))]...)
	}
	return turns
}

// order is the addresses with the one that has worked last first.
func (n *name) order() []netip.Addr {
	addrs := slices.Clone(n.addrs)
	if i := slices.Index(addrs, n.good); i > 0 {
		addrs = slices.Insert(slices.Delete(addrs, i, i+1), 0, n.good)
	}
	return addrs[:min(len(addrs), addressesMax)]
}

// race tries addresses one after the other, each nextAddress after the one before, or
// as soon as that has failed. The first connection is it; the others are closed, and
// nothing goes on when it returns.
func (d *dialer) race(ctx context.Context, network string, addrs []netip.Addr, port string) (net.Conn, netip.Addr, error) {
	type result struct {
		conn net.Conn
		addr netip.Addr
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result)
	running := 0
	try := func() {
		addr := addrs[0]
		addrs = addrs[1:]
		running++
		go func() { // the loops below wait for it
			c, err := d.one(ctx, network, net.JoinHostPort(addr.String(), port))
			results <- result{c, addr, err}
		}()
	}
	var won result
	var problems []string
	var problem error
	try()
	next := time.NewTimer(d.nextAddress)
	defer next.Stop()
	for running > 0 && won.conn == nil {
		select {
		case r := <-results:
			running--
			if r.err == nil {
				won = r
				break
			}
			problem = r.err
			problems = append(problems, r.err.Error())
		case <-next.C:
		}
		if won.conn == nil && len(addrs) > 0 && ctx.Err() == nil {
			try()
			next.Reset(d.nextAddress)
		}
	}
	cancel()
	for ; running > 0; running-- {
		if r := <-results; r.conn != nil {
			r.conn.Close()
		}
	}
	switch {
	case won.conn != nil:
		return won.conn, won.addr, nil
	case len(problems) > 1:
		return nil, netip.Addr{}, &addressesError{text: strings.Join(problems, "; "), last: problem}
	}
	return nil, netip.Addr{}, problem
}

// An addressesError is why none of several addresses could be connected to.
type addressesError struct {
	text string
	last error
}

func (e *addressesError) Error() string { return e.text }

func (e *addressesError) Unwrap() error { return e.last }
