package agent

import (
	"sync"
	"time"
)

// A room is what is known of how large a request may be. The server takes all that the
// agent sends, but what stands between may not: nginx refuses bodies of over 1 MiB (413)
// unless it is told otherwise. It is learned by trying, for all kinds of requests to a
// remote at once.
type room struct {
	mu      sync.Mutex
	target  int64     // how large bodies are made, in bytes; 0: as large as is useful
	refused int64     // the smallest that was refused for its size; 0: none was
	at      time.Time // when one last was
}

// roomAge is for how long a limit is believed in: somebody may have raised it. To find
// it again costs a few requests that are refused, early for the most part.
const roomAge = time.Hour

// size is how large a body of up to most bytes is to be.
func (r *room) size(most int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	if r.target > 0 {
		return min(most, r.target)
	}
	return most
}

// fits reports whether it is worth trying to send so much in one piece.
func (r *room) fits(bytes int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	return r.refused == 0 || bytes < r.refused
}

func (r *room) forget() {
	if !r.at.IsZero() && time.Since(r.at) > roomAge {
		r.target, r.refused, r.at = 0, 0, time.Time{}
	}
}

// tooLarge notes that a body was refused for its size when so much of it had been sent.
func (r *room) tooLarge(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused == 0 || bytes < r.refused {
		r.refused = bytes
	}
	r.shrink(bytes)
}

// broke notes that a request failed when so much had been sent, which may have been too
// much: not everything that stands between says so before it cuts the connection.
func (r *room) broke(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shrink(bytes)
}

func (r *room) shrink(bytes int64) {
	r.at = time.Now()
	if half := max(bytes/2, 1); r.target == 0 || half < r.target {
		r.target = half
	}
}

// passed notes that a body was taken. As long as all are, they grow.
func (r *room) passed(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target > 0 && bytes >= r.target/2 && (r.refused == 0 || 2*r.target < r.refused) {
		r.target *= 2
	}
}
