package cacheprogtest

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/larder-build/larder/cacheprog"
)

func unknownCommand(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdGet)
	for _, name := range []cacheprog.Cmd{"get2", "Get", ""} {
		id := randomID()
		c := s.send(cacheprog.Request{Command: name, ActionID: id[:]})
		c.what = fmt.Sprintf("the unknown command %q", name)
		res, ok := s.tolerate(c)
		if !ok {
			t.warnf("the unknown command %q has no answer: the program ends, or waits", name)
		}
		if res.Err == "" {
			t.warnf("the unknown command %q is answered without an error", name)
		}
		if _, ok := s.tolerate(s.sendGet(randomID())); !ok {
			t.warnf("after the unknown command %q a get has no answer: the program ends, or waits", name)
		}
	}
}

// tolerate waits for an answer, and does not fail if there is none in good time.
func (s *session) tolerate(c *call) (res cacheprog.Response, ok bool) {
	timer := time.NewTimer(s.t.limit / 4)
	defer timer.Stop()
	select {
	case res = <-c.answer:
		return res, true
	case <-s.over:
	case <-timer.C:
	}
	select {
	case res = <-c.answer: // which came before the end
		return res, true
	default:
		return res, false
	}
}

func unknownFields(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdGet, cacheprog.CmdPut)
	s.inForm(form{
		get: `{"ID":$id,"Command":"get","ActionID":"$action","Deadline":{"Seconds":[1,2.5e3,null]}}` + "\n\n",
		put: `{"ID":$id,"Command":"put","ActionID":"$action","OutputID":"$output","ObjectID":"$output","Executable":true,"Name":"a}b\"c","BodySize":$size}` + "\n\n",
	})
}

func jsonForms(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdGet, cacheprog.CmdPut)
	for _, f := range []form{
		{ // one line end, as the comment on Request says; the go command sends two
			get: `{"ID":$id,"Command":"get","ActionID":"$action"}` + "\n",
			put: `{"ID":$id,"Command":"put","ActionID":"$action","OutputID":"$output","BodySize":$size}` + "\n",
		},
		{ // another order
			get: `{"ActionID":"$action","ID":$id,"Command":"get"}` + "\n\n",
			put: `{"BodySize":$size,"OutputID":"$output","ActionID":"$action","Command":"put","ID":$id}` + "\n\n",
		},
		{ // white space
			get: `{ "ID" : $id , "Command" :"get",` + "\t" + `"ActionID": "$action" }` + " \n\n",
			put: `{ "ID" : $id , "Command" :"put",` + "\t" + `"ActionID": "$action", "OutputID" :"$output" ,"BodySize": $size }` + " \n\n",
		},
		{ // escapes
			get: `{"ID":$id,"\u0043ommand":"g\u0065t","ActionID":"$escaped"}` + "\n\n",
			put: `{"ID":$id,"Comm\u0061nd":"\u0070ut","ActionID":"$escaped","OutputID":"$output","BodySize":$size}` + "\n\n",
		},
	} {
		s.inForm(f)
	}
}

// A form is how requests are written, with $id, $action, $output, $size, and $escaped for an action with escapes.
type form struct{ get, put string }

// inForm puts and gets an object in an unusual form.
func (s *session) inForm(f form) {
	o := newObject(plainBytes)
	action := base64.StdEncoding.EncodeToString(o.action[:])
	send := func(what, line, body string) cacheprog.Response {
		s.lastID++
		line = strings.NewReplacer(
			"$id", strconv.FormatInt(s.lastID, 10),
			"$action", action,
			"$escaped", strings.ReplaceAll(fmt.Sprintf(`\u%04x`, action[0])+action[1:], "/", `\/`),
			"$output", base64.StdEncoding.EncodeToString(o.output[:]),
			"$size", strconv.FormatInt(o.size, 10),
		).Replace(line)
		c := s.register(s.lastID, what)
		s.write([]byte(line + body))
		res, ok := s.tolerate(c)
		switch {
		case !ok:
			s.t.warnf("the %s %s has no answer: the program ends, or waits", what, strings.TrimSpace(line))
		case res.Err != "":
			s.t.warnf("the %s %s is answered with the error %q", what, strings.TrimSpace(line), res.Err)
		}
		return res
	}
	send("put", f.put, `"`+base64.StdEncoding.EncodeToString(o.bytes())+"\"\n")
	s.hit(o)
	res := send("get", f.get, "")
	if !isHit(res) {
		s.t.warnf("a get in an unusual form is no hit")
	}
	if wrong := o.isIn(res.DiskPath); wrong != "" {
		s.t.warnf("after a put in an unusual form, the hit's file %s", wrong)
	}
}

func largeID(t *trial) {
	s := t.begin()
	s.needs(cacheprog.CmdGet)
	for _, id := range []int64{1<<31 - 1, 1 << 31, 1 << 32, 1<<53 + 1, 1<<63 - 1} {
		action := randomID()
		c := s.sendAs(id, cacheprog.Request{Command: cacheprog.CmdGet, ActionID: action[:]})
		if _, ok := s.tolerate(c); !ok {
			t.warnf("the get with ID %d has no answer; answers to unknown IDs: %v", id, s.noted().unknown)
		}
	}
}
