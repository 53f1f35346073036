package remote

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// SetLimits makes a client impatient: how long servers may be silent before and in
// their answers, to builds and else.
func (c *Client) SetLimits(start, stall, put time.Duration) {
	c.limits.start, c.limits.stall, c.limits.put = start, stall, put
}

// SetPatience says for how long servers that are busy may ask.
func (c *Client) SetPatience(forBuild, otherwise time.Duration) {
	c.limits.busyForBuild, c.limits.busyElse = forBuild, otherwise
}

// CheckFiles has certificates looked at before each request.
func (c *Client) CheckFiles() { c.transport.config.Check = 0 }

// A Dialer is what connections are made with.
type Dialer struct {
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
	d      *dialer
}

// Open makes it ready, with limits of its own.
func (d *Dialer) Open(resolve, connect, next time.Duration) {
	d.d = newDialer()
	d.d.lookup, d.d.dial = d.Lookup, d.Dial
	d.d.resolveLimit, d.d.connectLimit, d.d.nextAddress = resolve, connect, next
}

func (d *Dialer) Connect(ctx context.Context, address string) (net.Conn, error) {
	return d.d.connect(ctx, "tcp", address)
}

// SetNext changes when the next address is tried.
func (d *Dialer) SetNext(next time.Duration) { d.d.nextAddress = next }

// Forget has names looked up anew.
func (d *Dialer) Forget(host string) {
	d.d.mu.Lock()
	defer d.d.mu.Unlock()
	d.d.names[host].when = time.Time{}
}

func (d *Dialer) Close() { d.d.close() }

// UseDialer has a client connect with it.
func (c *Client) UseDialer(d *Dialer) {
	c.dialer.close()
	c.dialer = d.d
}
