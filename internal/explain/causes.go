package explain

import (
	"slices"
	"strings"
)

// gather makes the answer's causes: nodes with the same cause are one.
func (e *explainer) gather(answer *Explanation) {
	groups := make(map[string]*Cause)
	of := make(map[*node][]*Cause)
	var order []*Cause
	for _, n := range e.list {
		for _, c := range n.causes {
			if n.hit {
				c.what += ", and it was made elsewhere or before"
			}
			key := string(c.why) + "\x00" + c.what
			if c.own {
				key += "\x00" + n.action.Package
			}
			g := groups[key]
			if g == nil {
				g = &Cause{Why: c.why, What: c.what, Hint: c.hint, Since: c.since, LedTo: []string{}}
				groups[key] = g
				order = append(order, g)
			}
			of[n] = append(of[n], g)
			g.Packages = append(g.Packages, n.action.Package)
			g.Kinds = append(g.Kinds, n.action.Kind)
		}
	}
	for _, n := range e.list {
		if n.hit {
			continue
		}
		led := make(map[*Cause]bool)
		for root := range n.roots {
			for _, g := range of[root] {
				led[g] = true
			}
		}
		for g := range led {
			if !slices.Contains(of[n], g) {
				g.Led.add(n.action.Kind)
				g.LedTo = append(g.LedTo, n.action.Kind+" "+n.action.Package)
			}
		}
	}
	for _, g := range order {
		g.Packages, g.Kinds = sortedSet(g.Packages), sortedSet(g.Kinds)
		slices.Sort(g.LedTo)
		answer.Causes = append(answer.Causes, *g)
	}
}

func sortedSet(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}

// tests adds what is to be said about tests' results as such.
func (e *explainer) tests(answer *Explanation) {
	if e.q.Against {
		return
	}
	if len(e.q.Disabled) > 0 {
		var packages []string
		for _, a := range e.q.Now.Actions {
			if a.Kind == Link && strings.HasSuffix(a.Package, ".test") {
				packages = append(packages, strings.TrimSuffix(a.Package, ".test"))
			}
		}
		packages = sortedSet(packages)
		answer.Missed.Tests = len(packages)
		for _, why := range sortedSet(slices.Clone(e.q.Disabled)) {
			answer.Causes = append(answer.Causes, disabled(why, packages))
		}
		return
	}
	var packages []string
	for _, n := range e.list {
		if n.action.Kind == Test && !e.q.Accesses[n.action.ID].Put {
			packages = append(packages, n.action.Package)
		}
	}
	if len(packages) > 0 {
		what := "the result was not kept: the test failed, or it reads a file that was younger than 2 seconds"
		if !e.q.Now.Failed {
			what = "the result was not kept: the test reads a file that was younger than 2 seconds, or prints what cannot be kept"
		}
		answer.Causes = append(answer.Causes, Cause{Why: NotKept, What: what, Kinds: []string{Test}, Packages: sortedSet(packages), LedTo: []string{}})
	}
}

// disabled puts what the go command says about why it does not use results at all
// (tryCacheWithID in test.go).
func disabled(why string, packages []string) Cause {
	c := Cause{Why: Uncacheable, What: why, Kinds: []string{Test}, Packages: packages, LedTo: []string{}}
	const argument = "caching disabled for test argument: "
	switch flag, isArgument := strings.CutPrefix(why, argument); {
	case isArgument:
		flag = strings.Replace(flag, "-test.", "-", 1)
		c.What = "the go command neither uses nor keeps test results with " + flag
		if strings.HasPrefix(flag, "-count=") {
			c.Hint = `without -count, "go clean -testcache" makes tests run again once`
		}
	case strings.HasPrefix(why, "caching disabled in local directory mode"):
		c.What = "the go command neither uses nor keeps test results if no package is named"
		c.Hint = `name it: "go test ." instead of "go test"`
	}
	return c
}

// otherMisses counts misses of what is not an action by itself.
func (e *explainer) otherMisses(answer *Explanation) {
	named := make(map[string]bool)
	for _, a := range e.q.Now.Actions {
		named[a.ID] = true
	}
	for id, access := range e.q.Accesses {
		if access.Missed && !named[id] {
			kind := e.q.Kinds[id]
			if kind == "" {
				kind = "unknown"
			}
			answer.Other[kind]++
		}
	}
}
