package explain

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// A Style says how an explanation is written.
type Style struct {
	Prefix  string // of each line
	All     bool   // list everything
	Against string // the recording that it was compared with, if not with the past
	First   bool   // there was nothing to compare with
}

// Without All, so much is shown.
const (
	causesShown   = 12
	packagesShown = 4
)

// Write writes the explanation for people: causes, the weightiest first, then a
// count of the rest.
func (e *Explanation) Write(out io.Writer, s Style) {
	line := func(format string, args ...any) { fmt.Fprintf(out, s.Prefix+format+"\n", args...) }
	if s.Against != "" {
		line("different from %s: %s; the same: %s", s.Against, orNothing(e.Missed), orNothing(e.Hit))
	} else if e.Missed.Total() == 0 {
		line("nothing was built, linked or tested; from the cache: %s", orNothing(e.Hit))
	} else {
		line("not from the cache: %s; from the cache: %s", orNothing(e.Missed), orNothing(e.Hit))
	}
	if s.First && e.Missed.Total() > 0 {
		line("this is the first command that explain sees here: run it again after the next build to compare")
	}
	shown := e.Causes
	if !s.All {
		shown = shown[:min(len(shown), causesShown)]
	}
	for _, c := range shown {
		c.write(line, s.All)
	}
	if rest := len(e.Causes) - len(shown); rest > 0 {
		line("and %s, which -v shows", plural(rest, "more cause", "more causes"))
	}
	if s.Against == "" && len(e.Other) > 0 {
		total, parts := 0, []string{}
		for _, kind := range slices.Sorted(maps.Keys(e.Other)) {
			total += e.Other[kind]
			parts = append(parts, fmt.Sprintf("%d %s", e.Other[kind], otherName(kind)))
		}
		line("%s of what is small or often not there: %s", plural(total, "other miss", "other misses"), strings.Join(parts, ", "))
	}
}

func (c Cause) write(line func(string, ...any), all bool) {
	who := c.Packages
	if !all && len(who) > packagesShown {
		who = who[:packagesShown]
	}
	text := strings.Join(who, ", ")
	if rest := len(c.Packages) - len(who); rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	switch {
	case len(c.Packages) == 1:
		text += ": " + c.what()
	case len(c.Packages) == 0:
		text = c.what()
	default:
		text = fmt.Sprintf("%s: %s (%s)", plural(len(c.Packages), "package", "packages"), c.what(), text)
	}
	if c.Led.Total() > 0 {
		text += "; " + c.Led.led()
	}
	line("- %s", text)
	if c.Hint != "" {
		line("  %s", c.Hint)
	}
	if all {
		for _, name := range c.LedTo {
			line("    -> %s", name)
		}
	}
}

// what is the cause with what it is about, where that is not plain.
func (c Cause) what() string {
	if slices.Equal(c.Kinds, []string{Link}) {
		return "program: " + c.What
	}
	if slices.Equal(c.Kinds, []string{Test}) {
		return "test: " + c.What
	}
	if slices.Equal(c.Kinds, []string{Vet}) {
		return "vet: " + c.What
	}
	return c.What
}

// led says what missed because of a cause.
func (c Counts) led() string {
	var parts []string
	add := func(n int, one, many string) {
		if n > 0 {
			parts = append(parts, plural(n, one, many))
		}
	}
	add(c.Packages, "package that depends on it was rebuilt", "packages that depend on it were rebuilt")
	add(c.Vets, "was vetted", "were vetted")
	add(c.Programs, "program was linked", "programs were linked")
	add(c.Tests, "test was run", "tests were run")
	return strings.Join(parts, ", ")
}

func orNothing(c Counts) string {
	var parts []string
	add := func(n int, one, many string) {
		if n > 0 {
			parts = append(parts, plural(n, one, many))
		}
	}
	add(c.Packages, "package", "packages")
	add(c.Vets, "vet result", "vet results")
	add(c.Programs, "program", "programs")
	add(c.Tests, "test result", "test results")
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// otherName says what a kind of hash is of.
func otherName(kind string) string {
	switch kind {
	case "stdout", "link-stdout":
		return "of what a compiler or linker printed (only there if it did)"
	case "srcfiles":
		return "lists of a package's files"
	case moduleIndex:
		return "indexes of a directory's files"
	case "gccCompilerID", "gccSupportsFlag":
		return "about the C compiler"
	case testResult, "inputs", "coverprofile", "coverdeps":
		return "of tests"
	case "unknown":
		return "of tests, or not named in the trace"
	}
	return kind
}
