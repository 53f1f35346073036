package agent

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/store"
)

// pendingBytes bounds what has been received and not been written yet. It keeps
// the network and all CPUs busy, and the agent's memory in bounds.
const (
	pendingBytes = 32 << 20
	pendingMax   = 256 // entries
)

// A placer brings received entries into stores: it decodes, compares and writes
// them, on all CPUs.
type placer struct {
	codec   *body.Codec
	room    *semaphore.Weighted // of pendingBytes
	jobs    chan placing
	workers sync.WaitGroup
	buffers sync.Pool // of *[]byte, for stored bodies
}

type placing struct {
	store  *store.Store
	header entry.Header
	stored *[]byte
	done   func(error)
}

func newPlacer(codec *body.Codec) *placer {
	p := &placer{codec: codec, room: semaphore.NewWeighted(pendingBytes), jobs: make(chan placing, pendingMax)}
	p.buffers.New = func() any { return new([]byte) }
	for range runtime.GOMAXPROCS(0) {
		p.workers.Add(1)
		go p.work()
	}
	return p
}

// close waits until all is placed. Nothing may be placed any more.
func (p *placer) close() {
	close(p.jobs)
	p.workers.Wait()
}

func (p *placer) work() {
	defer p.workers.Done()
	var plain []byte // kept: most bodies fit into the last one's
	for j := range p.jobs {
		out, err := p.codec.Unpack(&j.header, (*j.stored)[:j.header.Stored], plain)
		if err == nil {
			err = j.store.Import(j.header.ActionID, j.header.OutputID, j.header.Size, j.header.Time, bytes.NewReader(out))
		}
		if cap(out) > cap(plain) && j.header.Encoding != entry.Raw {
			plain = out
		}
		p.buffers.Put(j.stored)
		p.room.Release(weight(&j.header))
		j.done(err)
	}
}

func weight(h *entry.Header) int64 { return max(h.Stored, 1) }

// place reads the stored body of an entry from r and has it placed; done is told
// the outcome. An error is r's or ctx's, and done is not called then. A body that
// is too large for RAM is placed before place returns.
func (p *placer) place(ctx context.Context, s *store.Store, h *entry.Header, r io.Reader, done func(error)) error {
	if h.Stored > body.InRAM || h.Size > body.InRAM {
		return p.placeLarge(s, h, r, done)
	}
	if err := p.room.Acquire(ctx, weight(h)); err != nil {
		return err
	}
	buf := p.buffers.Get().(*[]byte)
	if int64(cap(*buf)) < h.Stored {
		*buf = make([]byte, h.Stored)
	}
	if _, err := io.ReadFull(r, (*buf)[:h.Stored]); err != nil {
		p.buffers.Put(buf)
		p.room.Release(weight(h))
		return err
	}
	p.jobs <- placing{s, *h, buf, done}
	return nil
}

func (p *placer) placeLarge(s *store.Store, h *entry.Header, r io.Reader, done func(error)) error {
	tracked := &trackedReader{r: r}
	plain, err := body.NewReader(h, tracked)
	if err != nil {
		done(err)
		return nil
	}
	defer plain.Close()
	err = s.Import(h.ActionID, h.OutputID, h.Size, h.Time, plain)
	if tracked.err != nil && tracked.err != io.EOF {
		return tracked.err
	}
	done(err)
	return nil
}

// A trackedReader remembers its reader's error, to tell it from a decoder's.
type trackedReader struct {
	r   io.Reader
	err error
}

func (t *trackedReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.err = err
	return n, err
}
