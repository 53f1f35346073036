package faulttest_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/faulttest"
)

// Each lie is a stream that can be read, with just that wrong.
func TestLiar(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.larder.stream")
		out := entry.NewStreamWriter(w)
		out.Blob([]byte("plan"))
		for i := range 3 {
			body := fmt.Appendf(nil, "body %d", i)
			out.Entry(&entry.Header{
				ActionID: entry.ActionID{byte(i)}, OutputID: sha256.Sum256(body),
				Size: int64(len(body)), Stored: int64(len(body)), Sum: entry.Checksum(body),
			}, bytes.NewReader(body))
		}
		out.Action(entry.Miss, entry.ActionID{9})
		out.End()
	}))
	defer srv.Close()
	liar, err := faulttest.NewLiar(strings.TrimPrefix(srv.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	get := func() (status int, told string) {
		resp, err := http.Get("http://" + liar.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.Header.Get("Content-Type") != "application/vnd.larder.stream" {
			text, _ := io.ReadAll(resp.Body)
			return resp.StatusCode, string(text)
		}
		in := entry.NewStreamReader(resp.Body)
		for {
			f, err := in.Next()
			switch {
			case err != nil:
				return resp.StatusCode, told + " " + err.Error()
			case f.Kind == entry.End:
				return resp.StatusCode, told
			case f.Kind == entry.Entry:
				body, _ := io.ReadAll(in.Body())
				told += fmt.Sprintf("%d=%q", f.Header.ActionID[0], body)
				if f.Header.Sum != entry.Checksum(body) {
					told += "!"
				}
				told += " "
			default:
				told += string(f.Kind) + " "
			}
		}
	}
	for lie, want := range map[faulttest.Lie]string{
		faulttest.Honest:    `B 0="body 0" 1="body 1" 2="body 2" M `,
		faulttest.WrongBody: `B 0="bodx 0" 1="bodx 1" 2="bodx 2" M `,
		faulttest.Damaged:   `B 0="bodx 0"! 1="bodx 1"! 2="bodx 2"! M `,
		faulttest.Swapped:   `B 0="body 0" 1="body 0" 2="body 1" M `,
		faulttest.Doubled:   `B 0="body 0" 1="body 1" 2="body 2" M 0="body 0" 1="body 1" 2="body 2" M `,
		faulttest.Reversed:  `B M 2="body 2" 1="body 1" 0="body 0" `,
		faulttest.Nonsense:  "<html>It works!</html>",
	} {
		liar.Tell(lie)
		if _, told := get(); told != want {
			t.Errorf("lie %d: %s, want %s", lie, told, want)
		}
	}
	liar.Tell(faulttest.Statuses)
	one, _ := get()
	two, _ := get()
	if (one == http.StatusOK) == (two == http.StatusOK) {
		t.Errorf("statuses %d and %d: one of two is to fail", one, two)
	}
	liar.Tell(faulttest.Forbidden)
	if status, told := get(); status != http.StatusForbidden {
		t.Errorf("status %d: %s", status, told)
	}
	liar.Tell(faulttest.Small)
	for size, want := range map[int]int{faulttest.SmallBytes: http.StatusOK, faulttest.SmallBytes + 1: http.StatusRequestEntityTooLarge} {
		resp, err := http.Post("http://"+liar.Addr()+"/v1/get", "", strings.NewReader(strings.Repeat("x", size)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("status %d of a body of %d bytes, want %d", resp.StatusCode, size, want)
		}
	}
	liar.Tell(faulttest.Stuck)
	if status, _ := get(); status != http.StatusOK {
		t.Errorf("status %d of what is not stuck", status)
	}
	client := http.Client{Timeout: 50 * time.Millisecond}
	var stuck net.Error
	if resp, err := client.Post("http://"+liar.Addr()+"/v1/prefetch/00", "", strings.NewReader("x")); !errors.As(err, &stuck) || !stuck.Timeout() {
		t.Errorf("answered: %v, %v", resp, err)
	}
}
