package doctor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/touch"
)

// A kindOfVariable is one whose values are not the same everywhere.
type kindOfVariable struct {
	differs string
	names   []string // that end in * if they are only beginnings
	remedy  string
}

// variables are those of which it is known that they differ. Any other a test may
// read for good reason.
var variables = []kindOfVariable{
	{"from run to run", []string{"GITHUB_*", "RUNNER_*", "CI_*", "BUILD_*", "BUILDKITE_*", "CIRCLE_*", "JENKINS_*", "TRAVIS_*", "INVOCATION_ID", "XDG_SESSION_ID", "SSH_*"},
		"unset them for go test (env -u NAME go test …), or let the tests do without"},
	{"from user to user, and under some shells and runners from run to run", []string{"TMPDIR", "GOTMPDIR", "TMP", "TEMP", "RUNNER_TEMP", "XDG_RUNTIME_DIR"},
		"give it the same value on all machines (TMPDIR=/tmp go test …), or unset it; t.TempDir and os.MkdirTemp read it"},
	{"from machine to machine and user to user", []string{"HOME", "USER", "LOGNAME", "USERNAME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "HOSTNAME", "SHELL", "PATH", "XDG_*",
		"TERM", "COLUMNS", "DISPLAY", "GOPATH", "GOCACHE", "GOMODCACHE", "GOROOT"},
		"give it the same value for go test on all machines, or let the tests do without (exec.LookPath reads PATH; os.UserHomeDir, UserCacheDir and UserConfigDir read HOME)"},
	{"from directory to directory", []string{"PWD", "OLDPWD"},
		"check out to, and test from, directories of the same name (os.Getwd and filepath.Abs read PWD)"},
}

// kindOf is the kind of a variable; false is none. A full name is closer than a
// beginning.
func kindOf(name string) (kind int, ok bool) {
	for i, k := range variables {
		for _, pattern := range k.names {
			if pattern == name {
				return i, true
			}
			if prefix, isPrefix := strings.CutSuffix(pattern, "*"); isPrefix && strings.HasPrefix(name, prefix) && !ok {
				kind, ok = i, true
			}
		}
	}
	return kind, ok
}

// testEnvironment looks at variables that tests read. Their values are part of the
// keys of results (computeTestInputsID in cmd/go/internal/test/test.go); those of
// TMPDIR are of nothing else, since what is compiled in a temporary directory has
// another name for it (the comments of buildActionID, and e2e's doctor.txtar).
func (c *Checkout) testEnvironment(flags) (findings []cli.Finding) {
	const check = "test environment"
	if len(c.Packages) == 0 {
		return nil
	}
	if len(c.Tests) == 0 {
		return []cli.Finding{cli.Good(check, "%s", c.Seen)}
	}
	readers := make([]map[string][]string, len(variables)) // by kind and name
	for _, t := range c.Tests {
		for _, name := range t.Env {
			kind, ok := kindOf(name)
			if !ok || c.Sharing == "" && kind > 1 {
				continue // on one machine these are the same
			}
			if readers[kind] == nil {
				readers[kind] = make(map[string][]string)
			}
			readers[kind][name] = append(readers[kind][name], t.Package)
		}
	}
	for kind, byName := range readers {
		if len(byName) == 0 {
			continue
		}
		var read []string
		all := make(map[string]bool)
		names := slices.SortedFunc(maps.Keys(byName), func(a, b string) int {
			return cmp.Or(cmp.Compare(len(byName[b]), len(byName[a])), cmp.Compare(a, b))
		})
		for _, name := range names {
			read = append(read, fmt.Sprintf("%s (%s)", name, some(byName[name])))
			for _, pkg := range byName[name] {
				all[pkg] = true
			}
		}
		findings = append(findings, cli.Costs(check, fmt.Sprintf("the tests of %s run again where one of them has another value", plural(len(all), "package")),
			variables[kind].remedy, "tests read variables that differ %s: %s", variables[kind].differs, strings.Join(read, "; ")))
	}
	if len(findings) == 0 {
		findings = append(findings, cli.Good(check, "tests read no variable that differs between machines or runs (%s)", c.Seen))
	}
	return findings
}

// Bounds on the files whose times are compared, as each of them is read. If one is
// wrong, all are that nobody has touched.
const (
	filesMax     = 200
	fileBytesMax = 1 << 20
)

// times looks at the files that tests read: their times are part of the keys of
// results (hashOpen and hashStat in cmd/go/internal/test/test.go).
func (c *Checkout) times(ctx context.Context) []cli.Finding {
	const check = "file times"
	if c.Sharing == "" || c.Root == "" || len(c.Packages) == 0 {
		return nil
	}
	files, packages := c.filesRead()
	if len(files) == 0 {
		return nil
	}
	var looked []string
	for _, p := range files {
		if info, err := os.Lstat(filepath.Join(c.Root, p)); err == nil && info.Size() <= fileBytesMax && len(looked) < filesMax {
			looked = append(looked, p)
		}
	}
	wrong, err := c.untouched(ctx, looked)
	if err != nil {
		return nil // the doctor was interrupted
	}
	if len(wrong) == 0 {
		return []cli.Finding{cli.Good(check, "of what tests read, all have the times that larder touch gives")}
	}
	how := fmt.Sprintf("tests of %s read tracked files or directories", plural(len(packages), "package"))
	if len(c.Tests) == 0 {
		how = fmt.Sprintf("%s with tests have testdata", plural(len(packages), "package"))
	}
	return []cli.Finding{cli.Costs(check,
		fmt.Sprintf("on every fresh checkout, as in CI, these tests run again: %s", some(packages)),
		`run "larder touch" after each checkout, in a directory of the same name everywhere: the files' full paths count too, with -trimpath or without`,
		"%s, whose times are those of this checkout (of %d looked at, %d, for example %s)", how, len(looked), len(wrong), wrong[0])}
}

// filesRead are the tracked paths, relative to the root, that tests are known to
// read, or, if nothing is known, what is in testdata; and the packages whose tests
// these are.
func (c *Checkout) filesRead() (files, packages []string) {
	if len(c.Tests) == 0 {
		return c.testdata()
	}
	seen := make(map[string]bool)
	for _, t := range c.Tests {
		reads := false
		for _, name := range t.Files {
			rel, err := filepath.Rel(c.Root, name)
			if err != nil || !filepath.IsLocal(rel) {
				continue
			}
			p := filepath.ToSlash(rel)
			if !c.tracks(p) {
				continue
			}
			reads = true
			if !seen[p] {
				seen[p] = true
				files = append(files, p)
			}
		}
		if reads {
			packages = append(packages, t.Package)
		}
	}
	return files, packages
}

// under is the first tracked file at or below a path.
func (c *Checkout) under(p string) (file string, ok bool) {
	prefix := p + "/"
	if p == "." {
		prefix = ""
	}
	if _, found := slices.BinarySearch(c.Tracked, p); found {
		return p, true
	}
	i, _ := slices.BinarySearch(c.Tracked, prefix)
	if i < len(c.Tracked) && strings.HasPrefix(c.Tracked[i], prefix) {
		return c.Tracked[i], true
	}
	return "", false
}

func (c *Checkout) tracks(p string) bool { _, ok := c.under(p); return ok }

// testdata is what is tracked in the testdata directories of packages with tests.
func (c *Checkout) testdata() (files, packages []string) {
	tested := make(map[string]string) // import path by directory below the root
	for _, p := range c.Packages {
		if rel, err := filepath.Rel(c.Root, p.Dir); err == nil && p.own() && p.tested() {
			tested[filepath.ToSlash(rel)] = p.ImportPath
		}
	}
	found := make(map[string]bool)
	for _, file := range c.Tracked {
		dir, _, ok := strings.Cut("./"+file, "/testdata/")
		if pkg := tested[path.Clean(dir)]; ok && pkg != "" {
			files = append(files, file)
			found[pkg] = true
		}
	}
	return files, slices.Sorted(maps.Keys(found))
}

// untouched are those of the paths whose times are not what touch would set.
func (c *Checkout) untouched(ctx context.Context, paths []string) (wrong []string, err error) {
	var files []string
	for _, p := range paths {
		if file, ok := c.under(p); ok { // a directory is looked at with what is in it
			files = append(files, file)
		}
	}
	report, err := touch.Checkout(ctx, c.Root, files, true)
	for _, change := range report.Set {
		if slices.Contains(paths, change.Path) {
			wrong = append(wrong, change.Path)
		}
	}
	return wrong, err
}
