package agent

import (
	"bytes"
	"context"
	"io"
	"math/bits"
	"runtime"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/store"
)

// pendingBytes bounds what has been received and not been written yet. It keeps
// the network and all CPUs busy, and the agent's memory in bounds.
const (
	pendingBytes = 16 << 20
	pendingMax   = 256 // entries
	// smallBytes is the size of the smallest buffers: nine of ten stored bodies fit.
	smallBytes = 64 << 10
)

// A placer brings received entries into stores: it decodes, compares and writes
// them, on all CPUs.
type placer struct {
	codec   *body.Codec
	room    *semaphore.Weighted // of pendingBytes
	jobs    chan placing
	workers sync.WaitGroup
	// Buffers for stored bodies by size, each twice as large as the one before.
	buffers [8]sync.Pool // of *[]byte; body.InRAM is smallBytes<<7
}

// A placing is an entry on its way into a store. Its body says which action it is of,
// and whether it is wanted: name is told whether it is portable, and an error of
// name's is the outcome.
type placing struct {
	store  *store.Store
	header entry.Header
	name   func(portable bool) (entry.ActionID, error)
	done   func(entry.ActionID, content.Kind, error) // is told the outcome

	// Of one that waits for a worker:
	ctx    context.Context // is done when it is not wanted any more
	stored *[]byte
}

func newPlacer(codec *body.Codec) *placer {
	p := &placer{codec: codec, room: semaphore.NewWeighted(pendingBytes), jobs: make(chan placing, pendingMax)}
	for i := range p.buffers {
		p.buffers[i].New = func() any { b := make([]byte, smallBytes<<i); return &b }
	}
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
		if err := j.ctx.Err(); err != nil {
			p.release(j.stored)
			j.done(j.header.ActionID, content.Unknown, err)
			continue
		}
		out, err := p.codec.Unpack(&j.header, (*j.stored)[:j.header.Stored], plain)
		var id entry.ActionID
		if err == nil {
			id, err = j.name(isPortable(&j.header, out))
		}
		if err == nil {
			err = j.store.Import(id, j.header.OutputID, j.header.Size, j.header.Time, bytes.NewReader(out))
		}
		kind := content.Of(out)
		if cap(out) > cap(plain) && j.header.Encoding != entry.Raw {
			plain = out
		}
		p.release(j.stored)
		j.done(id, kind, err)
	}
}

// acquire returns a buffer for a stored body, once there is room for it.
func (p *placer) acquire(ctx context.Context, h *entry.Header) (*[]byte, error) {
	class := sizeClass(h.Stored)
	if err := p.room.Acquire(ctx, smallBytes<<class); err != nil {
		return nil, err
	}
	return p.buffers[class].Get().(*[]byte), nil
}

func (p *placer) release(buf *[]byte) {
	p.buffers[sizeClass(int64(len(*buf)))].Put(buf)
	p.room.Release(int64(len(*buf)))
}

// sizeClass is the index of the buffers that hold n bytes.
func sizeClass(n int64) int { return bits.Len64(uint64(max(n-1, 0)) / smallBytes) }

// place reads the stored body of an entry from r and has it placed. An error is r's
// or ctx's, and done is not called then. A body that is too large for RAM is placed
// before place returns.
func (p *placer) place(ctx context.Context, j placing, r io.Reader) error {
	h := &j.header
	if h.Stored > body.InRAM || h.Size > body.InRAM {
		return p.placeLarge(j, r)
	}
	buf, err := p.acquire(ctx, h)
	if err != nil {
		return err
	}
	if _, err := io.ReadFull(r, (*buf)[:h.Stored]); err != nil {
		p.release(buf)
		return err
	}
	j.ctx, j.stored = ctx, buf
	p.jobs <- j
	return nil
}

func (p *placer) placeLarge(j placing, r io.Reader) error {
	h := &j.header
	tracked := &trackedReader{r: r}
	plain, err := body.NewReader(h, tracked)
	if err != nil {
		j.done(h.ActionID, content.Unknown, err)
		return nil
	}
	defer plain.Close()
	seen := content.Reader{R: plain}
	var id entry.ActionID
	err = j.store.ImportNamed(func() (_ entry.ActionID, err error) {
		id, err = j.name(seen.Portable())
		return id, err
	}, h.OutputID, h.Size, h.Time, &seen)
	if tracked.err != nil && tracked.err != io.EOF {
		return tracked.err
	}
	j.done(id, seen.Kind(), err)
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
