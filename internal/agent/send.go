package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"

	"github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/store"
	"github.com/larder-build/larder/internal/tracing"
)

// uploadBytes and uploadEntries bound a batch: what a crash makes go up twice.
const (
	uploadBytes   = 64 << 20
	uploadEntries = 500
)

// batch sends the first of puts and returns how many those were.
func (u *uploader) batch(ctx context.Context, up *upstream, s *store.Store, puts []session.Put) (n int, err error) {
	var size, sent int64
	ctx, span := u.agent.tracer.Start(ctx, "larder upload", tracing.Client)
	defer span.End()
	_, refused, err := up.client.Put(ctx, func(w *entry.StreamWriter) error {
		buf := new(buffers)
		for n < len(puts) && n < uploadEntries && size < uploadBytes {
			stored, err := u.send(w, s, puts[n], buf)
			if err != nil {
				return err
			}
			n++
			if stored >= 0 {
				size += stored
				sent++
			}
		}
		return nil
	})
	span.Number("larder.entries", sent)
	span.Number("larder.bytes", size)
	span.Number("larder.refused", int64(len(refused)))
	if err != nil {
		span.Fail(err)
		return 0, err
	}
	if len(refused) > 0 {
		u.agent.log.Error("the server refused entries as damaged on the way", "remote", up.remote.URL, "actions", refused)
	}
	u.add(sent, size)
	return n, nil
}

func (u *uploader) add(sent, bytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.uploaded += sent
	u.bytes += bytes
}

// buffers are used again for each body of a batch.
type buffers struct{ plain, stored []byte }

// send sends one entry, and returns its stored size; -1 if it is not in the store
// any more, or not what it was.
func (u *uploader) send(w *entry.StreamWriter, s *store.Store, p session.Put, buf *buffers) (stored int64, err error) {
	o, err := s.Get(p.Action)
	if err != nil {
		return -1, nil
	}
	f, err := os.Open(o.DiskPath)
	if err != nil {
		return -1, nil
	}
	defer f.Close()
	h := entry.Header{ActionID: p.Under, OutputID: o.OutputID, Size: o.Size, Time: o.Time, Cost: p.Cost}
	if o.Size > body.InRAM {
		return u.sendLarge(w, &h, f)
	}
	if int64(cap(buf.plain)) < o.Size {
		buf.plain = make([]byte, o.Size)
	}
	plain := buf.plain[:o.Size]
	if _, err := io.ReadFull(f, plain); err != nil || !isOutput(plain, o.OutputID) {
		u.agent.log.Error("an output is damaged and is not uploaded; run larder verify", "path", o.DiskPath)
		return -1, nil
	}
	packed := u.agent.codec.Pack(&h, plain, buf.stored)
	if h.Encoding != entry.Raw {
		buf.stored = packed
	}
	return h.Stored, w.Entry(&h, bytes.NewReader(packed))
}

// sendLarge compresses a body to a file first, since its stored size comes before it.
func (u *uploader) sendLarge(w *entry.StreamWriter, h *entry.Header, f io.Reader) (int64, error) {
	packed, err := os.CreateTemp(u.agent.place.Dir, "upload-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(packed.Name())
	defer packed.Close()
	if err := u.agent.codec.PackTo(h, packed, f); err != nil {
		var mismatch *entry.MismatchError
		if errors.As(err, &mismatch) {
			return -1, nil
		}
		return 0, err
	}
	if _, err := packed.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return h.Stored, w.Entry(h, packed)
}

func isOutput(plain []byte, out entry.OutputID) bool { return sha256.Sum256(plain) == out }
