package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// busyForBuild is within what time a server that asks for patience (429 or 503 with
	// Retry-After) is asked again by what a build waits for: the header counts in whole
	// seconds, so it is the shortest that it can ask for, and time for the first answer.
	// With StartLimit after it, the helper still hears of the agent in time
	// (session.Silence).
	busyForBuild = 1500 * time.Millisecond
	// busyElse is the same for what no build waits for. What asks for more than half a
	// minute is better asked by whoever keeps a queue.
	busyElse = 30 * time.Second
	// retryAfterMin stands for a time that has passed, and retryAfterMax bounds what an
	// answer can say.
	retryAfterMin = 100 * time.Millisecond
	retryAfterMax = time.Hour
)

// A StatusError is an answer other than success.
type StatusError struct {
	Status  int    // of HTTP
	Code    string // the API's, "" if the answer is not the API's
	Message string
	// RetryAfter is when the server wants to be asked again, if it is busy (429, 503)
	// and has said so; 0 if not. It is retryAfterMax at most.
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("unexpected status %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("status %d: %s", e.Status, e.Message)
}

// IsStatus reports whether err is an answer of one of the given statuses.
func IsStatus(err error, statuses ...int) bool {
	var e *StatusError
	if !errors.As(err, &e) {
		return false
	}
	for _, s := range statuses {
		if e.Status == s {
			return true
		}
	}
	return false
}

// patience is how long a busy server has asked to be left alone.
func patience(err error) (wait time.Duration, asked bool) {
	var e *StatusError
	if !errors.As(err, &e) || e.RetryAfter == 0 {
		return 0, false
	}
	return e.RetryAfter, true
}

// statusError is an answer's error. It reads the answer.
func statusError(resp *http.Response) error {
	e := &StatusError{Status: resp.StatusCode}
	var answer struct {
		Error struct{ Code, Message string }
	}
	data, _ := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax))
	if json.Unmarshal(data, &answer) == nil {
		e.Code, e.Message = answer.Error.Code, answer.Error.Message
	}
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		e.RetryAfter = retryAfter(resp.Header)
	}
	return e
}

// retryAfter is a header's Retry-After: seconds, or a date, which is compared with the
// answer's own, as this machine's clock may be another; 0 if there is none.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil || errors.Is(err, strconv.ErrRange) {
		return min(max(time.Duration(seconds)*time.Second, retryAfterMin), retryAfterMax)
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return min(max(at.Sub(now), retryAfterMin), retryAfterMax)
}
