package doctor

import (
	"fmt"

	"github.com/larder-build/larder/internal/cli"
)

// paths looks at directories in action IDs. Without -trimpath a package's directory
// is part of its ID, unless it is of the standard library; with it, the module's path
// and version are instead (buildActionID in cmd/go/internal/work/exec.go).
func (c *Checkout) paths(f flags) []cli.Finding {
	const check = "paths"
	dir := c.module()
	if dir == "" {
		return nil
	}
	if f.on("trimpath") {
		return []cli.Finding{cli.Good(check, "no directories in what is built (-trimpath)")}
	}
	sharing := c.Sharing
	if sharing == "" && c.Trees > 1 {
		sharing = fmt.Sprintf("%d worktrees of this repository", c.Trees)
	}
	if sharing == "" {
		return []cli.Finding{cli.Good(check, "what is built holds directories' names (no -trimpath); nobody shares it")}
	}
	own := c.packages(func(p Package) bool { return !p.Standard && below(p.Dir, dir) })
	others := c.packages(func(p Package) bool { return !p.Standard && !below(p.Dir, dir) })
	what := fmt.Sprintf("without -trimpath the directory of each package is part of its action ID (the checkout's is %s, of other modules %s), and it is shared: %s",
		dir, c.Go["GOMODCACHE"], sharing)
	cost := "from a checkout in another directory all of its packages are compiled anew, and its tests run"
	if len(c.Packages) > 0 {
		cost = fmt.Sprintf("from a checkout in another directory, its %s are compiled anew, and its tests run", plural(own, "package"))
	}
	if others > 0 {
		cost += fmt.Sprintf("; with another GOMODCACHE, %s of other modules and what imports them", plural(others, "package"))
	}
	return []cli.Finding{cli.Costs(check, cost,
		"add -trimpath to GOFLAGS for all who share. Then panics and runtime.Caller show module/file.go instead of full paths, debuggers need them mapped "+
			"(Delve: substitute-path), and runtime.GOROOT() is empty. Or use the same directories everywhere", "%s", what)}
}
