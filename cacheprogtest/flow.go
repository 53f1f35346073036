package cacheprogtest

import (
	"bytes"
	"slices"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

func concurrentGets(t *trial) {
	const entries, requests = 20, 500
	s := t.begin()
	var objects []object
	for i := range entries {
		o := newObject(plainBytes + int64(3*i))
		s.put(o)
		s.hit(o)
		objects = append(objects, o)
	}
	var calls []*call
	for i := range requests {
		if i%2 == 0 {
			calls = append(calls, s.sendGet(objects[i/2%entries].action))
		} else {
			calls = append(calls, s.sendGet(randomID()))
		}
	}
	for i, c := range calls {
		res := s.await(c)
		o := objects[i/2%entries]
		switch {
		case i%2 == 1 && isHit(res):
			t.failf("with %d gets under way, one for an unknown action is a hit", requests)
		case i%2 == 0 && !isHit(res):
			t.failf("with %d gets under way, one for what has been put is no hit%s", requests, errText(res))
		case i%2 == 0:
			t.hold(o, res, "with hundreds of gets under way")
		}
	}
}

// errText is an answer's error for a message.
func errText(res cacheprog.Response) string {
	if res.Err == "" {
		return ""
	}
	return ", but the error " + res.Err
}

func pipelinedPuts(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdPut)
	var objects []object
	var calls []*call
	for i := range 64 {
		o := newObject(plainBytes * int64(1+i%4*8))
		objects = append(objects, o)
		calls = append(calls, s.send(o.request()))
	}
	for i, c := range calls {
		s.stored(c, objects[i])
	}
	for _, o := range objects {
		t.hold(o, s.hit(o), "after puts that did not wait for each other")
	}
}

func behindBody(t *trial) {
	s := t.begin()
	known := newObject(plainBytes)
	s.put(known)
	s.hit(known)
	for _, size := range []int64{plainBytes, 100 * plainBytes} {
		// One write, so that a program that reads ahead has the gets in its buffer.
		o := newObject(size)
		var data []byte
		put := s.next(&data, o.request(), o.bytes())
		var gets []*call
		for range 8 {
			gets = append(gets, s.next(&data, cacheprog.Request{Command: cacheprog.CmdGet, ActionID: known.action[:]}, nil))
		}
		s.write(data)
		for _, c := range gets {
			if res := s.await(c); res.Err != "" {
				t.failf("a get right behind a body is answered with the error %q", res.Err)
			}
		}
		s.stored(put, o)
	}
}

// next appends a request to data that is to be written at once.
func (s *session) next(data *[]byte, r cacheprog.Request, body []byte) *call {
	s.lastID++
	r.ID = s.lastID
	*data = append(*data, frame(r, body)...)
	return s.register(r.ID, string(r.Command))
}

func slowBody(t *trial) {
	s := t.begin()
	known := newObject(plainBytes)
	s.put(known)
	s.hit(known)
	var data []byte
	var gets []*call
	for i := range 8 {
		id := known.action
		if i%2 == 1 {
			id = randomID()
		}
		gets = append(gets, s.next(&data, cacheprog.Request{Command: cacheprog.CmdGet, ActionID: id[:]}, nil))
	}
	o := newObject(plainBytes)
	before := len(data)
	put := s.next(&data, o.request(), o.bytes())
	half := before + (len(data)-before)/2
	s.write(data[:half])
	for _, c := range gets {
		if _, ok := s.tolerate(c); !ok {
			t.warnf("gets that were sent before a put are not answered while its body is on its way, for %v", t.limit/4)
		}
	}
	s.write(data[half:])
	s.stored(put, o)
}

func dribbledBody(t *trial) {
	s := t.begin()
	for _, piece := range []int{1, 2, 3, 5, 13} {
		o := newObject(plainBytes / 50)
		var data []byte
		put := s.next(&data, o.request(), o.bytes())
		for p := range slices.Chunk(data, piece) {
			s.write(bytes.Clone(p))
			time.Sleep(100 * time.Microsecond) // so that a read finds this piece alone
		}
		s.stored(put, o)
		t.hold(o, s.hit(o), "after a put in small pieces")
	}
}
