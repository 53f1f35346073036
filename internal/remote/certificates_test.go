package remote_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/remote"
)

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := new(authority)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "an authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = a.sign(t, template)
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// pair writes a certificate of a name to files.
func (a *authority) pair(t *testing.T, name, certFile, keyFile string) {
	t.Helper()
	cert, key := a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	keyText := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if keyFile == "" {
		text = append(text, keyText...)
	} else {
		writeFile(t, keyFile, keyText)
	}
	writeFile(t, certFile, text)
}

func (a *authority) file(t *testing.T, name string) string {
	t.Helper()
	writeFile(t, name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
	return name
}

func writeFile(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A private authority's server is trusted if its file says so, shows who it is to the
// server, and both follow their files.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ours, other := newAuthority(t), newAuthority(t)
	ours.pair(t, "server", file("server.cert"), file("server.key"))
	serverCert, err := tls.LoadX509KeyPair(file("server.cert"), file("server.key"))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ours.cert)
	serve := func(config *tls.Config, who *string) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			*who = ""
			if len(r.TLS.PeerCertificates) > 0 {
				*who = r.TLS.PeerCertificates[0].Subject.CommonName
			}
			io.WriteString(w, "{}")
		}))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		config.Certificates = []tls.Certificate{serverCert}
		s.TLS = config
		s.StartTLS()
		t.Cleanup(s.Close)
		return s.URL
	}
	var plainWho, who string
	plain := serve(&tls.Config{}, &plainWho)
	mutual := serve(&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}, &who)
	open := func(o remote.Options) *remote.Client {
		t.Helper()
		o.Version = "v1"
		c, err := remote.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		if o.CAFile+o.ClientCert != "" {
			c.CheckFiles()
		}
		return c
	}
	ask := func(c *remote.Client) error {
		_, err := c.Capabilities(context.Background())
		return err
	}

	var unknown x509.UnknownAuthorityError
	if err := ask(open(remote.Options{URL: plain})); !errors.As(err, &unknown) {
		t.Errorf("without a file: %v", err)
	}
	ca := file("ca.pem")
	c := open(remote.Options{URL: plain, CAFile: ca})
	var unreadable *remote.CertificateError
	if err := ask(c); !errors.As(err, &unreadable) || unreadable.Variable != "LARDER_CA_FILE" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	writeFile(t, ca, []byte("not PEM"))
	if err := ask(c); !errors.As(err, &unreadable) || !strings.Contains(err.Error(), "read the authorities: "+ca+" has no certificate in PEM") {
		t.Errorf("a file of something else: %v", err)
	}
	other.file(t, ca)
	if err := ask(c); !errors.As(err, &unknown) {
		t.Errorf("another authority: %v", err)
	}
	ours.file(t, ca)
	if err := ask(c); err != nil {
		t.Errorf("after the file was changed: %v", err)
	}

	if err := ask(open(remote.Options{URL: mutual, CAFile: ca})); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a client certificate: %v", err)
	}
	cert, key := file("client.cert"), file("client.key")
	other.pair(t, "stranger", cert, key)
	c = open(remote.Options{URL: mutual, CAFile: ca, ClientCert: cert, ClientKey: key})
	if err := ask(c); err == nil || who != "" {
		t.Errorf("with another authority's certificate: %v", err)
	}
	ours.pair(t, "one", cert, key)
	if err := ask(c); err != nil || who != "one" {
		t.Errorf("%q, %v", who, err)
	}
	ours.pair(t, "two", cert, key)
	if err := ask(c); err != nil || who != "two" {
		t.Errorf("renewed: %q, %v", who, err)
	}
	ours.pair(t, "three", cert, file("elsewhere")) // half renewed
	if err := ask(c); err != nil || who != "two" {
		t.Errorf("half renewed: %q, %v", who, err)
	}
	if err := ask(open(remote.Options{URL: mutual, ClientCert: cert, ClientKey: key})); !errors.As(err, &unreadable) || !strings.Contains(err.Error(), "read the client certificate: ") {
		t.Errorf("a key that does not fit: %v", err)
	}
	ours.pair(t, "both", file("both.pem"), "")
	if err := ask(open(remote.Options{URL: mutual, CAFile: ca, ClientCert: file("both.pem")})); err != nil || who != "both" {
		t.Errorf("in one file: %q, %v", who, err)
	}
	if err := ask(open(remote.Options{URL: plain, CAFile: ca, ClientCert: file("both.pem")})); err != nil || plainWho != "" {
		t.Errorf("to a server that does not ask: %q, %v", plainWho, err)
	}
}
