package remote

import (
	"io"
	"sync"
	"time"
)

// looks is how often within its limit a watch looks whether anything has moved, so
// that a silent server is given up an eighth later than the limit says, at most.
const looks = 8

// A watch ends a request whose server is silent: for its limit no byte has left for
// it, and none has come. As long as the request gets on it may take its time, as a
// filter of some MB does on a slow uplink; and while this side has nothing to send,
// it is not the server that is waited for. Bytes in the system's buffer have not left:
// without that, a few MB would seem to be sent at once, and the server slow to answer.
type watch struct {
	limit time.Duration
	stall func(error) // ends the request

	mu    sync.Mutex
	timer *time.Timer
	since time.Time // when something has moved last, as far as was seen
	conn  *conn     // nil: there is none yet
	left  int64     // bytes, as of since
	ours  bool      // this side is to say more
	over  bool
}

// newWatch begins to watch a request. It must be ended.
func newWatch(limit time.Duration, stall func(error)) *watch {
	w := &watch{limit: limit, stall: stall, since: time.Now()}
	w.mu.Lock() // look may come before the timer is known
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(limit/looks, w.look)
	return w
}

// connected tells the connection that the request is made on.
func (w *watch) connected(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.conn = time.Now(), c
	if c != nil {
		c.begin()
		w.left = c.left()
	}
}

func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	if w.ours {
		w.since = time.Now()
	}
	if w.conn != nil {
		if left := w.conn.left(); left != w.left {
			w.since, w.left = time.Now(), left
		}
	}
	silent := time.Since(w.since)
	if silent >= w.limit {
		w.over = true
		w.stall(errStalled(w.limit))
		return
	}
	w.timer.Reset(min(w.limit-silent, w.limit/looks))
}

// end ends the watching. Whatever becomes of the request is not its matter any more.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}

// A watchedBody is a request's body that tells the watch when this side is to say more.
type watchedBody struct {
	io.ReadCloser
	watch *watch
}

func (b watchedBody) Read(p []byte) (int, error) {
	b.watch.mine(true)
	defer b.watch.mine(false)
	return b.ReadCloser.Read(p)
}

func (w *watch) mine(ours bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ours, w.since = ours, time.Now()
}
