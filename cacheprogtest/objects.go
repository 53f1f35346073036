package cacheprogtest

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"

	"github.com/larder-build/larder/cacheprog"
)

// plainBytes is the size of a body whose size does not matter: small, no power of two, a multiple of base64's three.
const plainBytes = 3000

// An object is an action with what is put under it.
type object struct {
	action cacheprog.ActionID
	output cacheprog.OutputID
	size   int64
	seed   [32]byte // of the body
}

// newObject makes an action that no store has, with a body of its own.
func newObject(size int64) object {
	return object{action: randomID()}.with(size)
}

// with is the same action with another body.
func (o object) with(size int64) object {
	o.size, o.seed = size, randomID()
	h := sha256.New()
	io.Copy(h, o.body())
	h.Sum(o.output[:0])
	return o
}

// body returns the body, from its beginning.
func (o object) body() io.Reader {
	return io.LimitReader(rand.NewChaCha8(o.seed), o.size)
}

// bytes returns the whole body.
func (o object) bytes() []byte {
	data, _ := io.ReadAll(o.body()) // from memory
	return data
}

// request is the request that puts the object.
func (o object) request() cacheprog.Request {
	return cacheprog.Request{Command: cacheprog.CmdPut, ActionID: o.action[:], OutputID: o.output[:], Body: o.body(), BodySize: o.size}
}

// isIn says what is wrong with the file that is to hold the object, or nothing.
func (o object) isIn(path string) (wrong string) {
	f, err := os.Open(path)
	if err != nil {
		return "cannot be opened: " + err.Error()
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	switch {
	case err != nil:
		return "cannot be read: " + err.Error()
	case n < o.size:
		return "is shorter than the body"
	case n > o.size:
		return "is longer than the body"
	case !bytes.Equal(h.Sum(nil), o.output[:]):
		return "has other bytes than the body"
	}
	return ""
}

// sendGet asks for an action.
func (s *session) sendGet(id cacheprog.ActionID) *call {
	return s.send(cacheprog.Request{Command: cacheprog.CmdGet, ActionID: id[:]})
}

// get asks for an action and waits for the answer.
func (s *session) get(id cacheprog.ActionID) cacheprog.Response {
	return s.await(s.sendGet(id))
}

// put puts an object and waits for an answer, which must not be an error.
func (s *session) put(o object) cacheprog.Response {
	s.needs(cacheprog.CmdPut)
	return s.stored(s.send(o.request()), o)
}

// stored waits for the answer to a put, which must not be an error.
func (s *session) stored(c *call, o object) cacheprog.Response {
	res := s.await(c)
	if res.Err != "" {
		s.t.failf("a put of %d bytes is answered with the error %q", o.size, res.Err)
	}
	return res
}

// isHit reports whether the go command takes an answer to get for a hit (cmd/go/internal/cache/prog.go, Get).
func isHit(res cacheprog.Response) bool { return res.Err == "" && !res.Miss && res.DiskPath != "" }

// hit asks for an object that has been put, and skips the check if the program does not have it: that is for other checks.
func (s *session) hit(o object) cacheprog.Response {
	s.needs(cacheprog.CmdGet)
	res := s.get(o.action)
	if !isHit(res) {
		s.t.skipf("a get of what has been put is no hit, see put-get and next-process")
	}
	return res
}

// hold demands that a hit's file is the object's.
func (t *trial) hold(o object, res cacheprog.Response, when string) {
	if wrong := o.isIn(res.DiskPath); wrong != "" {
		t.failf("%s, the file of a body of %d bytes, %s, %s", when, o.size, res.DiskPath, wrong)
	}
}
