package doctor

import "github.com/larder-build/larder/internal/cli"

// stamps looks at -buildvcs. By default the commit and its time are part of the IDs of
// each program's package main and link, if git is there; with -buildvcs=true, of those
// of tests too (setBuildInfo in cmd/go/internal/load/pkg.go).
func (c *Checkout) stamps(f flags) []cli.Finding {
	const check = "stamps"
	programs := c.packages(func(p Package) bool { return p.own() && p.Name == "main" })
	tests := c.packages(func(p Package) bool { return p.own() && p.tested() })
	value, given := f["buildvcs"]
	switch {
	case c.Root == "" || given && (value == "false" || value == "0"):
		return nil
	case f.on("buildvcs") && programs+tests > 0:
		return []cli.Finding{cli.Costs(check,
			"each commit has "+plural(programs, "program")+" compiled and linked anew, and "+plural(tests, "test program")+" too: no test result outlives a commit",
			"-buildvcs=auto leaves tests out, -buildvcs=false programs too", "-buildvcs=true writes the commit into programs, and into those of tests")}
	case programs > 0:
		return []cli.Finding{cli.Costs(check,
			"each commit has "+plural(programs, "program")+" compiled and linked anew, though nothing that is in them has changed",
			"GOFLAGS=-buildvcs=false, where programs need not know their commit; give it to builds that are released", "the go command writes the commit into programs (-buildvcs)")}
	}
	return nil
}
