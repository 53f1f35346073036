package main

import (
	"crypto/tls"
	"os"
	"sync"
	"time"
)

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
