package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// tlsConfig is nil for cleartext.
func (o *serveOptions) tlsConfig(log *slog.Logger) (*tls.Config, error) {
	if o.acme != "" {
		return o.acmeConfig(log), nil
	}
	if o.cert == "" {
		return nil, nil
	}
	c := &certificate{certFile: o.cert, keyFile: o.key}
	if _, err := c.get(nil); err != nil {
		return nil, fmt.Errorf("load the certificate: %w", err)
	}
	return &tls.Config{GetCertificate: c.get, MinVersion: tls.VersionTLS12}, nil
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

// certificateCheck is how often a certificate's file is looked at, at most.
const certificateCheck = 10 * time.Second

// A certificate is a certificate in files, which is read again when it has been
// renewed. One that cannot be read leaves the old one in use.
type certificate struct {
	certFile, keyFile string

	mu      sync.Mutex
	current *tls.Certificate
	changed time.Time // of certFile
	checked time.Time
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && time.Since(c.checked) < certificateCheck {
		return c.current, nil
	}
	c.checked = time.Now()
	info, err := os.Stat(c.certFile)
	if err == nil && c.current != nil && info.ModTime().Equal(c.changed) {
		return c.current, nil
	}
	var loaded tls.Certificate
	if err == nil {
		loaded, err = tls.LoadX509KeyPair(c.certFile, c.keyFile)
	}
	switch {
	case err == nil:
		c.current, c.changed = &loaded, info.ModTime()
	case c.current == nil:
		return nil, err
	}
	return c.current, nil
}
