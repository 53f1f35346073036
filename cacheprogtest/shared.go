package cacheprogtest

import (
	"fmt"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

func secondProcess(t *trial) {
	first := t.begin()
	one := newObject(plainBytes)
	first.put(one)
	second := t.begin()
	for _, s := range []*session{second, first, second} {
		o := newObject(plainBytes)
		s.put(o)
		t.hold(o, s.hit(o), "with two processes on one store")
	}
	second.finish()
	t.hold(one, first.hit(one), "when another process on the store has left")
}

// sameAction interleaves the bodies of two processes, in both orders, and then has several put at once.
func sameAction(t *trial) {
	a := t.begin()
	a.needs(cacheprog.CmdPut, cacheprog.CmdGet)
	b := t.second()
	first := newObject(t.sizes.big)
	second := first.with(t.sizes.big / 2)

	var data []byte
	put := a.next(&data, first.request(), first.bytes())
	a.write(data[:len(data)/2])
	path := b.put(second).DiskPath
	whole := path != "" && second.isIn(path) == "" // or it is for put-body
	t.oneOf(b, "while another process is putting the same action", first, second)
	a.write(data[len(data)/2:])
	a.stored(put, first)
	if wrong := second.isIn(path); whole && wrong != "" {
		t.failf("when a second process has put the same action, the file that the first has named, %s, %s", path, wrong)
	}
	t.oneOf(a, "when two processes have put the same action", first, second)
	t.oneOf(b, "when two processes have put the same action", first, second)

	const rounds = 16
	sessions := []*session{a, b, t.second(), t.second()}
	for range rounds {
		candidates := []object{newObject(plainBytes)}
		for range len(sessions) - 1 {
			candidates = append(candidates, candidates[0].with(plainBytes))
		}
		var calls []*call
		for i, s := range sessions {
			calls = append(calls, s.send(candidates[i].request()))
		}
		for i, c := range calls {
			sessions[i].stored(c, candidates[i])
			t.oneOf(sessions[i], "while four processes put the same action", candidates...)
		}
	}
}

// second is begin for a check that is not about whether there can be a second process.
func (t *trial) second() *session {
	s := t.launch()
	select {
	case <-s.began:
		s.known = s.first.answer.KnownCommands
	case <-s.over:
	case <-time.After(t.limit / 2):
	}
	if len(s.known) == 0 {
		t.skipf("a second process does not begin, see second-process")
	}
	return s
}

// oneOf demands that a hit, if it is one, is one of several objects.
func (t *trial) oneOf(s *session, when string, objects ...object) {
	res := s.get(objects[0].action)
	if !isHit(res) {
		return
	}
	var wrongs []string
	for _, o := range objects {
		wrong := o.isIn(res.DiskPath)
		if wrong == "" {
			if len(res.OutputID) == len(o.output) && o.output != cacheprog.OutputID(res.OutputID) {
				t.failf("%s, a hit has one's OutputID and another's file, %s", when, res.DiskPath)
			}
			return
		}
		wrongs = append(wrongs, wrong)
	}
	t.failf("%s, the file of a hit, %s, is none of the bodies: %s", when, res.DiskPath, fmt.Sprint(wrongs))
}
