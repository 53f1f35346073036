package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/store"
)

// What a dry run used is what was there or is there now, each once, in order; but
// not what it made alone.
func TestReadUsed(t *testing.T) {
	id := func(n byte) entry.ActionID { return entry.ActionID{n} }
	for _, tt := range []struct {
		log  string
		want []entry.ActionID
	}{
		{"hit 1|missed 2|put 3|hit 1|hit 3|hit 4", []entry.ActionID{id(1), id(3), id(4)}},
		{"missed 1|put 1|hit 1", nil},
		{"missed 1", nil},
		{"", nil},
	} {
		var lines []string
		for line := range strings.SplitSeq(tt.log, "|") {
			what, n, _ := strings.Cut(line, " ")
			if n != "" {
				line = what + " " + id(n[0]-'0').String()
			}
			lines = append(lines, line)
		}
		lines = append(lines, "hit of something else", "hit 1234")
		got, err := readUsed(bufio.NewScanner(strings.NewReader(strings.Join(lines, "\n"))))
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %v, %v", tt.log, got, err)
		}
	}
}

// New entries are sent in any case, others if the server lacks them; what has gone
// is neither sent nor used.
func TestChoose(t *testing.T) {
	dir := t.TempDir()
	s := store.Open(store.Options{Dir: dir})
	defer s.Close()
	var used []entry.ActionID
	for n := range byte(5) {
		body := []byte{n}
		if n != 3 {
			if _, err := s.Put(entry.ActionID{n}, sha256.Sum256(body), 1, bytes.NewReader(body)); err != nil {
				t.Fatal(err)
			}
		}
		used = append(used, entry.ActionID{n})
	}
	isNew := func(id entry.ActionID, put time.Time) bool {
		if time.Since(put) > time.Minute {
			t.Errorf("%v was put at %v", id, put)
		}
		return id[0]%2 == 0
	}
	job := session.Job{Store: dir}
	fresh, others := choose(&job, owner{}, used, isNew)
	for i := range job.Puts {
		if job.Puts[i].Output != sha256.Sum256(job.Puts[i].Action[:1]) {
			t.Errorf("put %d has another output", i)
		}
		job.Puts[i].Output = entry.OutputID{}
	}
	if fresh != 3 || others != 0 || job.Unsure != 1 || !slices.Equal(job.Used, []entry.ActionID{{0}, {1}, {2}, {4}}) ||
		!slices.Equal(job.Puts, []session.Put{{Action: entry.ActionID{0}}, {Action: entry.ActionID{2}}, {Action: entry.ActionID{4}}, {Action: entry.ActionID{1}}}) {
		t.Errorf("%d new, %d others, job %+v", fresh, others, job)
	}

	// What was put before the store was the owner's alone is nobody's to send.
	last, err := s.Get(used[4])
	if err != nil {
		t.Fatal(err)
	}
	job = session.Job{Store: dir}
	if fresh, others := choose(&job, owner{since: last.Time}, used, isNew); fresh != 0 || others != 4 || len(job.Puts) != 0 {
		t.Errorf("%d new, %d others, job %+v", fresh, others, job)
	}
	job = session.Job{Store: dir}
	if fresh, others := choose(&job, owner{since: last.Time.Add(-1)}, used, isNew); fresh != 1 || others != 3 || job.Puts[0].Action != used[4] {
		t.Errorf("%d new, %d others, job %+v", fresh, others, job)
	}
}

// Commands that compile are counted, as go build -n and refused tools name them.
func TestCompiled(t *testing.T) {
	tools := "/go/pkg/tool/linux_amd64"
	const said = "mkdir -p $WORK/b001/\n/go/pkg/tool/linux_amd64/compile -o x -p a\nwrap /go/pkg/tool/linux_amd64/compile -o y\n" +
		"/go/pkg/tool/linux_amd64/link -o z\n# example.com/compile\n/other/compile x\n"
	if n := compiled(strings.NewReader(said), tools); n != 2 {
		t.Errorf("%d packages", n)
	}
	if n := compiled(strings.NewReader(strings.Repeat("x", 2<<20)+"\n"), tools); n != 0 {
		t.Errorf("%d packages", n)
	}
}
