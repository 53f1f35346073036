package explain

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// compareInputs says what differs between an action and one that was seen.
func compareInputs(a *Action, s seen, goVersion string) (changes []change) {
	if s.in.GoVersion != goVersion {
		// It goes into every hash, and what follows from it need not be said.
		return []change{{what: fmt.Sprintf("Go: %s became %s", s.in.GoVersion, goVersion)}}
	}
	old := make(map[string]input)
	for _, in := range inputsOf(s.action) {
		old[in.key] = in
	}
	for _, in := range inputsOf(a) {
		was, had := old[in.key]
		delete(old, in.key)
		if !had || was.value != in.value {
			changes = append(changes, change{input: in, was: was.value, had: had, has: true})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(old)) {
		changes = append(changes, change{input: input{key: key, dep: old[key].dep}, was: old[key].value, had: true})
	}
	for i := range changes {
		changes[i].put(a.Kind, a.Package)
	}
	return summarize(changes)
}

// filesShown is how many of a package's changed files are named.
const filesShown = 4

// summarize makes one of the changes of a package's files, and leaves out what
// follows from another change: from another version of the module the files, from
// -trimpath the directory.
func summarize(changes []change) (kept []change) {
	version := slices.ContainsFunc(changes, func(c change) bool { return c.version && c.had && c.has })
	trimpath := slices.ContainsFunc(changes, func(c change) bool { return c.input.key == "trimpath" })
	var files []change
	for _, c := range changes {
		class, _, _ := strings.Cut(c.input.key, " ")
		switch {
		case version && (class == "file" || class == "go"):
		case trimpath && (class == "dir" || class == "module"):
		case class == "file":
			files = append(files, c)
		default:
			kept = append(kept, c)
		}
	}
	if len(files) == 0 {
		return kept
	}
	all := files[0]
	for _, c := range files[1:min(len(files), filesShown)] {
		all.what += ", " + c.what
	}
	if rest := len(files) - filesShown; rest > 0 {
		all.what += " and " + plural(rest, "more file", "more files")
	}
	return append(kept, all)
}
