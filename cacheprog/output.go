package cacheprog

import (
	"io"
	"sync"
)

// outputBytesMax bounds what waits to be written while more input is handled; some 25 answers. It is there for latency only, for
// a burst of more requests than the go command sends.
const outputBytesMax = 4 << 10

// An output gathers answers into few writes. What one goroutine adds while another writes goes out with that one's next write.
type output struct {
	w io.Writer

	mu      sync.Mutex
	buf     []byte // not yet written
	spare   []byte // the buffer that is being written, or was
	writing bool   // some goroutine is in Write, and will write buf too
	err     error  // of w; nothing more is written
}

// add adds an answer, to be written when the caller is about to wait.
func (o *output) add(a *answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = appendAnswer(o.buf, a)
	if len(o.buf) >= outputBytesMax {
		o.flushLocked()
	}
}

// write adds an answer and writes it.
func (o *output) write(a *answer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = appendAnswer(o.buf, a)
	o.flushLocked()
}

// writeLine writes a line that is no answer.
func (o *output) writeLine(line []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = append(o.buf, line...)
	o.flushLocked()
}

// flush writes what has been added, unless some other goroutine is about to.
func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.flushLocked()
}

// flushLocked is flush for who holds mu, which it gives up while it writes.
func (o *output) flushLocked() {
	if o.writing {
		return
	}
	for len(o.buf) > 0 && o.err == nil {
		b := o.buf
		o.buf, o.spare = o.spare[:0], b
		o.writing = true
		o.mu.Unlock()
		_, err := o.w.Write(b)
		o.mu.Lock()
		o.writing = false
		o.err = err
	}
	if o.err != nil {
		o.buf = o.buf[:0]
	}
}

// failure returns the error of w, if there was one.
func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
