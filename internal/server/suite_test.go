package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/entrytest"
	"github.com/larder-build/larder/internal/faulttest"
	"github.com/larder-build/larder/internal/remote"
	"github.com/larder-build/larder/internal/server/disk"
)

// keeper is a server as its clients see it, through the client that agents use.
type keeper struct {
	client *remote.Client
	codec  *body.Codec
	limit  time.Duration // of a put
}

func (k keeper) Put(h entry.Header, plain []byte) error {
	out := h.OutputID
	size := h.Size
	stored := k.codec.Pack(&h, plain, nil)
	h.OutputID, h.Size = out, size // as it was said to be, right or wrong
	ctx, cancel := context.WithTimeout(context.Background(), k.limit)
	defer cancel()
	n, refused, err := k.client.Put(ctx, func(w *entry.StreamWriter) error {
		return w.Entry(&h, bytes.NewReader(stored))
	})
	if err == nil && n != 1 {
		err = errors.New("refused: " + strings.Join(refused, ", "))
	}
	return err
}

func (k keeper) Get(id entry.ActionID) (h entry.Header, plain []byte, err error) {
	s, err := k.client.Get(context.Background(), []entry.ActionID{id})
	if err != nil {
		return h, nil, err
	}
	defer s.Close()
	for {
		f, err := s.Next()
		if err != nil {
			return h, nil, err
		}
		switch f.Kind {
		case entry.Miss:
			return h, nil, entrytest.ErrMiss
		case entry.Entry:
			stored, err := io.ReadAll(s.Body())
			if err != nil {
				return h, nil, err
			}
			if err := k.codec.Verify(&f.Header, stored, nil); err != nil {
				return h, nil, err
			}
			plain, err = k.codec.Unpack(&f.Header, stored, nil)
			return f.Header, plain, err
		case entry.End:
			return h, nil, io.ErrUnexpectedEOF
		}
	}
}

// through is a client of the server behind address.
func through(t *testing.T, address string, limit time.Duration) (entrytest.Keeper, func()) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("main"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := remote.New(remote.Options{URL: "http://" + address, TokenFile: token, Version: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	return keeper{c, body.NewCodec(), limit}, c.Close
}

func TestSuite(t *testing.T) {
	s := start(t, disk.Options{})
	entrytest.Run(t, func(t *testing.T) (entrytest.Keeper, func()) {
		return through(t, s.Listener.Addr().String(), time.Minute)
	}, entrytest.Options{})
}

// Whatever the network does, a client gets what was put, or an error.
func TestSuiteFaults(t *testing.T) {
	s := start(t, disk.Options{})
	p, err := faulttest.NewProxy(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	again := func() { // all connections are new ones
		p.Down()
		if err := p.Up(); err != nil {
			t.Error(err)
		}
	}
	var faults []entrytest.Fault
	for name, f := range map[string]faulttest.Fault{
		"hang":              {Kind: faulttest.Hang},
		"drop":              {Kind: faulttest.Drop},
		"reset at once":     {Kind: faulttest.Reset},
		"reset in a body":   {Kind: faulttest.Reset, After: 2000},
		"truncate a header": {Kind: faulttest.Truncate, After: 20},
		"truncate a body":   {Kind: faulttest.Truncate, After: 2000},
		"flip in a header":  {Kind: faulttest.Flip, After: 190},
		"flip in a body":    {Kind: faulttest.Flip, After: 1000},
	} {
		faults = append(faults, entrytest.Fault{
			Name: name, Slow: f.Kind == faulttest.Hang,
			On:  func() { p.SetFault(f); again() },
			Off: func() { p.SetFault(faulttest.Fault{}); again() },
		})
	}
	faults = append(faults, entrytest.Fault{Name: "nobody there", On: p.Down, Off: func() { p.Up() }})
	const limit = 3 * time.Second // what hangs is waited for
	entrytest.RunFaults(t, func(t *testing.T) (entrytest.Keeper, func()) { return through(t, p.Addr(), limit) },
		faults, func(string) bool { return false })
}
