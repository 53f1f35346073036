package cacheprogtest

import (
	"time"

	"github.com/larder-build/larder/cacheprog"
)

func closeAnswered(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdClose)
	s.exercise()
	c := s.sendClose()
	select {
	case res := <-c.answer:
		if res.Err != "" {
			t.failf("close is answered with the error %q", res.Err)
		}
		return
	case <-s.over:
	case <-t.ctx.Done():
		t.failf("close is not answered within %v, and the program does not leave", t.limit)
	}
	select {
	case res := <-c.answer:
		if res.Err != "" {
			t.failf("close is answered with the error %q", res.Err)
		}
	default:
		t.warnf("the program leaves without an answer to close")
	}
}

func closeExits(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdClose)
	s.exercise()
	c := s.sendClose()
	select {
	case <-c.answer:
	case <-s.over:
	case <-t.ctx.Done():
		t.failf("close is not answered within %v", t.limit)
	}
	s.w.Close()
	select {
	case <-s.over:
	case <-t.ctx.Done():
		t.failf("standard output is still open, %v after the program began; the go command waits for ever", t.limit)
	}
}

func closeLast(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdClose)
	known, o := newObject(plainBytes), newObject(plainBytes)
	s.put(known)
	s.hit(known)
	var data []byte
	var calls []*call
	for range 16 {
		calls = append(calls, s.next(&data, cacheprog.Request{Command: cacheprog.CmdGet, ActionID: known.action[:]}, nil))
	}
	calls = append(calls, s.next(&data, o.request(), o.bytes()))
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.next(&data, cacheprog.Request{Command: cacheprog.CmdClose}, nil)
	s.write(data)
	unanswered := 0
	for _, c := range calls {
		if _, ok := s.tolerate(c); !ok {
			unanswered++
		}
	}
	if unanswered > 0 {
		t.warnf("%d of %d requests that were sent before close have no answer", unanswered, len(calls))
	}
}

// mustLeave demands that the program's output ends, and the process.
func (s *session) mustLeave(why string) {
	for _, done := range []chan struct{}{s.over, s.exited} {
		select {
		case <-done:
		case <-s.t.ctx.Done():
			s.t.failf("%s the program is still there, %v after it began", why, s.t.limit)
		}
	}
}

func eofExits(t *trial) {
	s := t.begin()
	s.exercise()
	s.w.Close()
	s.mustLeave("when its input has ended,")
}

func cutBody(t *trial) {
	for _, cut := range []string{"line", "body"} {
		s := t.begin()
		o := newObject(200 * plainBytes)
		s.needs(cacheprog.CmdPut)
		var data []byte
		s.next(&data, o.request(), o.bytes())
		n := 40
		if cut == "body" {
			n = len(data) * 2 / 3
		}
		s.write(data[:n])
		s.w.Close()
		s.mustLeave("when its input has ended in the middle of a " + cut + ",")
		s = t.begin()
		s.needs(cacheprog.CmdGet)
		if res := s.get(o.action); isHit(res) {
			t.failf("a put that was cut off in its %s is a hit, whose file %s", cut, orWhole(o.isIn(res.DiskPath)))
		}
		s.kill()
	}
}

// orWhole is what is wrong with a file, or that nothing is.
func orWhole(wrong string) string {
	if wrong == "" {
		return "is whole"
	}
	return wrong
}

func killedMidway(t *trial) {
	if t.Connect != nil {
		t.skipf("there is no process to kill")
	}
	for range 3 {
		s := t.begin()
		s.needs(cacheprog.CmdPut, cacheprog.CmdGet)
		objects := []object{newObject(plainBytes), newObject(plainBytes), newObject(t.sizes.big)}
		s.put(objects[0])
		s.put(objects[1])
		var data []byte
		s.next(&data, objects[2].request(), objects[2].bytes())
		s.write(data[:len(data)*3/4])
		time.Sleep(5 * time.Millisecond)
		s.kill()
		s = t.begin()
		for _, o := range objects {
			if res := s.get(o.action); isHit(res) {
				if wrong := o.isIn(res.DiskPath); wrong != "" {
					t.failf("after a kill during a put, the file of a hit, %s, %s", res.DiskPath, wrong)
				}
			}
		}
		s.kill()
	}
}
