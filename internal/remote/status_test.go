package remote_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/remote"
)

// A busy server that asks for patience is asked once more, if a build that waits, or
// whoever else does, can wait for so long; and that it has asked is told.
func TestRetryAfter(t *testing.T) {
	date := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	get := func(c *remote.Client) error {
		s, err := c.Get(context.Background(), []entry.ActionID{{1}})
		if err == nil {
			s.Close()
		}
		return err
	}
	merge := func(c *remote.Client) error {
		return c.MergeManifest(context.Background(), [32]byte{1}, []entry.ActionID{{1}})
	}
	put := func(c *remote.Client) error {
		_, _, err := c.Put(context.Background(), func(*entry.StreamWriter) error { return nil })
		return err
	}
	for name, tt := range map[string]struct {
		status   int
		header   string
		send     func(*remote.Client) error
		requests int64
		after    time.Duration
	}{
		"soon":                {429, "0", get, 2, 100 * time.Millisecond},
		"soon, unavailable":   {503, "0", merge, 2, 100 * time.Millisecond},
		"a date, now":         {429, date.Format(http.TimeFormat), merge, 2, 100 * time.Millisecond},
		"a date, later":       {429, date.Add(90 * time.Second).Format(http.TimeFormat), merge, 1, 90 * time.Second},
		"too long":            {429, "60", get, 1, time.Minute},
		"too long for a get":  {429, "1", get, 1, time.Second},
		"far too long":        {503, "99999999999", merge, 1, time.Hour},
		"over an hour":        {503, "999999999", merge, 1, time.Hour},
		"nonsense":            {429, "soon", get, 1, 0},
		"not asked for":       {429, "", get, 1, 0},
		"another status":      {500, "0", get, 1, 0},
		"what cannot be sent": {429, "0", put, 1, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int64
			c := client(t, "", func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				if requests.Add(1); tt.header != "" {
					w.Header().Set("Retry-After", tt.header)
				}
				w.Header().Set("Date", date.Format(http.TimeFormat))
				w.WriteHeader(tt.status)
			})
			c.SetPatience(time.Minute, 30*time.Second)
			if name == "too long for a get" {
				c.SetPatience(0, time.Minute)
			}
			if name == "too long" {
				c.SetPatience(30*time.Second, time.Hour)
			}
			err := tt.send(c)
			var status *remote.StatusError
			if !errors.As(err, &status) || status.Status != tt.status || status.RetryAfter != tt.after {
				t.Errorf("%v, %+v; want RetryAfter %v", err, status, tt.after)
			}
			if n := requests.Load(); n != tt.requests {
				t.Errorf("%d requests, want %d", n, tt.requests)
			}
		})
	}

	// The second answer counts, and the whole request is sent again.
	var bodies []string
	c := client(t, "", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bodies = append(bodies, string(body)); len(bodies) == 1 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	if err := merge(c); err != nil || len(bodies) != 2 || bodies[0] != bodies[1] || len(bodies[0]) != entry.HashSize {
		t.Errorf("%v, %d bodies", err, len(bodies))
	}
}
