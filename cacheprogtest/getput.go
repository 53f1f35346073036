package cacheprogtest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

func miss(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdGet)
	for range 3 {
		switch res := s.get(randomID()); {
		case res.Err != "":
			t.failf("the get is answered with the error %q", res.Err)
		case res.Miss:
		case res.DiskPath == "":
			t.failf("the get is answered with neither Miss nor a DiskPath")
		default:
			t.failf("the get is a hit with %s", res.DiskPath)
		}
	}
}

func missAfterRestart(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdGet)
	s.put(newObject(plainBytes))
	s.finish()
	s = t.begin()
	for range 3 {
		if res := s.get(randomID()); isHit(res) {
			t.failf("the get is a hit with %s", res.DiskPath)
		}
	}
}

func wholeKey(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdGet)
	o := newObject(plainBytes)
	s.put(o)
	for _, i := range []int{0, 1, 7, 8, 15, 16, 19, 20, 30, 31} {
		near := o.action
		near[i] ^= 1
		if isHit(s.get(near)) {
			t.failf("an action that differs only in byte %d from one that has been put is a hit", i)
		}
	}
}

func putGet(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdGet)
	o := newObject(plainBytes)
	s.put(o)
	switch res := s.get(o.action); {
	case res.Err != "":
		t.failf("the get is answered with the error %q", res.Err)
	case res.Miss:
		t.failf("the get is a miss")
	case res.DiskPath == "":
		t.failf("the get is answered with neither Miss nor a DiskPath")
	}
}

func nextProcess(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdGet)
	objects := []object{newObject(plainBytes), newObject(plainBytes), newObject(200 * plainBytes)}
	for _, o := range objects {
		s.put(o)
	}
	s.finish()
	s = t.begin()
	for _, o := range objects {
		res := s.get(o.action)
		if !isHit(res) {
			t.warnf("the get of what another process has put is a miss: every go command finds the cache empty")
		}
		t.hold(o, res, "in the next process")
	}
}

func getOutputID(t *trial) {
	s := t.begin()
	o := newObject(plainBytes)
	s.put(o)
	if res := s.hit(o); !bytes.Equal(res.OutputID, o.output[:]) {
		t.failf("the hit has the OutputID %x instead of %x", res.OutputID, o.output)
	}
}

func getSize(t *trial) {
	s := t.begin()
	for _, size := range []int64{plainBytes, 200 * plainBytes} {
		o := newObject(size)
		s.put(o)
		if res := s.hit(o); res.Size != size {
			t.failf("the hit has the Size %d, the body %d bytes", res.Size, size)
		}
	}
}

func timeKept(t *trial) {
	s := t.begin()
	o := newObject(plainBytes)
	begin := time.Now()
	s.put(o)
	end := time.Now()
	check := func(res cacheprog.Response, when string) {
		if res.Time == nil {
			t.warnf("the hit has no Time, %s; the go command takes the present", when)
		}
		if res.Time.Before(begin.Add(-t.sizes.clock)) || res.Time.After(end.Add(t.sizes.clock)) {
			t.failf("the hit's Time, %s, is %v, but the put was at %v", when, res.Time.Format(time.StampMilli), begin.In(res.Time.Location()).Format(time.StampMilli))
		}
	}
	// The second get is late enough for its own time to be told from the put's.
	check(s.hit(o), "in the same process")
	s.finish()
	select {
	case <-time.After(time.Until(end.Add(2 * t.sizes.clock))):
	case <-t.ctx.Done():
	}
	s = t.begin()
	check(s.hit(o), fmt.Sprintf("%v later in the next process", 2*t.sizes.clock))
}

func putPath(t *trial) {
	s := t.begin()
	for _, size := range []int64{plainBytes, 200 * plainBytes} {
		if s.put(newObject(size)).DiskPath == "" {
			t.failf("a put of %d bytes is answered without a DiskPath", size)
		}
	}
}

func putBody(t *trial) {
	s := t.begin()
	for _, size := range []int64{plainBytes, 200 * plainBytes, plainBytes} {
		o := newObject(size)
		res := s.put(o)
		if res.DiskPath == "" {
			t.skipf("a put is answered without a DiskPath, see put-path")
		}
		t.hold(o, res, "when the put is answered")
	}
}

func emptyBody(t *trial) {
	s := t.begin()
	o, next := newObject(0), newObject(plainBytes)
	// The program gets the next request at once, so one that waits for a body is found out.
	c := s.send(o.request())
	s.put(next)
	s.stored(c, o)
	res := s.hit(o)
	t.hold(o, res, "after a put")
	if res.Size != 0 {
		t.failf("the hit has the Size %d", res.Size)
	}
}

func bodySizes(t *trial) {
	s := t.begin()
	sizes := []int64{1, 2, 3, 4, 5, 6, 7, 8}
	for _, edge := range []int64{3 << 10, 4 << 10, 24 << 10, 32 << 10, 48 << 10, 64 << 10} {
		// A buffer may be full of the body or of its base64, with and without the quotes.
		for d := int64(-2); d <= 2; d++ {
			sizes = append(sizes, edge+d)
		}
	}
	for _, size := range append(sizes, 1<<20-1, 1<<20+1) {
		o := newObject(size)
		s.put(o)
		t.hold(o, s.hit(o), "after a put")
	}
}

func bodyLarge(t *trial) {
	s := t.begin()
	o := newObject(t.sizes.large)
	res := s.put(o)
	if res.DiskPath != "" {
		t.hold(o, res, "when the put is answered")
	}
	t.hold(o, s.hit(o), "after a put")
}

func memoryBounded(t *trial) {
	const bound = 64 << 20 // many buffers, and a garbage collector's generosity with them; far from a body
	if t.Connect != nil {
		t.skipf("there is no process to watch")
	}
	s := t.begin()
	s.put(newObject(plainBytes))
	before, err := peakMemory(s.process.Process.Pid)
	if err != nil {
		t.skipf("memory cannot be watched: %v", err)
	}
	s.needs(cacheprog.CmdPut)
	if res := s.await(s.send(newObject(t.sizes.memory).request())); res.Err != "" {
		t.skipf("the put is refused (%s), see body-large", res.Err)
	}
	after, err := peakMemory(s.process.Process.Pid)
	if err != nil {
		t.skipf("memory cannot be watched: %v", err)
	}
	if after-before > bound {
		t.warnf("while %d MB were put, peak memory grew from %d to %d MiB, more than by %d", t.sizes.memory/1e6, before>>20, after>>20, bound>>20)
	}
}

func lastWriteWins(t *trial) {
	s := t.begin()
	o := newObject(plainBytes)
	s.put(o)
	s.hit(o) // one more thing to be remembered wrongly
	for _, size := range []int64{plainBytes, 2 * plainBytes, plainBytes / 2} {
		o = o.with(size)
		s.put(o)
		if wrong := o.isIn(s.hit(o).DiskPath); wrong != "" {
			t.failf("after a second put with another body, the file of the hit %s", wrong)
		}
	}
}

func sharedOutput(t *trial) {
	s := t.begin()
	first := newObject(plainBytes)
	second := first
	second.action = randomID()
	s.put(first)
	s.hit(first)
	s.put(second)
	for _, o := range []object{first, second} {
		res := s.get(o.action)
		if !isHit(res) {
			t.failf("when two actions have one output, one of them is no hit")
		}
		t.hold(o, res, "when two actions have one output")
	}
}
