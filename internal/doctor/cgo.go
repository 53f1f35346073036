package doctor

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/larder-build/larder/internal/cli"
)

// cgo looks at the C compiler. With cgo, packages that import "C" (net, os/user and
// runtime/cgo of the standard library) have other files than without, so all that
// imports them has other IDs; and they have the compiler's version in theirs, and the
// flags for it (buildActionID and gccToolID in cmd/go/internal/work).
func (c *Checkout) cgo(flags) []cli.Finding {
	const check = "cgo"
	if len(c.Packages) == 0 {
		return nil
	}
	uses, led := c.cgoPackages()
	if c.Go["CGO_ENABLED"] != "1" {
		if c.Sharing == "" || c.chosen("CGO_ENABLED") || c.CC != "" || c.Go["GOOS"] != c.Go["GOHOSTOS"] || c.Go["GOARCH"] != c.Go["GOHOSTARCH"] || led == 0 {
			return []cli.Finding{cli.Good(check, "off")}
		}
		return []cli.Finding{cli.Costs(check,
			fmt.Sprintf("machines with a C compiler have other IDs for %s of %d and share none of these", plural(led, "package"), len(c.Packages)),
			"set CGO_ENABLED=0 on all that share, if the programs need no C; or install the same C compiler on all",
			"it is off because %s is not found; nobody has chosen so", c.Go["CC"])}
	}
	if len(uses) == 0 {
		return []cli.Finding{cli.Good(check, "on, and nothing here uses it")}
	}
	if c.Sharing != "" {
		for _, name := range []string{"CC", "CXX", "CGO_CFLAGS", "CGO_CPPFLAGS", "CGO_CXXFLAGS", "CGO_LDFLAGS"} {
			if dir := c.privateDir(c.Go[name]); dir != "" {
				return []cli.Finding{cli.Costs(check,
					fmt.Sprintf("%s of %d are shared only with machines that have it there too", plural(led, "package"), len(c.Packages)),
					"keep C libraries and compilers in the same directory on all that share, outside of homes and checkouts",
					"%s=%s names %s, and is part of the IDs of %s", name, c.Go[name], dir, some(uses))}
			}
		}
	}
	findings := []cli.Finding{cli.Good(check, "on: %s is part of the IDs of %s; machines with another C compiler, or without, do not share them and what imports them (%d of %s)",
		c.CC, some(uses), led, plural(len(c.Packages), "package"))}
	if c.Remote {
		findings = append(findings, c.unlike(uses))
	}
	return findings
}

// unlike says what may come from machines with other headers and libraries, which are
// no part of IDs (buildActionID has the compiler's version and flags only). Packages of
// the standard library need the C library alone, whose interface hardly changes.
func (c *Checkout) unlike(uses []string) cli.Finding {
	const check = "cgo"
	if c.Alike != "" {
		return cli.Good(check, "these, test and vet results are shared with machines of the label %q only", c.Alike)
	}
	var others []string
	for _, p := range c.Packages {
		if len(p.CgoFiles) > 0 && !p.Standard {
			others = append(others, p.ImportPath)
		}
	}
	if len(others) == 0 {
		return cli.Good(check, "the C library's headers are no part of the IDs of %s; if the machines that share are of several systems, LARDER_ALIKE=auto tells them apart", some(uses))
	}
	return cli.Costs(check,
		"what was compiled or tested with one machine's headers and libraries is used on others, whatever they have, and may not work there",
		"if the machines that share have not all the same installed, give each kind a label: LARDER_ALIKE=NAME, or auto, which is the system and its version (docs/team.md)",
		"headers and libraries of the machine are no part of the IDs of %s", some(others))
}

// cgoPackages are the packages that use cgo, and how many are these or import them,
// be it indirectly.
func (c *Checkout) cgoPackages() (uses []string, led int) {
	reached := make(map[string]bool)
	for _, p := range c.Packages { // in an order in which imports come first
		bound := len(p.CgoFiles) > 0
		if bound {
			uses = append(uses, p.ImportPath)
		}
		for _, path := range p.Imports {
			bound = bound || reached[path]
		}
		if bound {
			reached[p.ImportPath] = true
			led++
		}
	}
	return uses, led
}

// privateDir is a directory named in flags that is in the user's home or in the
// checkout, "" if there is none.
func (c *Checkout) privateDir(text string) string {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t=,\"'", r) }) {
		i := strings.IndexByte(word, filepath.Separator)
		if i < 0 || i > 2 { // -I/dir, -L/dir, /dir
			continue
		}
		for _, private := range []string{c.Getenv("HOME"), c.module(), c.Root} {
			if private != "" && filepath.Dir(private) != private && below(word[i:], private) {
				return word[i:]
			}
		}
	}
	return ""
}

// chosen reports whether somebody has set a variable of the go command.
func (c *Checkout) chosen(name string) bool { return c.Getenv(name) != "" || c.Written[name] }
