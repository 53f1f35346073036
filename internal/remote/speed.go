package remote

import (
	"sync"
	"time"
)

// A Speed is what is known of the way to a server. It is safe for concurrent use.
type Speed struct {
	mu        sync.Mutex
	roundTrip time.Duration
	trips     int
	bytes     float64 // read lately
	seconds   float64 // that waiting for them took
}

const (
	// settle is what part of a longer round trip than before is believed: a server
	// that had to think is more common than a network that has become slower.
	settle = 1.0 / 16
	// tripsMin is how many round trips must have been made for the shortest of them
	// to mean anything: a server that has just started thinks for longer.
	tripsMin = 3
	// window is how many bytes are remembered: enough to be past a connection's
	// slow start, few enough to follow a network that changes.
	window = 32 << 20
	// enough is how many bytes must have been read for a bandwidth to mean anything.
	enough = 4 << 20
)

// addRoundTrip notes how long an answer took to begin.
func (s *Speed) addRoundTrip(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trips++
	if s.roundTrip == 0 || d < s.roundTrip {
		s.roundTrip = d
		return
	}
	if s.trips <= tripsMin {
		return
	}
	s.roundTrip += time.Duration(settle * float64(d-s.roundTrip))
}

// addTransfer notes how long n bytes were waited for.
func (s *Speed) addTransfer(n int, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += float64(n)
	s.seconds += d.Seconds()
	if s.bytes > window {
		s.seconds *= window / s.bytes
		s.bytes = window
	}
}

// RoundTrip is the time that one takes, 0 if it is not known.
func (s *Speed) RoundTrip() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trips < tripsMin {
		return 0
	}
	return s.roundTrip
}

// Bandwidth is bytes per second, 0 if it is not known.
func (s *Speed) Bandwidth() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes < enough || s.seconds == 0 {
		return 0
	}
	return int64(s.bytes / s.seconds)
}
