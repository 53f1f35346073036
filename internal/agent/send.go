package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"os"

	"github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/remote"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/tracing"
)

// uploadBytes and uploadEntries bound a batch: what a crash makes go up twice.
const (
	uploadBytes   = 64 << 20
	uploadEntries = 500
)

// batch sends the first of puts, and returns how many those were, with those that are
// left out, and how many of them were sent. If it fails, n are those before the first
// that was sent.
func (d *delivery) batch(ctx context.Context, puts []session.Put) (n, sent int, err error) {
	var size, stored int64
	var first *outgoing
	before := 0
	most := d.up.room.size(uploadBytes)
	ctx, span := d.agent.tracer.Start(ctx, "larder upload", tracing.Client)
	defer span.End()
	_, refused, err := d.up.client.Put(ctx, func(w *entry.StreamWriter) error {
		buf := new(buffers)
		for n < len(puts) && n < uploadEntries && size < most {
			o := d.prepare(puts[n], buf)
			if o != nil && sent > 0 && size+o.bytes() > most {
				o.close()
				break
			}
			n++
			if o == nil {
				continue
			}
			if sent++; sent == 1 {
				first, before = o, n-1
			}
			size += o.bytes() // what is being sent counts
			stored += o.header.Stored
			err := o.send(d.agent.codec, w)
			o.close()
			if err != nil {
				return err
			}
		}
		return nil
	})
	span.Number("larder.entries", int64(sent))
	span.Number("larder.bytes", stored)
	span.Number("larder.refused", int64(len(refused)))
	switch {
	case err == nil:
		d.up.room.passed(size)
	case remote.IsStatus(err, http.StatusRequestEntityTooLarge) && sent == 1:
		d.up.room.tooLarge(size)
		d.leaveOut(&first.header, size)
		return n, 0, nil
	default:
		span.Fail(err)
		if remote.IsStatus(err, http.StatusRequestEntityTooLarge) {
			d.up.room.tooLarge(size)
		} else if ofWhatWasSent(ctx, err) {
			d.up.room.broke(size)
		}
		return before, sent, err
	}
	if len(refused) > 0 {
		d.agent.log.Error("the server refused entries as damaged on the way", "remote", d.up.remote.URL, "actions", refused)
	}
	d.add(int64(sent-len(refused)), stored)
	return n, sent, nil
}

// buffers are used again for each body of a batch.
type buffers struct{ plain, stored []byte }

// An outgoing is an entry that is about to be sent.
type outgoing struct {
	header entry.Header
	stored []byte        // the stored body; nil: it is too large for RAM
	plain  io.ReadSeeker // then the body
	file   *os.File
}

// outgoingBytes is what an entry takes besides its stored body, at most.
const outgoingBytes = 1 + entry.MaxHeader - 2*entry.MaxText

func (o *outgoing) bytes() int64 { return outgoingBytes + o.header.Stored }

func (o *outgoing) close() {
	if o.file != nil {
		o.file.Close()
	}
}

// send writes the entry to a stream. The error is the stream's.
func (o *outgoing) send(codec *body.Codec, w *entry.StreamWriter) error {
	if o.plain == nil {
		return w.Entry(&o.header, bytes.NewReader(o.stored))
	}
	pr, pw := io.Pipe()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		// Where it cannot be read any more, other bytes are sent and refused.
		o.plain.Seek(0, io.SeekStart)
		pw.CloseWithError(codec.Send(&o.header, pw, o.plain))
	}()
	err := w.Entry(&o.header, pr)
	pr.Close()
	<-sent
	return err
}

// prepare returns an entry to send; nil if it is not in the store any more, or not what
// it was, or too large: then it is left out.
func (d *delivery) prepare(p session.Put, buf *buffers) *outgoing {
	object, err := d.store.Peek(p.Action)
	if err != nil || p.Output != (entry.OutputID{}) && p.Output != object.OutputID {
		return nil // it is gone, or another one has been put since
	}
	f, err := os.Open(object.DiskPath)
	if err != nil {
		d.agent.log.Error("an output cannot be read and is not uploaded", "path", object.DiskPath, "error", err)
		return nil
	}
	o := &outgoing{header: entry.Header{ActionID: p.Under, OutputID: object.OutputID, Size: object.Size, Time: object.Time, Cost: p.Cost}}
	if object.Size > body.InRAM {
		o.plain, o.file = f, f
		if err := d.agent.codec.Measure(&o.header, f); err != nil {
			d.damaged(object.DiskPath, err)
		} else if d.passing(o) != nil {
			return o
		}
		f.Close()
		return nil
	}
	defer f.Close()
	if int64(cap(buf.plain)) < object.Size {
		buf.plain = make([]byte, object.Size)
	}
	plain := buf.plain[:object.Size]
	if _, err := io.ReadFull(f, plain); err != nil || !isOutput(plain, object.OutputID) {
		d.damaged(object.DiskPath, err)
		return nil
	}
	o.stored = d.agent.codec.Pack(&o.header, plain, buf.stored)
	if o.header.Encoding != entry.Raw {
		buf.stored = o.stored
	}
	return d.passing(o)
}

// passing is the entry, or nil if it is none, or too large for what stands between.
func (d *delivery) passing(o *outgoing) *outgoing {
	if _, err := o.header.Append(nil); err != nil {
		d.agent.log.Error("an output cannot be sent as an entry and is not uploaded", "action", o.header.ActionID, "error", err)
		return nil
	}
	if !d.up.room.fits(o.bytes()) {
		d.leaveOut(&o.header, o.bytes())
		return nil
	}
	return o
}

// damaged notes an output that is not what its name says, or cannot be read (err).
func (d *delivery) damaged(path string, err error) {
	var mismatch *entry.MismatchError
	if err != nil && !errors.As(err, &mismatch) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		d.agent.log.Error("an output cannot be read and is not uploaded", "path", path, "error", err)
	} else {
		d.agent.log.Error("an output is damaged and is not uploaded; run larder verify", "path", path)
	}
	d.up.sayOf("damaged "+d.job.Store, "an output in "+d.job.Store+" is damaged or cannot be read, and is not uploaded; all others are; run \"larder verify\"")
}

func isOutput(plain []byte, out entry.OutputID) bool { return sha256.Sum256(plain) == out }
