package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/larder-build/larder/internal/content"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/stats"
	"github.com/larder-build/larder/internal/store"
)

// A builtSession is what one session compiled and tested, with the names that the
// entries' bodies show.
type builtSession struct {
	Start    time.Time   `json:"start"`
	Dir      string      `json:"dir"`
	Packages []builtName `json:"packages"` // dearest first
	Tests    []builtName `json:"tests"`    // slowest first
	Unnamed  int         `json:"unnamed"`  // entries that show no name, or are not in the store any more
	More     int         `json:"more"`     // packages that were not recorded, the cheapest
}

type builtName struct {
	Path    string  `json:"path"`    // import path; "main" for a program's own package
	Seconds float64 `json:"seconds"` // of a package from its miss to its put; of a test as the go command has written it
}

// showPackages shows what the last n sessions that built anything have built.
func showPackages(log stats.Log, dir string, n int, asJSON bool) error {
	list, err := log.ReadBuilt()
	if err != nil {
		return fmt.Errorf("read what was built: %w", err)
	}
	list = list[len(list)-min(max(n, 0), len(list)):]
	sessions := make([]builtSession, len(list))
	s := store.Open(store.Options{Dir: dir})
	for i, b := range list {
		sessions[i] = nameBuilt(s, b)
	}
	if asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(struct {
			Dir      string         `json:"dir"`
			Sessions []builtSession `json:"sessions"`
		}{dir, sessions})
	}
	if len(sessions) == 0 {
		fmt.Printf("nothing has been built yet in %s\n", dir)
		return nil
	}
	for i, b := range sessions {
		if i > 0 {
			fmt.Println()
		}
		if err := b.print(); err != nil {
			return err
		}
	}
	return nil
}

func nameBuilt(s *store.Store, b stats.Built) builtSession {
	named := builtSession{Start: b.Start, Dir: b.Dir, More: b.More, Packages: []builtName{}, Tests: []builtName{}}
	tests := make(map[entry.OutputID]bool) // a result is put twice, for what is linked and for the program
	for _, e := range b.Entries {
		object, err := s.Peek(e.Action)
		if err == nil && e.Kind == content.TestResult && tests[object.OutputID] {
			continue
		}
		name, ok := nameEntry(object, e)
		switch {
		case err != nil || !ok:
			named.Unnamed++
		case e.Kind == content.TestResult:
			tests[object.OutputID] = true
			named.Tests = append(named.Tests, name)
		default:
			named.Packages = append(named.Packages, name)
		}
	}
	slices.SortStableFunc(named.Tests, func(a, b builtName) int { return cmp.Compare(b.Seconds, a.Seconds) })
	return named
}

// nameEntry reads an entry's name where its body has it.
func nameEntry(object entry.Object, e stats.Entry) (name builtName, ok bool) {
	f, err := os.Open(object.DiskPath)
	if err != nil {
		return name, false
	}
	defer f.Close()
	if e.Kind == content.TestResult {
		path, took, err := content.TestName(f, object.Size)
		return builtName{path, took.Seconds()}, err == nil
	}
	path, err := content.PackagePath(f, object.Size)
	return builtName{path, e.Cost.Seconds()}, err == nil
}

// packageLines is how many packages, and how many tests, a person is shown.
const packageLines = 25

func (b builtSession) print() error {
	fmt.Printf("%s in %s: %s compiled, %s run\n", b.Start.Local().Format("2006-01-02 15:04:05"), b.Dir,
		count(int64(len(b.Packages)+b.More), "package"), count(int64(len(b.Tests)), "test package"))
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	list := func(what string, names []builtName, more int) {
		for _, n := range names[:min(len(names), packageLines)] {
			fmt.Fprintf(tw, "  %s\t%s\t  %s\n", seconds(n.Seconds), what, n.Path)
		}
		if more += len(names) - packageLines; more > 0 {
			fmt.Fprintf(tw, "  …\t%s\t  and %d more\n", what, more)
		}
	}
	list("compile", b.Packages, b.More)
	list("test", b.Tests, 0)
	if err := tw.Flush(); err != nil {
		return err
	}
	if b.Unnamed > 0 {
		fmt.Printf("  and %d whose names are not known: they are not in the store any more, or of a form that Larder does not know\n", b.Unnamed)
	}
	return nil
}
