package cacheprogtest

import (
	"slices"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

func helloFirst(t *trial) {
	s := t.launch()
	s.awaitFirst()
	first := s.first.answer
	switch {
	case len(s.early) > 0:
		t.failf("before its capabilities the program writes %s", s.early[0])
	case first.ID != 0:
		t.failf("the first message has ID %d", first.ID)
	case first.Err != "":
		t.failf("the first message has the error %q", first.Err)
	case len(first.KnownCommands) == 0:
		t.failf("the first message declares no commands")
	}
}

// The go command's patience, and what is still prompt: a start of a large program on a slow disk, with a reserve.
const (
	helloLimit  = 5 * time.Second
	promptLimit = time.Second
)

// helloPrompt times a few starts and takes the fastest, as a machine has its moments.
func helloPrompt(t *trial) {
	fastest := t.limit
	for range 3 {
		begin := time.Now()
		t.launch().awaitFirst()
		if fastest = min(fastest, time.Since(begin)); fastest < promptLimit {
			return
		}
		if fastest > helloLimit {
			break
		}
	}
	if fastest > helloLimit {
		t.failf("the capabilities come after %v", fastest.Round(time.Millisecond))
	}
	t.warnf("the capabilities come after %v", fastest.Round(time.Millisecond))
}

func helloOnce(t *trial) {
	s := t.begin()
	s.exercise()
	if n := s.noted().hellos; n > 0 {
		t.failf("%d further messages with capabilities or ID 0", n)
	}
}

func helloCommands(t *trial) {
	s := t.begin()
	for _, c := range []cacheprog.Cmd{cacheprog.CmdGet, cacheprog.CmdPut, cacheprog.CmdClose} {
		if !slices.Contains(s.known, c) {
			t.warnf("%q is not offered, only %q", c, s.known)
		}
	}
}

// exercise has the program do all that it can, once or twice, and gives what it may write too much time to arrive.
func (s *session) exercise() {
	get := slices.Contains(s.known, cacheprog.CmdGet)
	o := newObject(plainBytes)
	for range 2 {
		if get {
			s.get(randomID())
		}
		if slices.Contains(s.known, cacheprog.CmdPut) {
			s.await(s.send(o.request()))
		}
		if get {
			s.get(o.action)
		}
	}
	timer := time.NewTimer(settle)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.over:
	}
}

// settle is how long a stray message may lag behind the answer that it strays from.
const settle = 20 * time.Millisecond
