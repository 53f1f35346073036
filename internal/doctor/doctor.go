// Package doctor finds what costs cache hits in a checkout on a machine: what
// another machine, checkout or run would not find, though the sources are the same.
//
// Look collects the facts, as the go command sees them and without building or
// running anything; Examine draws conclusions from them, and does no more than
// reading files' times. A finding is only raised where it applies: what differs
// between machines is none on a machine whose cache nobody shares, nor are the times
// of files that no test reads. What is not known is said to be unknown.
//
// Facts about the go command are those of Go 1.26 and were read where the code says,
// and tried in e2e/testdata/script/doctor.txtar.
package doctor

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/larder-build/larder/internal/cli"
)

// A Checkout is what is known of a checkout, the go command there, and the machine.
type Checkout struct {
	Go      map[string]string   // what "go env" prints in it
	Written map[string]bool     // variables that "go env -w" has set, for this user alone
	Getenv  func(string) string // the environment
	Command []string            // what is built or tested: a subcommand of the go command with its flags
	Sharing string              // who else uses what is built here, in words; "" is nobody
	Remote  bool                // and those who do so are other machines, by a server
	Alike   string              // the label of machines that share with each other only what may depend on more than IDs hold

	Packages []Package // of the main module, and what they import; empty outside of a module
	Problem  string    // why they are not known, if not
	Mod      Mod
	CC       string // what the go command takes for the C compiler's version; "" if it has none

	Root    string   // of the git checkout; "" if it is none
	Tracked []string // paths below Root, with slashes, sorted
	Trees   int      // checkouts of the same repository on this machine (git worktree)

	Tests []Test // what is known of what tests read
	Seen  string // of which tests it is known, or why of none
}

// A Package is what "go list" tells of one.
type Package struct {
	ImportPath   string
	Name         string
	Dir          string
	Standard     bool
	DepOnly      bool // it is imported, but not of the main module
	CgoFiles     []string
	Imports      []string
	TestGoFiles  []string
	XTestGoFiles []string
}

func (p Package) own() bool    { return !p.DepOnly && !p.Standard }
func (p Package) tested() bool { return len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 }

// A Test is what the tests of a package have read when they were run last.
type Test struct {
	Package string
	Env     []string // names of variables that are set
	Files   []string // absolute paths of files and directories in the module
}

// Examine says what costs hits.
func Examine(ctx context.Context, c *Checkout) []cli.Finding {
	f := c.flags()
	findings := []cli.Finding{c.inputs(f)}
	if c.Problem != "" {
		findings = append(findings, cli.Good("packages", "not known, and so only half is looked at: %s", c.Problem))
	}
	for _, check := range []func(flags) []cli.Finding{
		c.paths, c.toolchain, c.cgo, c.stamps, c.flagsThatCost, c.environment, c.testEnvironment,
	} {
		findings = append(findings, check(f)...)
	}
	return append(findings, c.times(ctx)...)
}

// module is the directory of the main module, "" outside of one.
func (c *Checkout) module() string {
	if mod := c.Go["GOMOD"]; filepath.Base(mod) == "go.mod" {
		return filepath.Dir(mod)
	}
	return ""
}

// packages counts those of which is true.
func (c *Checkout) packages(is func(Package) bool) (n int) {
	for _, p := range c.Packages {
		if is(p) {
			n++
		}
	}
	return n
}

// plural is a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// namesShown is how many packages or files are named in one finding.
const namesShown = 4

// some names the first of a list.
func some(names []string) string {
	if rest := len(names) - namesShown; rest > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:namesShown], ", "), rest)
	}
	return strings.Join(names, ", ")
}

// below reports whether path is dir or in it.
func below(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
