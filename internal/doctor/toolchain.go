package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/larder-build/larder/internal/cli"
)

// archVariables are those that choose among a processor's instructions, and are part
// of every action ID (GetArchEnv in cmd/go/internal/cfg/cfg.go).
var archVariables = map[string]string{
	"386": "GO386", "amd64": "GOAMD64", "arm": "GOARM", "arm64": "GOARM64", "mips": "GOMIPS", "mipsle": "GOMIPS",
	"mips64": "GOMIPS64", "mips64le": "GOMIPS64", "ppc64": "GOPPC64", "ppc64le": "GOPPC64", "riscv64": "GORISCV64", "wasm": "GOWASM",
}

// inputs says what must be the same on machines that are to share, for a person to
// compare.
func (c *Checkout) inputs(f flags) cli.Finding {
	parts := []string{c.Go["GOVERSION"], c.Go["GOOS"] + "/" + c.Go["GOARCH"]}
	add := func(name string) {
		if value := c.Go[name]; value != "" {
			parts = append(parts, name+"="+value+c.source(name))
		}
	}
	add(archVariables[c.Go["GOARCH"]])
	add("GOEXPERIMENT")
	add("CGO_ENABLED")
	if c.CC != "" {
		parts = append(parts, fmt.Sprintf("CC=%s%s (%s)", c.Go["CC"], c.source("CC"), c.CC))
	}
	add("GOFLAGS")
	return cli.Good("inputs", "machines share what they build with the same: %s", strings.Join(parts, ", "))
}

// source says where a variable's value is from, if it is this user's alone: the file
// that "go env -w" writes.
func (c *Checkout) source(name string) string {
	if file := c.Go["GOENV"]; c.Getenv(name) == "" && c.Written[name] {
		return fmt.Sprintf(" (this user's: %s)", file)
	}
	return ""
}

// A Mod is what go.mod, or go.work, says about Go's version.
type Mod struct{ Go, Toolchain string } // "1.24", "go1.26.8"; "" is not said

// toolchain looks at the go command's own version.
func (c *Checkout) toolchain(flags) []cli.Finding {
	const check = "toolchain"
	version := c.Go["GOVERSION"]
	if strings.Contains(version, "devel") && c.Sharing != "" {
		return []cli.Finding{cli.Costs(check, "machines share only what the very same build of the toolchain has made", "use a release", "%s is no release", version)}
	}
	if root := c.Go["GOROOT"]; c.Remote && !strings.HasPrefix(c.Alike, "all:") && !strings.Contains(version, "-") && isCheckout(root) {
		return []cli.Finding{cli.Costs(check,
			"if it is patched, what it has made is used where the unpatched "+version+" is, and the other way round",
			"give it a version of its own in its file VERSION ("+version+"-NAME), or set LARDER_ALIKE=all:NAME on all machines that have it (docs/team.md)",
			"%s was built from a checkout and says that it is %s, which is all that IDs hold of it", root, version)}
	}
	name, _, _ := strings.Cut(c.Go["GOTOOLCHAIN"], "+")
	switch {
	case c.module() == "" || c.Mod == Mod{}:
		return nil
	case strings.HasPrefix(name, "go1"):
		return []cli.Finding{cli.Good(check, "%s, as GOTOOLCHAIN=%s says", version, c.Go["GOTOOLCHAIN"])}
	case c.Mod.Toolchain == version || "go"+c.Mod.Go == version:
		return []cli.Finding{cli.Good(check, "%s, the least that go.mod asks for; machines with a later Go share nothing with this one", version)}
	}
	return []cli.Finding{cli.Good(check, "go.mod is content with go%s, this is %s: machines with another version share nothing with this one. GOTOOLCHAIN=%s on all makes it the same",
		c.Mod.Go, version, version)}
}

// isCheckout reports whether a toolchain lies in a git checkout of its own. Releases,
// those that the go command downloads and those of distributions do not.
func isCheckout(root string) bool {
	if root == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(root, ".git"))
	return err == nil
}

// compilerVariables are part of every action ID if they are set, and are for those
// who debug the compiler (buildActionID in cmd/go/internal/work/exec.go).
var compilerVariables = []string{"GOCLOBBERDEADHASH", "GOSSAFUNC", "GOSSADIR", "GOCOMPILEDEBUG"}

// environment looks at variables that are part of IDs and seldom meant to be.
func (c *Checkout) environment(flags) (findings []cli.Finding) {
	const check = "environment"
	for _, name := range compilerVariables {
		if value := c.Getenv(name); value != "" {
			findings = append(findings, cli.Costs(check, "nothing is shared with builds where it is not set to the same", "unset it", "%s=%s, which is for debugging the compiler, is part of every action ID", name, value))
		}
	}
	if value := c.Getenv("GODEBUG"); value != "" {
		findings = append(findings, cli.Costs(check, "tests run again wherever it is not set to the same",
			"unset it for go test, or set it in go.mod or in //go:debug lines, which are the same everywhere", "GODEBUG=%s is part of every test result's key", value))
	}
	return findings
}
