package e2e_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/faulttest"
	"github.com/larder-build/larder/internal/manifest"
	"github.com/larder-build/larder/internal/remote"
)

// needNginx demands nginx: without it, a machine that has none skips.
const needNginx = "LARDER_NEED_NGINX"

// hasNginx is the condition of scripts that want it.
func hasNginx() (bool, error) {
	if faulttest.NginxPath() != "" {
		return true, nil
	}
	if os.Getenv(needNginx) != "" {
		return false, fmt.Errorf("no nginx, and %s is set; apt-get install nginx-light", needNginx)
	}
	return false, nil
}

// nginxConf returns a server of nginx's configuration before target: "defaults";
// "recommended", which is deploy/nginx/larder.conf; or that "cleartext". tls is the
// name of a certificate's files.
func nginxConf(kind, listen, target, certificate string) (string, error) {
	if kind == "defaults" {
		return faulttest.NginxDefaults(listen, target), nil
	}
	data, err := os.ReadFile("../deploy/nginx/larder.conf")
	if err != nil {
		return "", err
	}
	conf := string(data)
	with := map[string]string{
		"127.0.0.1:7070":             target,
		"listen 443 ssl http2;":      "listen " + listen + " ssl http2;",
		"/etc/nginx/larder/cert.pem": certificate + ".cert",
		"/etc/nginx/larder/key.pem":  certificate + ".key",
	}
	if kind == "cleartext" {
		with = map[string]string{
			"127.0.0.1:7070": target, "listen 443 ssl http2;": "listen " + listen + ";",
			"ssl_certificate ": "# ", "ssl_certificate_key ": "# ",
		}
	}
	for old, new := range with {
		if !strings.Contains(conf, old) {
			return "", fmt.Errorf("deploy/nginx/larder.conf has no %q", old)
		}
		conf = strings.ReplaceAll(conf, old, new)
	}
	return conf, nil
}

// cmdNginx: nginx KIND [CERTIFICATE] puts nginx before the remote, and makes that the
// remote: with its "defaults", as "recommended", with TLS and HTTP/2 for the
// certificate of that name, or so but in "cleartext".
func cmdNginx(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: nginx KIND [CERTIFICATE]")
	}
	listen, err := faulttest.FreeAddress()
	ts.Check(err)
	url, certificate := "http://"+listen, ""
	if args[0] == "recommended" {
		url, certificate = "https://"+listen, ts.MkAbs(args[1])
	}
	_, target, _ := strings.Cut(ts.Getenv("LARDER_REMOTE"), "://")
	conf, err := nginxConf(args[0], listen, target, certificate)
	ts.Check(err)
	stop, err := faulttest.StartNginx(ts.MkAbs(filepath.Join(ts.Getenv("WORK"), "nginx-"+args[0])), conf, url)
	ts.Check(err)
	ts.Defer(stop)
	ts.Setenv("LARDER_REMOTE", url)
}

// cmdRandom: random FILE SIZE writes bytes that nothing compresses.
func cmdRandom(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: random FILE SIZE")
	}
	var size int
	_, err := fmt.Sscan(args[1], &size)
	ts.Check(err)
	data := make([]byte, size)
	rand.Read(data)
	ts.Check(os.MkdirAll(filepath.Dir(ts.MkAbs(args[0])), 0o777))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o666))
}

// startLarderd starts a team server without tokens, and returns its address.
func startLarderd(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	addr := filepath.Join(dir, "addr")
	start(t, larderd("serve", "-dir", filepath.Join(dir, "team"), "-listen", "127.0.0.1:0", "-addr-file", addr))
	for range 3000 {
		if address, err := os.ReadFile(addr); err == nil {
			return strings.TrimSpace(string(address))
		}
		time.Sleep(10 * time.Millisecond) // the file is the sign
	}
	t.Fatal("the server does not listen after 30 s")
	return ""
}

// behindNginx starts nginx before a server, and returns a client.
func behindNginx(t *testing.T, kind, target string) *remote.Client {
	t.Helper()
	if ok, err := hasNginx(); err != nil {
		t.Fatal(err)
	} else if !ok {
		t.Skipf("no nginx: apt-get install nginx-light (%s=1 makes this an error)", needNginx)
	}
	listen, err := faulttest.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	conf, err := nginxConf(kind, listen, target, "")
	if err != nil {
		t.Fatal(err)
	}
	stop, err := faulttest.StartNginx(filepath.Join(t.TempDir(), "nginx"), conf, "http://"+listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	c, err := remote.New(remote.Options{URL: "http://" + listen, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// putSizes puts entries of random bytes, and returns their actions.
func putSizes(c *remote.Client, sizes ...int) (ids []entry.ActionID, err error) {
	_, refused, err := c.Put(context.Background(), func(w *entry.StreamWriter) error {
		for _, size := range sizes {
			body := make([]byte, size)
			rand.Read(body)
			h := entry.Header{OutputID: sha256.Sum256(body), Size: int64(size), Stored: int64(size), Sum: entry.Checksum(body), Time: time.Now()}
			rand.Read(h.ActionID[:])
			ids = append(ids, h.ActionID)
			if err := w.Entry(&h, bytes.NewReader(body)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(refused) > 0 {
		err = fmt.Errorf("%d are refused", len(refused))
	}
	return ids, err
}

// What is larger than nginx lets pass is answered 413, whenever it notices, and what
// is smaller gets to the server, and comes back.
func TestNginxLimit(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts nginx")
	}
	t.Parallel()
	for _, kind := range []string{"defaults", "cleartext"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := behindNginx(t, kind, startLarderd(t))
			ids, err := putSizes(c, 100, 200_000, 300_000)
			if err != nil {
				t.Fatal(err)
			}
			s, err := c.Get(context.Background(), ids)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for range ids {
				if f, err := s.Next(); err != nil || f.Kind != entry.Entry {
					t.Errorf("%+v, %v", f, err)
				}
			}
			for i := range 20 {
				_, err := putSizes(c, 10_000, 3<<20, 3<<20, 3<<20)
				if kind == "cleartext" && err != nil || kind == "defaults" && !remote.IsStatus(err, http.StatusRequestEntityTooLarge) {
					t.Fatalf("try %d: %v", i, err)
				}
			}
		})
	}
}

// The head of a stream comes through nginx when it is sent, not when there is more:
// builds wait for it. With nginx's defaults that is the server's doing, which says so in
// a header.
func TestNginxStream(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts nginx")
	}
	t.Parallel()
	for _, kind := range []string{"defaults", "cleartext"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			headCame := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/healthz" {
					return
				}
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Content-Type", "application/vnd.larder.stream")
				w.Header().Set("X-Accel-Buffering", "no") // TestStreamsAreNotBuffered in internal/server
				out := entry.NewStreamWriter(w)
				out.Blob(manifest.Plan(nil).Append(nil))
				out.Blob(nil)
				out.Flush()
				http.NewResponseController(w).Flush()
				select {
				case <-headCame:
				case <-r.Context().Done():
				}
				out.End()
			}))
			t.Cleanup(server.Close)
			c := behindNginx(t, kind, strings.TrimPrefix(server.URL, "http://"))
			p, err := c.Prefetch(context.Background(), [32]byte{1}, manifest.NewFilter(func(func(entry.ActionID) bool) {}), "")
			close(headCame)
			if err != nil {
				t.Fatalf("the head does not come before the rest: %v", err)
			}
			defer p.Close()
			if f, err := p.Next(); err != nil || f.Kind != entry.End {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
}
