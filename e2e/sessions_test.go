package e2e_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdServed: [!] served PATH PATTERN [TOKENFILE] waits until the remote answers a
// GET of PATH with something that matches; with !, it must not match now.
func cmdServed(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: [!] served PATH PATTERN [TOKENFILE]")
	}
	want, err := regexp.Compile(args[1])
	ts.Check(err)
	req, err := http.NewRequest("GET", ts.Getenv("LARDER_REMOTE")+args[0], nil)
	ts.Check(err)
	if len(args) == 3 {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(args[2])))
	}
	const tries, pause = 1200, 100 * time.Millisecond // reports come within seconds, but on a busy machine
	var body []byte
	for range tries {
		resp, err := http.DefaultClient.Do(req)
		ts.Check(err)
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		if want.Match(body) != neg {
			return
		}
		if neg {
			break
		}
		time.Sleep(pause)
	}
	ts.Fatalf("%s is served with\n%s", args[0], body)
}
