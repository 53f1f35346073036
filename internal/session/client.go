package session

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/stats"
)

// A Client is a helper's connection to the agent. Its methods are safe for
// concurrent use.
type Client struct {
	conn    conn
	Welcome Welcome
	texts   func(string) // told of lines for the user, on the reading goroutine

	there  atomic.Pointer[manifest.Filter] // what may be to be had; nil: anything
	lacked atomic.Int64                    // gets that there has answered

	mu      sync.Mutex
	waiting map[entry.ActionID][]chan bool
	reports chan Report
	err     error // why the connection is over
	ended   chan struct{}
}

// Connect connects to the user's agent, which it starts if there is none (a nil
// starter is a wish not to), and replaces if it speaks an older protocol. texts
// is told of lines for the user. Errors wrap ErrNoAgent; one that took long makes the
// place Silent.
func Connect(ctx context.Context, place Place, starter *Starter, hello Hello, texts func(string)) (*Client, error) {
	begin := time.Now()
	c, err := connect(ctx, place, starter, hello, texts)
	if err != nil && time.Since(begin) > inVain {
		place.noteSilent()
	}
	return c, err
}

// inVain is how long it must have taken to find no agent for others to be spared it.
const inVain = time.Second

func connect(ctx context.Context, place Place, starter *Starter, hello Hello, texts func(string)) (*Client, error) {
	hello.Protocol, hello.World = Protocol, place.World
	for replaced := false; ; replaced = true {
		conn, err := place.dial()
		if err != nil && starter != nil && !errors.Is(err, errNotPrivate) {
			conn, err = starter.start(ctx)
		}
		if errors.Is(err, ErrNoAgent) {
			return nil, err
		} else if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoAgent, err)
		}
		c, err := greet(conn, hello, texts)
		if err != nil {
			conn.Close()
			return nil, err
		}
		if starter != nil && !replaced && c.Welcome.Protocol < Protocol {
			c.leave()
			continue
		}
		if c.Welcome.Protocol != Protocol {
			c.Close()
			return nil, fmt.Errorf("%w: larderd %s speaks protocol %d and larder %s protocol %d: install both from one version",
				ErrNoAgent, c.Welcome.Version, c.Welcome.Protocol, hello.Version, Protocol)
		}
		if c.Welcome.World != hello.World {
			c.Close()
			return nil, fmt.Errorf("%w: the one that answers was started in other surroundings (its network, proxy, certificates or limits)", ErrNoAgent)
		}
		return c, nil
	}
}

// dial connects to the place's agent, wherever that is.
func (p Place) dial() (c conn, err error) {
	err = errors.New("its directories have longer names than sockets may have")
	for _, r := range p.Runs() {
		if c, err = dial(r.Socket()); err != nil {
			continue
		}
		if err = checkPrivate(r.dir); err == nil {
			return c, nil
		}
		c.Close()
		return nil, err
	}
	return nil, err
}

// greet exchanges greetings and starts reading.
func greet(conn conn, hello Hello, texts func(string)) (*Client, error) {
	c := &Client{
		conn: conn, texts: texts,
		waiting: make(map[entry.ActionID][]chan bool),
		reports: make(chan Report, 1),
		ended:   make(chan struct{}),
	}
	limit := time.Now().Add(Silence)
	conn.SetWriteDeadline(limit)
	conn.SetReadDeadline(limit)
	r := bufio.NewReader(conn)
	_, err := conn.Write(AppendGreeting(nil, hello))
	if err == nil {
		err = ReadGreeting(r, &c.Welcome)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: greet it: %w", ErrNoAgent, err)
	}
	go c.read(r)
	return c, nil
}

// leave tells the agent to make room for another one, and waits until it has:
// it closes its socket first, and then this connection.
func (c *Client) leave() {
	c.send(Frame{Kind: Leave})
	select {
	case <-c.ended:
	case <-time.After(Silence):
	}
	c.Close()
}

// send writes a frame.
func (c *Client) send(f Frame) error {
	var space [64]byte
	b := f.Append(space[:0])
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.conn.SetWriteDeadline(time.Now().Add(Silence))
	_, err := c.conn.Write(b)
	return err
}

// Get asks the agent for an action and reports whether it is in the store now.
// All that goes wrong is false.
func (c *Client) Get(ctx context.Context, id entry.ActionID) bool {
	if f := c.there.Load(); f != nil && !f.Has(id) {
		c.lacked.Add(1)
		return false
	}
	answer := make(chan bool, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return false
	}
	first := len(c.waiting[id]) == 0
	c.waiting[id] = append(c.waiting[id], answer)
	c.mu.Unlock()
	if first {
		if err := c.send(Frame{Kind: Get, Action: id}); err != nil {
			c.fail(err)
		}
	}
	select {
	case have := <-answer:
		return have
	case <-ctx.Done():
		return false
	}
}

// read hands out what the agent says.
func (c *Client) read(r *bufio.Reader) {
	defer close(c.ended)
	for {
		f, err := ReadFrame(r)
		if err != nil {
			c.fail(err)
			return
		}
		c.conn.SetReadDeadline(time.Now().Add(Silence))
		switch f.Kind {
		case Have, Lack:
			c.mu.Lock()
			waiting := c.waiting[f.Action]
			delete(c.waiting, f.Action)
			c.mu.Unlock()
			for _, answer := range waiting {
				answer <- f.Kind == Have
			}
		case Filter:
			if there, err := manifest.ParseFilter(f.Text); err == nil {
				c.there.Store(there)
			}
		case Text:
			if c.texts != nil {
				c.texts(printable(string(f.Text)))
			}
		case Results:
			var report Report
			if json.Unmarshal(f.Text, &report) == nil {
				select {
				case <-c.reports: // the newest counts
				default:
				}
				c.reports <- report
			}
		}
	}
}

// printable is text without what could drive a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

var errClosed = errors.New("closed")

// fail ends the connection: whoever waits gets no.
func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		c.conn.Close()
	}
	for id, waiting := range c.waiting {
		for _, answer := range waiting {
			answer <- false
		}
		delete(c.waiting, id)
	}
}

// Err is why the connection is over, nil if it is not.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection.
func (c *Client) Close() {
	c.fail(errClosed)
	<-c.ended
}

// End ends the session and returns the agent's report, if it gives one within
// limit. used are the keys of actions that were in the store when they were asked
// for. The connection is still to be closed.
func (c *Client) End(limit time.Duration, used ...stats.Key) (Report, bool) {
	for ; len(used) > 0; used = used[min(len(used), usedMax):] {
		var keys []byte
		for _, key := range used[:min(len(used), usedMax)] {
			keys = binary.LittleEndian.AppendUint64(keys, uint64(key))
		}
		if c.send(Frame{Kind: Used, Text: keys}) != nil {
			return Report{}, false
		}
	}
	if c.send(Frame{Kind: End}) != nil {
		return Report{}, false
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case report := <-c.reports:
		report.Filtered += c.lacked.Load()
		return report, true
	case <-c.ended:
	case <-timer.C:
	}
	return Report{}, false
}

// usedMax is how many keys go into one Used frame.
const usedMax = textBytesMax / 8

// flushPatience is how long Flush bears a problem that does not pass.
const flushPatience = 5 * time.Second

// Flush waits until the agent has nothing left to upload, and passes each report
// of it to progress. It ends early, with the last report, if uploads do not get
// on for a while (Report.Problem) or ctx is done.
func (c *Client) Flush(ctx context.Context, progress func(Report)) (Report, error) {
	var last Report
	if err := c.send(Frame{Kind: Flush}); err != nil {
		return last, err
	}
	var stuck time.Time // since when; zero: it is not
	for {
		select {
		case last = <-c.reports:
			progress(last)
			switch {
			case last.Queued == 0:
				return last, nil
			case last.Problem == "":
				stuck = time.Time{}
			case stuck.IsZero():
				stuck = time.Now()
			case time.Since(stuck) > flushPatience:
				return last, nil
			}
		case <-c.ended:
			return last, c.Err()
		case <-ctx.Done():
			return last, context.Cause(ctx)
		}
	}
}

// Pull waits until what is prefetched has come, for a connection whose Hello says
// so, and passes each report of it to progress. It returns the last one; the error
// is ctx's, or why the connection is over.
func (c *Client) Pull(ctx context.Context, progress func(Report)) (Report, error) {
	var last Report
	for {
		select {
		case last = <-c.reports:
			progress(last)
			if !last.Pending {
				return last, nil
			}
		case <-c.ended:
			return last, c.Err()
		case <-ctx.Done():
			return last, context.Cause(ctx)
		}
	}
}

// Stop tells the agent to leave, and waits until it has closed its socket.
func (c *Client) Stop() { c.leave() }
