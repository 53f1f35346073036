package helper_test

import (
	"context"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/stats"
	"github.com/larder-build/larder/internal/store"
)

const (
	archive = "!<arch>\n__.PKGDEF"
	testLog = "# test log\n"
	result  = "ok  \texample.com/p\t0.008s\n"
)

func action(name string) cacheprog.ActionID { return sha256.Sum256([]byte(name)) }

func subkey(parent cacheprog.ActionID, what string) cacheprog.ActionID {
	return cacheprog.ActionID(content.Subkey(entry.ActionID(parent), what))
}

// ask gets actions, and fails if one of them is not the hit, or miss, that it should be.
func ask(t *testing.T, wantHit bool, get func(cacheprog.ActionID) (cacheprog.Entry, error), ids ...cacheprog.ActionID) {
	t.Helper()
	for _, id := range ids {
		if _, err := get(id); (err == nil) != wantHit {
			t.Fatalf("get: %v, want a hit: %v", err, wantHit)
		}
	}
}

func wantKinds(t *testing.T, got stats.Session, want stats.Kinds) {
	t.Helper()
	if got.Kinds != want {
		t.Errorf("kinds %+v\n     want %+v", got.Kinds, want)
	}
	var sum stats.KindCounts
	for _, c := range got.Kinds {
		sum = sum.Plus(c)
	}
	if sum.Hits != got.Hits || sum.Misses != got.Misses.Total() {
		t.Errorf("kinds add up to %+v, of %d hits and %d misses", sum, got.Hits, got.Misses.Total())
	}
}

// What a package's build, vet and test ask for and put, as the go command does:
// what was put is of a kind, so was its miss, and so is the next session's hit.
func TestKindsOfWhatWasPut(t *testing.T) {
	dir := t.TempDir()
	build, vet, test, link := action("build"), action("vet"), action("test"), action("link")
	stdout, sources, vetOut := subkey(build, "stdout"), subkey(build, "srcfiles"), subkey(vet, "stdout")
	output := subkey(test, "inputs:1")
	s := open(dir)
	ask(t, false, s.GetNow, build)
	put(t, s, sources, "./p.go\n")
	put(t, s, stdout, "")
	put(t, s, build, archive)
	ask(t, false, s.GetNow, vet)
	put(t, s, vet, "")
	put(t, s, vetOut, "")
	ask(t, false, s.GetNow, test, link)
	put(t, s, test, testLog)
	put(t, s, output, result)
	first := s.Finish()
	wantKinds(t, first, stats.Kinds{content.Package: {Misses: 1}, content.Vet: {Misses: 1}, content.TestInputs: {Misses: 1}, content.Unknown: {Misses: 1}})
	built, more := s.Built()
	if len(built) != 2 || more != 0 || built[0].Kind != content.Package || built[0].Cost <= 0 || built[1].Kind != content.TestResult {
		t.Errorf("built %+v and %d more", built, more)
	}

	s = open(dir)
	ask(t, true, s.GetNow, build, stdout, sources, vet, vetOut, test, output)
	second := s.Finish()
	wantKinds(t, second, stats.Kinds{
		content.Package: {Hits: 1}, content.Vet: {Hits: 1}, content.Message: {Hits: 2}, content.Source: {Hits: 1},
		content.TestInputs: {Hits: 1}, content.TestResult: {Hits: 1},
	})
	if second.CostUnknown != 0 {
		t.Errorf("%d hits of unknown cost", second.CostUnknown)
	}
}

// A test whose inputs were found and whose result was not runs again. The hit on
// its inputs saved nothing, and neither do hits on what the session has put itself.
func TestHitsThatSaveNothing(t *testing.T) {
	dir := t.TempDir()
	test, build := action("test"), action("build")
	old, fresh := subkey(test, "inputs:1"), subkey(test, "inputs:2")
	costs := stats.OpenCosts(dir)
	s := open(dir)
	ask(t, false, s.GetNow, test, build)
	put(t, s, test, testLog)
	put(t, s, old, result)
	put(t, s, build, archive)
	s.Finish()
	costs.Add(map[stats.Key]stats.Fact{
		stats.KeyOf(entry.ActionID(test)):  {Cost: time.Second, Kind: content.TestInputs},
		stats.KeyOf(entry.ActionID(build)): {Cost: time.Minute, Kind: content.Package},
	})

	s = open(dir)
	ask(t, true, s.GetNow, test, build)
	ask(t, false, s.GetNow, fresh)
	put(t, s, test, testLog)
	put(t, s, fresh, result)
	put(t, s, build, archive) // it was no good
	ask(t, true, s.GetNow, fresh)
	r := s.Finish()
	wantKinds(t, r, stats.Kinds{content.Package: {Hits: 1}, content.TestInputs: {Hits: 1}, content.TestResult: {Hits: 1, Misses: 1}})
	if r.SavedSeconds != 0 || r.CostUnknown != 0 {
		t.Errorf("saved %v s, %d unknown", r.SavedSeconds, r.CostUnknown)
	}
	for id, want := range map[cacheprog.ActionID]time.Duration{test: 0, build: time.Minute} {
		if sum := costs.Sum([]stats.Key{stats.KeyOf(entry.ActionID(id))}); sum.Cost != want || sum.Unknown != 0 {
			t.Errorf("it is known of it: %+v, want %v", sum, want)
		}
	}
}

// What was built without Larder is of unknown kind once, and then known. What it
// cost stays unknown, but for what costs nothing by itself.
func TestLearn(t *testing.T) {
	dir := t.TempDir()
	build, vet, facts, other := action("build"), action("vet"), action("facts"), action("other")
	out, vetOut, linkOut := subkey(build, "stdout"), subkey(vet, "stdout"), subkey(build, "link-stdout")
	list, test, output := subkey(build, "srcfiles"), action("test"), action("output")
	native := store.Open(store.Options{Dir: dir})
	all := map[cacheprog.ActionID]string{
		build: archive, vet: "", facts: "\r\xff\x81 gobFact", other: "", out: "# a message without a newline", vetOut: "", linkOut: "",
		list: "./p.go\n", test: testLog, output: result,
	}
	for id, body := range all {
		if _, err := native.Put(entry.ActionID(id), sha256.Sum256([]byte(body)), int64(len(body)), strings.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	native.Close()
	want := stats.Kinds{content.Unknown: {Hits: 10}}
	for _, known := range []bool{false, true, true} {
		s := open(dir)
		ctx := context.Background()
		for id := range all {
			ask(t, true, func(id cacheprog.ActionID) (cacheprog.Entry, error) { return s.Get(ctx, id) }, id)
		}
		r := s.Finish()
		wantKinds(t, r, want)
		if unknown := r.CostUnknown; known && unknown != 5 || !known && unknown != 10 {
			t.Errorf("%d hits of unknown cost", unknown)
		}
		s.Learn()
		want = stats.Kinds{
			content.Package: {Hits: 1}, content.Vet: {Hits: 2}, content.Message: {Hits: 3}, content.Source: {Hits: 1},
			content.TestInputs: {Hits: 1}, content.TestResult: {Hits: 1}, content.Other: {Hits: 1},
		}
	}
}
