package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/remote"
)

// A client against a server that answers as told.
func client(t *testing.T, tokenFile string, handle http.HandlerFunc) *remote.Client {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	c, err := remote.New(remote.Options{URL: s.URL + "/below/", TokenFile: tokenFile, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestStatus(t *testing.T) {
	for name, tt := range map[string]struct {
		handle  http.HandlerFunc
		message string
	}{
		"the API's": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"error":{"code":"read_only","message":"no writing"}}`)
		}, "no writing"},
		"somebody else's": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusForbidden) }, ""},
		"endless": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			for range 100 {
				w.Write(make([]byte, 10_000))
			}
		}, ""},
	} {
		c := client(t, "", tt.handle)
		_, err := c.Capabilities(context.Background())
		var status *remote.StatusError
		if !errors.As(err, &status) || status.Status != 403 || status.Message != tt.message || !remote.IsStatus(err, 401, 403) || remote.IsStatus(err, 404) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The token goes to the server, and nowhere else.
func TestToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("larder_secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got, path string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("followed a redirect") }))
	defer elsewhere.Close()
	redirect := false
	c := client(t, file, func(w http.ResponseWriter, r *http.Request) {
		got, path = r.Header.Get("Authorization"), r.URL.Path
		if redirect {
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
			return
		}
		io.WriteString(w, "{}")
	})
	if _, err := c.Capabilities(context.Background()); err != nil || got != "Bearer larder_secret" || path != "/below/v1/capabilities" {
		t.Errorf("%q to %s, %v", got, path, err)
	}
	redirect = true
	if _, err := c.Capabilities(context.Background()); !remote.IsStatus(err, http.StatusFound) {
		t.Errorf("redirect: %v", err)
	}
	for _, text := range []string{"", "two words", "caf\u00e9"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var bad *remote.TokenError
		if _, err := c.Capabilities(context.Background()); !errors.As(err, &bad) {
			t.Errorf("token %q: %v", text, err)
		}
	}
}

// A server that does not answer, or stops in the middle, is given up.
func TestStall(t *testing.T) {
	c := client(t, "", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/get") {
			w.Write([]byte("M"))
			http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	})
	begin := time.Now()
	if _, err := c.Capabilities(context.Background()); !errors.Is(err, remote.ErrStalled) {
		t.Errorf("no answer: %v", err)
	}
	s, err := c.Get(context.Background(), []entry.ActionID{{1}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Next(); !errors.Is(err, remote.ErrStalled) {
		t.Errorf("half an answer: %v", err)
	}
	if took := time.Since(begin); took > time.Minute { // on a machine that is busy, too
		t.Errorf("took %v", took)
	}
}

// A put whose writer gives up is not taken for whole.
func TestPutGivenUp(t *testing.T) {
	var readErr error
	c := client(t, "", func(w http.ResponseWriter, r *http.Request) {
		_, readErr = io.ReadAll(r.Body)
		io.WriteString(w, `{"stored":1}`)
	})
	why := errors.New("the disk is gone")
	_, _, err := c.Put(context.Background(), func(w *entry.StreamWriter) error { return why })
	if !errors.Is(err, why) {
		t.Errorf("put: %v (server: %v)", err, readErr)
	}
}

func TestBreaker(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	probes := make(chan error)
	states := make(chan string, 10)
	b := remote.NewBreaker(func(context.Context) error { return <-probes },
		func(state string, _ error, probe time.Duration) { states <- fmt.Sprint(state, " ", probe) })
	if b.Open() != nil {
		t.Error("open at first")
	}
	why := errors.New("down")
	for range 3 {
		b.Fail(ctx, why)
	}
	probes <- why
	if b.Open() != why {
		t.Error("closed by a failed probe")
	}
	probes <- nil
	for _, want := range []string{"open 1s", "closed 0s"} {
		if got := <-states; got != want {
			t.Errorf("state %s, not %s", got, want)
		}
	}
	// What fails at once may be tried again soon; what lets builds wait may not, if
	// it answers probes all the same.
	b.Fail(ctx, why)
	probes <- nil
	b.Wait()
	b.Fail(ctx, fmt.Errorf("get: %w", remote.ErrStalled))
	for _, want := range []string{"open 1s", "closed 0s", "open 1m0s"} {
		if got := <-states; got != want {
			t.Errorf("state %s, not %s", got, want)
		}
	}
	cancel()
	b.Wait()
	if !errors.Is(b.Open(), remote.ErrStalled) {
		t.Errorf("open: %v", b.Open())
	}
}

func TestURLs(t *testing.T) {
	for _, u := range []string{"", "larder.example.com", "ftp://x", "http://", "http://[::1"} {
		if _, err := remote.New(remote.Options{URL: u}); err == nil {
			t.Errorf("%q is taken", u)
		}
	}
}
