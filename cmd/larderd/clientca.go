package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/crypto/acme"

	"github.com/larder-build/larder/internal/fresh"
)

// askClients has config ask clients for certificates from the authorities of a file,
// and end connections without one. What a certificate says of its owner is not looked
// at: tokens decide who may do what.
func (o *serveOptions) askClients(config *tls.Config, log *slog.Logger) (*tls.Config, error) {
	if config.NextProtos == nil {
		config.NextProtos = []string{"h2", "http/1.1"} // http.Server adds them to config only, not to what is made of it here
	}
	asking := fresh.New(func() (*tls.Config, error) {
		pem, err := os.ReadFile(o.clientCA)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", o.clientCA)
		}
		c := config.Clone()
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, pool
		// Who comes back with a ticket would not be compared with a file that has
		// changed since. Agents keep connections, and need none.
		c.SessionTicketsDisabled = true
		return c, nil
	}, o.clientCA)
	asking.Complain = func(err error) {
		log.Error("the clients' authorities cannot be read; the old ones stay", "error", err)
	}
	if _, err := asking.Get(); err != nil {
		return nil, fmt.Errorf("load the clients' authorities: %w", err)
	}
	outer := config.Clone()
	outer.SessionTicketsDisabled = true
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if o.acme != "" && slices.Equal(hello.SupportedProtos, []string{acme.ALPNProto}) {
			// The authority that looks whether this host is this host's has no
			// certificate. A connection of that protocol ends after the handshake:
			// http.Server does not speak it.
			challenge := config.Clone()
			challenge.NextProtos = []string{acme.ALPNProto}
			return challenge, nil
		}
		return asking.Get()
	}
	return outer, nil
}
