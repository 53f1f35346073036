package stats_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/stats"
)

// The form that docs/operations.md says.
func TestKindsJSON(t *testing.T) {
	kinds := stats.Kinds{content.Package: {Hits: 3, Misses: 1}, content.Unknown: {Misses: 2}}
	const want = `{"unknown":{"hits":0,"misses":2},"package":{"hits":3,"misses":1}}`
	got, err := json.Marshal(kinds)
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	var back stats.Kinds
	if err := json.Unmarshal(got, &back); err != nil || back != kinds {
		t.Errorf("read back %+v, %v", back, err)
	}
	later := `{"package":{"hits":3,"misses":1},"of a later Larder":{"hits":0,"misses":2,"more":1}}`
	if err := json.Unmarshal([]byte(later), &back); err != nil || back != kinds {
		t.Errorf("of a later Larder: %+v, %v", back, err)
	}
	if got, _ := json.Marshal(stats.Kinds{}); string(got) != "{}" {
		t.Errorf("of none: %s", got)
	}
}

// Each kind is in one group, so groups add up to what the kinds do.
func TestGroups(t *testing.T) {
	var kinds stats.Kinds
	for i := range kinds {
		kinds[i] = stats.KindCounts{Hits: 1 << i, Misses: 1}
	}
	var sum stats.KindCounts
	for _, g := range kinds.Groups() {
		sum = sum.Plus(g.KindCounts)
	}
	if want := (stats.KindCounts{Hits: 1<<content.Kinds - 1, Misses: int64(content.Kinds)}); sum != want {
		t.Errorf("groups add up to %+v, want %+v", sum, want)
	}
	if groups := (stats.Kinds{}).Groups(); len(groups) != 0 {
		t.Errorf("of none: %+v", groups)
	}
}

func TestBuilt(t *testing.T) {
	dir := t.TempDir()
	log := stats.OpenLog(dir)
	if list, err := log.ReadBuilt(); err != nil || len(list) != 0 {
		t.Fatalf("empty: %+v, %v", list, err)
	}
	log.Add(session(1, 1)) // as a session does first, which makes the folder
	b := stats.Built{Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Dir: "/src", More: 5, Entries: []stats.Entry{
		{Action: entry.ActionID{1}, Kind: content.Package, Cost: 1500 * time.Millisecond},
		{Action: entry.ActionID{2}, Kind: content.TestResult, Cost: stats.NoCost},
	}}
	if err := log.AddBuilt(stats.Built{Start: b.Start}); err != nil { // nothing
		t.Fatal(err)
	}
	file := filepath.Join(dir, "larder", "sessions", "built")
	if err := log.AddBuilt(b); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("{\"start\":\n\x00\nnull\n[]\n{\"start\":\"2026-01-02T03:04:05Z\",\"entries\":[{\"a\":\"AQ==\"}]}\n")
	f.Close()
	if err := log.AddBuilt(b); err != nil {
		t.Fatal(err)
	}
	if list, err := log.ReadBuilt(); err != nil || !reflect.DeepEqual(list, []stats.Built{b, b}) {
		t.Errorf("%+v, %v", list, err)
	}

	// However much is built, the files stay small, and the last is kept.
	for i := range stats.BuiltMax {
		b.Entries = append(b.Entries, stats.Entry{Action: entry.ActionID{byte(i), 3}, Kind: content.Package, Cost: time.Second / 3})
	}
	for range 100 {
		if err := log.AddBuilt(b); err != nil {
			t.Fatal(err)
		}
	}
	var bytes int64
	for _, name := range []string{file, file + ".old"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	list, err := log.ReadBuilt()
	if bytes > 1<<20 || err != nil || len(list) < 10 || len(list[len(list)-1].Entries) != stats.BuiltMax+2 {
		t.Errorf("%d bytes, %d sessions, %v", bytes, len(list), err)
	}
	if total, _, err := log.Read(); err != nil || total.Sessions != 1 {
		t.Errorf("the sessions beside it: %+v, %v", total, err)
	}
	if err := log.Reset(); err != nil {
		t.Fatal(err)
	}
	if list, err := log.ReadBuilt(); err != nil || len(list) != 0 {
		t.Errorf("after Reset: %d, %v", len(list), err)
	}
}

// FuzzBuilt has anything lie where the file is.
func FuzzBuilt(f *testing.F) {
	f.Add([]byte(`{"start":"2026-01-02T03:04:05Z","dir":"/src","entries":[{"a":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","k":"package","s":1.5}]}` + "\n"))
	f.Add([]byte(`{"start":"2026-01-02T03:04:05Z","entries":[{"a":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","k":"x","s":1e300}]}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		logs := filepath.Join(dir, "larder", "sessions")
		if err := os.MkdirAll(logs, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(logs, "built"), append(data, '\n'), 0o666); err != nil {
			t.Fatal(err)
		}
		l := stats.OpenLog(dir)
		mark := stats.Built{Start: time.Unix(1e9, 0).UTC(), Entries: []stats.Entry{{Kind: content.Package}}}
		if err := l.AddBuilt(mark); err != nil {
			t.Fatal(err)
		}
		list, err := l.ReadBuilt()
		if err != nil || len(list) == 0 || !reflect.DeepEqual(list[len(list)-1], mark) {
			t.Fatalf("what was recorded is not seen: %+v, %v", list, err)
		}
		for _, b := range list {
			for _, e := range b.Entries {
				if e.Cost < stats.NoCost || e.Kind >= content.Kinds {
					t.Errorf("entry %+v", e)
				}
			}
		}
	})
}
