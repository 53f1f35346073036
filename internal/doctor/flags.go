package doctor

import (
	"strings"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/cli"
)

// flags are those of the go command, of GOFLAGS and then of the command itself, by
// name without dashes; of "-race" the value is "true".
type flags map[string]string

// withValue are flags of interest whose value may be the next argument.
const withValue = " ldflags gcflags asmflags toolexec coverpkg tags "

func (c *Checkout) flags() flags {
	f := make(flags)
	list, _ := cacheprog.SplitCommand(c.Go["GOFLAGS"]) // go itself complains about one that is wrong
	f.add(list)
	if len(c.Command) > 0 {
		f.add(c.Command[1:])
	}
	return f
}

func (f flags) add(args []string) {
	for i := 0; i < len(args); i++ {
		name, value, hasValue := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if !strings.HasPrefix(args[i], "-") {
			continue
		}
		if name == "args" {
			f[name] = "true"
			return // the rest is the tests'
		}
		if !hasValue {
			value = "true"
			if strings.Contains(withValue, " "+name+" ") && i+1 < len(args) {
				i++
				value = args[i]
			}
		}
		f[strings.TrimPrefix(name, "test.")] = value
	}
}

// on reports whether a flag without a value is given.
func (f flags) on(name string) bool {
	switch f[name] {
	case "true", "1", "t", "T", "TRUE", "True":
		return true
	}
	return false
}

// uncacheable are the flags of go test with which results are neither kept nor used:
// all of its own but those that tryCacheWithID in cmd/go/internal/test/test.go lets
// pass.
var uncacheable = []string{
	"count", "shuffle", "bench", "benchmem", "fuzz", "fuzztime", "fuzzminimizetime", "cpuprofile", "memprofile", "memprofilerate",
	"blockprofile", "blockprofilerate", "mutexprofile", "mutexprofilefraction", "trace", "artifacts", "args",
}

// uncached is the first flag with which test results are not used, "" if there is
// none.
func (f flags) uncached() string {
	for _, name := range uncacheable {
		if value, ok := f[name]; ok && value != "" {
			if value == "true" {
				return "-" + name
			}
			return "-" + name + "=" + value
		}
	}
	return ""
}

// Uncached reports whether flags keep the go command from using test results.
func (c *Checkout) Uncached() bool { return c.flags().uncached() != "" }

// flagsThatCost looks at flags that everything pays for.
func (c *Checkout) flagsThatCost(f flags) (findings []cli.Finding) {
	const check = "flags"
	add := func(cost, remedy, format string, args ...any) {
		findings = append(findings, cli.Costs(check, cost, remedy, format, args...))
	}
	if f.on("a") {
		add("each build compiles everything, the standard library too, and asks the cache for nothing", "leave it away: the go command notices by itself what has changed", "-a is given")
	}
	if flag := f.uncached(); flag != "" {
		add("every test runs every time", `leave it away; "go clean -testcache" makes tests run again once`, "with %s the go command neither keeps nor uses test results", flag)
	}
	if strings.Contains(f["ldflags"], "-X") {
		// With -trimpath the flag is not part of what "go version -m" prints, and a test's
		// program in which nothing has the value is the same as before (setBuildInfo in
		// cmd/go/internal/load/pkg.go, tryCacheWithID in cmd/go/internal/test/test.go).
		cost := "a value that differs from build to build (a time, a commit) has each program linked anew, and those of tests"
		if !f.on("trimpath") {
			cost += "; package main is compiled anew, and tests run again"
		}
		add(cost, "give values only to builds that are released, not to tests; or have the program read them from debug.ReadBuildInfo", "-ldflags with -X is part of each link's ID")
	}
	if f["coverpkg"] != "" {
		add("an edit of any package that is covered runs the tests of all, and each test's program is linked with all of them",
			"-cover measures each package by its own tests; or use -coverpkg in one CI job only", "-coverpkg=%s is given", f["coverpkg"])
	}
	if f["toolexec"] != "" {
		add("what the tool prints for -V=full is part of every action ID: only machines with the same tool share", "leave it away where it is not needed", "-toolexec=%s is given", f["toolexec"])
	}
	return findings
}
