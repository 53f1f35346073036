package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/larder-build/larder/cacheprogtest"
)

// TestConformDocs compares the page with the checks.
func TestConformDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/conform.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| check | rule | source |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var want strings.Builder
	for _, r := range cacheprogtest.Rules() {
		fmt.Fprintf(&want, "| `%s` | %s | `%s` |\n", r.Name, r.Rule, r.Source)
	}
	if strings.TrimSpace(table) != strings.TrimSpace(want.String()) {
		t.Errorf("the table of docs/conform.md is not what the checks are, which is:\n%s", want.String())
	}
}

// results has one of each verdict.
var results = cacheprogtest.Report{Program: "prog {dir}", Results: []cacheprogtest.Result{
	{Rule: cacheprogtest.Rule{Name: "a", Rule: "A is.", Source: "a.go: A"}, Verdict: cacheprogtest.Pass, Seconds: 0.25},
	{Rule: cacheprogtest.Rule{Name: "b", Rule: "B is.", Source: "b.go: B"}, Verdict: cacheprogtest.Fail, Detail: `b "<is> not`, Seconds: 1},
	{Rule: cacheprogtest.Rule{Name: "c", Rule: "C is.", Source: "c.go: C"}, Verdict: cacheprogtest.Warning, Detail: "c is odd"},
	{Rule: cacheprogtest.Rule{Name: "d", Rule: "D is.", Source: "d.go: D"}, Verdict: cacheprogtest.Skipped, Detail: "no d"},
}}

func TestConformText(t *testing.T) {
	var b strings.Builder
	for _, r := range results.Results {
		printResult(&b, r)
	}
	printCounts(&b, results)
	const want = `pass     a (0.25 s)
FAIL     b (1.00 s)
         seen:   b "<is> not
         rule:   B is.
         source: b.go: B
warning  c (0.00 s)
         seen:   c is odd
         rule:   C is.
         source: c.go: C
skipped  d: no d
1 passed, 1 failed, 1 warnings, 1 skipped
`
	if b.String() != want {
		t.Errorf("printed\n%s", b.String())
	}
}

// TestConformJSON holds the documented form.
func TestConformJSON(t *testing.T) {
	var b bytes.Buffer
	if err := encode(&b, results); err != nil {
		t.Fatal(err)
	}
	var report struct {
		Program string
		Results []map[string]any
	}
	if err := json.Unmarshal(b.Bytes(), &report); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(report.Program, report.Results[1]); got != `prog {dir}map[detail:b "<is> not name:b rule:B is. seconds:1 source:b.go: B verdict:fail]` {
		t.Errorf("%s", got)
	}
	if _, ok := report.Results[0]["detail"]; ok {
		t.Error("a pass has a detail")
	}
}

func TestConformJUnit(t *testing.T) {
	var b bytes.Buffer
	if err := encodeJUnit(&b, results); err != nil {
		t.Fatal(err)
	}
	var s junitSuite
	if err := xml.Unmarshal(b.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Tests != 4 || s.Failures != 1 || s.Skipped != 1 || s.Time != "1.250" || len(s.Cases) != 4 {
		t.Errorf("%+v", s)
	}
	a, failed, warned, skipped := s.Cases[0], s.Cases[1], s.Cases[2], s.Cases[3]
	switch {
	case a.Failure != nil || a.Skipped != nil || a.Output != "" || a.Name != "a" || a.Time != "0.250":
		t.Errorf("%+v", a)
	case failed.Failure == nil || failed.Failure.Message != `b "<is> not` || !strings.Contains(failed.Failure.Text, "b.go: B"):
		t.Errorf("%+v", failed)
	case warned.Failure != nil || !strings.Contains(warned.Output, "c is odd"):
		t.Errorf("%+v", warned)
	case skipped.Skipped == nil || skipped.Skipped.Message != "no d":
		t.Errorf("%+v", skipped)
	}
}

func TestConformMatcher(t *testing.T) {
	match, err := matcher("put-*,miss")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"put-get": true, "miss": true, "miss-after-restart": false, "get-size": false} {
		if match(name) != want {
			t.Errorf("%s matches: %v", name, !want)
		}
	}
	if _, err := matcher("a,["); err == nil {
		t.Error("a pattern that is none")
	}
}
