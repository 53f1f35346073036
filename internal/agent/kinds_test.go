package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/body"
	kind "github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/stats"
	"github.com/larder-build/larder/internal/store"
)

// What has come from another machine is of a known kind, and its cost is known if
// the other machine knew it: nothing is a cost, and less than a millisecond is one.
func TestKindsAndCosts(t *testing.T) {
	large := "!<arch>\n" + strings.Repeat("x", body.InRAM) // is not placed from RAM
	entries := []struct {
		body     string
		cost     time.Duration // as it is uploaded
		want     time.Duration
		wantKind kind.Kind
	}{
		{"!<arch>\n", 2 * time.Second, 2 * time.Second, kind.Package},
		{large, time.Second, time.Second, kind.Package},
		{"", entry.CostNothing, 0, kind.Message},
		{"", time.Second, time.Second, kind.Vet},
		{"", 0, stats.NoCost, kind.Unknown},
		{"go index v2\n", time.Millisecond / 2, 0, kind.Index},
		{"go index v2\nx", 0, stats.NoCost, kind.Index},
		{"./a.go\n", 0, 0, kind.Source},
	}
	tm := startTeam(t)
	one := startMachine(t)
	s := store.Open(store.Options{Dir: one.dir})
	job := &session.Job{Remote: session.Remote{URL: tm.url}, Store: one.dir, Manifest: key, Time: time.Now()}
	id := func(i int) entry.ActionID { return sha256.Sum256(fmt.Append(nil, "kind", i)) }
	for i, e := range entries {
		if _, err := s.Put(id(i), sha256.Sum256([]byte(e.body)), int64(len(e.body)), bytes.NewReader([]byte(e.body))); err != nil {
			t.Fatal(err)
		}
		job.Used = append(job.Used, id(i))
		job.Puts = append(job.Puts, session.Put{Action: id(i), Cost: e.cost})
	}
	s.Close()
	if err := job.Write(one.place); err != nil {
		t.Fatal(err)
	}
	if r, err := one.flush(); err != nil || r.Queued != 0 {
		t.Fatalf("flush: %+v, %v", r, err)
	}

	two := startMachine(t)
	c := two.connect(tm, key, nil)
	// The last one first, whose cost is unknown: it is waited for, and the others have
	// come then, however slow the machine is.
	for i := len(entries) - 1; i >= 0; i-- {
		if !c.Get(context.Background(), id(i)) {
			t.Errorf("entry %d did not come", i)
		}
	}
	c.End(time.Minute)
	costs := stats.OpenCosts(two.dir)
	for i, e := range entries {
		sum := costs.Sum([]stats.Key{stats.KeyOf(id(i))})
		if e.want == stats.NoCost && sum.Unknown != 1 || e.want != stats.NoCost && (sum.Unknown != 0 || sum.Cost != e.want) || sum.Kinds[e.wantKind] != 1 {
			t.Errorf("entry %d: %+v; want %v, %v", i, sum, e.want, e.wantKind)
		}
	}
}
