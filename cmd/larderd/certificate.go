package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/larder-build/larder/internal/fresh"
)

// tlsConfig is nil for cleartext.
func (o *serveOptions) tlsConfig(log *slog.Logger) (*tls.Config, error) {
	var config *tls.Config
	switch {
	case o.acme != "":
		config = o.acmeConfig(log)
	case o.cert != "":
		cert := fresh.New(func() (*tls.Certificate, error) {
			c, err := tls.LoadX509KeyPair(o.cert, o.key)
			return &c, err
		}, o.cert, o.key)
		cert.Complain = func(err error) { log.Error("the certificate cannot be read; the old one stays", "error", err) }
		if _, err := cert.Get(); err != nil {
			return nil, fmt.Errorf("load the certificate: %w", err)
		}
		config = &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert.Get() },
			MinVersion:     tls.VersionTLS12,
		}
	default:
		return nil, nil
	}
	if o.clientCA == "" {
		return config, nil
	}
	return o.askClients(config, log)
}

// acmeConfig gets a certificate when it is first asked for, renews it in time and
// keeps it beside the entries. What goes wrong with that is the operator's to mend,
// and is in the log at most once a complainAgain; what strangers ask for is not.
func (o *serveOptions) acmeConfig(log *slog.Logger) *tls.Config {
	const complainAgain = time.Minute
	manager := &autocert.Manager{
		Prompt:     autocert.AcceptTOS,
		HostPolicy: autocert.HostWhitelist(o.acme),
		Cache:      autocert.DirCache(filepath.Join(o.dir, "acme")),
		Client:     &acme.Client{DirectoryURL: o.acmeCA, UserAgent: "larderd"},
	}
	var mu sync.Mutex
	var complained time.Time
	config := manager.TLSConfig()
	config.MinVersion = tls.VersionTLS12
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := manager.GetCertificate(hello)
		if err != nil && hello.ServerName == o.acme {
			mu.Lock()
			defer mu.Unlock()
			if time.Since(complained) > complainAgain {
				complained = time.Now()
				log.Error("no certificate, so clients cannot connect", "host", o.acme, "authority", o.acmeCA, "error", err)
			}
		}
		return cert, err
	}
	return config
}
