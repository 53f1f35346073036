package remote

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"sync"

	"github.com/larder-build/larder/internal/fresh"
)

// A CertificateError is a file of certificates or a key that cannot be used.
type CertificateError struct {
	Variable string // the setting's that names it
	What     string
	Err      error
}

func (e *CertificateError) Error() string { return "read " + e.What + ": " + e.Err.Error() }

func (e *CertificateError) Unwrap() error { return e.Err }

// tlsConfig reads the files of the options.
func (o *Options) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pool, err := roots(o.CAFile)
		if err != nil {
			return nil, &CertificateError{"LARDER_CA_FILE", "the authorities", err}
		}
		config.RootCAs = pool
	}
	if o.ClientCert != "" {
		cert, err := tls.LoadX509KeyPair(o.ClientCert, o.clientKey())
		if err != nil {
			return nil, &CertificateError{"LARDER_CLIENT_CERT and LARDER_CLIENT_KEY", "the client certificate", err}
		}
		// It is shown to whoever asks, not only to who names its authority: a server
		// may name others, and then says itself what is wrong.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return config, nil
}

func (o *Options) clientKey() string {
	if o.ClientKey == "" {
		return o.ClientCert
	}
	return o.ClientKey
}

// roots is the system's authorities and those of a file.
func roots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a machine may have none
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return pool, nil
}

// transports is the transport of the present certificates.
type transports struct {
	make   func(*tls.Config) *http.Transport
	config *fresh.Value[*tls.Config] // nil: there are no files

	mu      sync.Mutex
	current *http.Transport
	of      *tls.Config
}

func (t *transports) init(o Options, make func(*tls.Config) *http.Transport) {
	t.make = make
	var files []string
	if o.CAFile != "" {
		files = append(files, o.CAFile)
	}
	if o.ClientCert != "" {
		files = append(files, o.ClientCert, o.clientKey())
	}
	if len(files) > 0 {
		t.config = fresh.New(o.tlsConfig, files...)
	}
}

func (t *transports) get() (*http.Transport, error) {
	var config *tls.Config
	if t.config != nil {
		var err error
		if config, err = t.config.Get(); err != nil {
			return nil, err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == nil || t.of != config {
		if t.current != nil {
			t.current.CloseIdleConnections() // the others end with their requests
		}
		t.current, t.of = t.make(config), config
	}
	return t.current, nil
}

func (t *transports) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil {
		t.current.CloseIdleConnections()
	}
}
