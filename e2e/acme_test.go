package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/faulttest"
)

// pebble is Let's Encrypt's authority for tests.
const pebble = "github.com/letsencrypt/pebble/v2@v2.10.1"

// A server with -acme has a certificate of the authority, which keeps over a restart.
func TestACME(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds an authority")
	}
	t.Parallel()
	dir := t.TempDir()
	if err := install(dir, strings.Replace(pebble, "@", "/cmd/pebble@", 1), strings.Replace(pebble, "@", "/cmd/pebble-challtestsrv@", 1)); err != nil {
		t.Fatal(err)
	}
	const host = "larder.example.com"
	if err := makeCertificate(filepath.Join(dir, "directory")); err != nil {
		t.Fatal(err)
	}
	listen, api, dns := freePort(t), freePort(t), freePort(t)
	letsEncrypt := httptest.NewUnstartedServer(likeLetsEncrypt(api))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "directory.cert"), filepath.Join(dir, "directory.key"))
	if err != nil {
		t.Fatal(err)
	}
	letsEncrypt.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	letsEncrypt.StartTLS()
	t.Cleanup(letsEncrypt.Close)
	_, port, _ := net.SplitHostPort(listen)
	settings := fmt.Sprintf(`{"pebble": {"listenAddress": %q, "managementListenAddress": "", "certificate": %q, "privateKey": %q,
		"httpPort": 1, "tlsPort": %s, "retryAfter": {"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": {"default": {"description": "", "validityPeriod": 7776000}}}}`,
		api, filepath.Join(dir, "directory.cert"), filepath.Join(dir, "directory.key"), port)
	if err := os.WriteFile(filepath.Join(dir, "pebble.json"), []byte(settings), 0o666); err != nil {
		t.Fatal(err)
	}
	// All names are this machine's.
	start(t, exec.Command(filepath.Join(dir, "pebble-challtestsrv"), "-dnsserver", dns, "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "",
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", freePort(t)))
	authority := exec.Command(filepath.Join(dir, "pebble"), "-config", filepath.Join(dir, "pebble.json"), "-dnsserver", dns)
	authority.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	start(t, authority)

	awaitDirectory(t, letsEncrypt.URL+"/dir") // else the server waits for a minute before it tries again

	larderd, tokens := filepath.Join(os.Getenv("LARDER_E2E_BIN"), "larderd"), filepath.Join(dir, "tokens.toml")
	if out, err := exec.Command(larderd, "token", "-tokens", tokens, "-name", "ci", "-role", "reader", "add").CombinedOutput(); err != nil {
		t.Fatalf("add a token: %v\n%s", err, out)
	}
	serve := func(flags ...string) (stop func()) {
		cmd := exec.Command(larderd, append([]string{"serve", "-dir", filepath.Join(dir, "team"), "-tokens", tokens,
			"-listen", listen, "-acme", host, "-acme-ca", letsEncrypt.URL + "/dir"}, flags...)...)
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+filepath.Join(dir, "directory.cert"), "SSL_CERT_DIR="+dir)
		return start(t, cmd)
	}
	// The authority looks at the server, and has no certificate to show.
	stop := serve("-client-ca", filepath.Join(dir, "directory.cert"))
	first := handshake(t, listen, host, pair)
	if err := first.VerifyHostname(host); err != nil {
		t.Error(err)
	}
	if issuer := first.Issuer.CommonName; !strings.HasPrefix(issuer, "Pebble") {
		t.Errorf("issued by %q", issuer)
	}
	stop()
	serve()
	if second := handshake(t, listen, host, pair); second.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("another certificate after a restart")
	}
}

// likeLetsEncrypt passes requests on to pebble, and adds what Let's Encrypt says and
// pebble does not, as RFC 8555 leaves open: the order, in the answer to its
// finalization. Of golang.org/x/crypto, only versions that need Go 1.25 do without
// (golang/go issue 77704).
func likeLetsEncrypt(api string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "https", api
			r.Out.Host = r.In.Host // pebble makes its addresses of it
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		ModifyResponse: func(r *http.Response) error {
			if id, ok := strings.CutPrefix(r.Request.URL.Path, "/finalize-order/"); ok {
				r.Header.Set("Location", "https://"+r.Request.Host+"/my-order/"+id)
			}
			return nil
		},
		ErrorLog: log.New(io.Discard, "", 0), // until pebble listens
	}
}

func awaitDirectory(t *testing.T, url string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if resp, err := client.Get(url); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
	}
	t.Fatal("pebble does not listen")
}

// handshake connects as a client does, asks whether the server is well, and returns
// its certificate. It tries again while programs start and certificates are made.
func handshake(t *testing.T, address, host string, own tls.Certificate) *x509.Certificate {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		// The authority's root is made anew; who issued it is compared.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{own}},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	defer client.CloseIdleConnections()
	var last error
	for limit := time.Now().Add(2 * time.Minute); time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		resp, err := client.Get("https://" + host + "/healthz")
		if err != nil {
			last = err
			continue
		}
		defer resp.Body.Close()
		if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
			t.Errorf("status %d: %s", resp.StatusCode, text)
		}
		return resp.TLS.PeerCertificates[0]
	}
	t.Fatalf("no connection: %v", last)
	return nil
}

// start starts a program and ends it with the test, or before.
func start(t *testing.T, cmd *exec.Cmd) (stop func()) {
	t.Helper()
	said, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(said.Name())
			t.Logf("%s:\n%s", filepath.Base(cmd.Path), text)
		}
	}
	t.Cleanup(stop)
	return stop
}

// freePort is an address on loopback where nothing listens.
func freePort(t *testing.T) string {
	t.Helper()
	address, err := faulttest.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}
