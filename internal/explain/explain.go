// Package explain says why a go command missed in the cache: which of an action's
// inputs changed since the action was last seen, and which packages are the root of
// a chain of misses.
//
// It works on what the go command itself says about its hashes (GODEBUG=
// gocachehash=1, see ReadTrace). A Recording is what one command needed, with the
// inputs of each action; the last ones are kept (History), or given in a file from
// another machine. What is not in them is said to be unknown, not guessed.
//
// A trace and a recording come from outside: reading them is bounded, and nothing
// in them can do more than make an explanation wrong.
package explain

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// An Access is what happened to one action ID in the cache.
type Access struct{ Hit, Missed, Put bool }

// A Question is about one command.
type Question struct {
	Now      *Recording
	Accesses map[string]Access // by action ID
	Kinds    map[string]string // what other IDs are of, from the trace
	Disabled []string          // from the trace
	Before   []*Recording      // newest first
	Against  bool              // compare all with Before, whether it missed or not
}

// An Explanation answers it. Its JSON form is that of "larder explain -json".
type Explanation struct {
	Missed Counts         `json:"missed"` // or, against a recording, what differs
	Hit    Counts         `json:"hit"`    // or is the same
	Other  map[string]int `json:"other_misses"`
	Causes []Cause        `json:"causes"`
}

// Counts count actions by kind.
type Counts struct {
	Packages int `json:"packages"` // compiled
	Vets     int `json:"vets"`
	Programs int `json:"programs"` // linked
	Tests    int `json:"tests"`    // run
}

func (c *Counts) add(kind string) {
	switch kind {
	case Build:
		c.Packages++
	case Vet:
		c.Vets++
	case Link:
		c.Programs++
	case Test:
		c.Tests++
	}
}

// Total is all of them.
func (c Counts) Total() int { return c.Packages + c.Vets + c.Programs + c.Tests }

// Why is what kind of cause a cause is.
type Why string

// The kinds of causes.
const (
	Changed     Why = "changed"     // an input is not what it was
	New         Why = "new"         // no recording has the action
	Gone        Why = "gone"        // nothing changed, the cache does not have it any more
	Forced      Why = "forced"      // the command did not ask (-a)
	Uncacheable Why = "uncacheable" // the go command does not keep or use this result
	NotKept     Why = "not kept"    // it would keep results, but did not keep this one
)

// A Cause is one reason for misses.
type Cause struct {
	Why      Why       `json:"why"`
	What     string    `json:"what"`           // in words
	Hint     string    `json:"hint,omitempty"` // what to do, if something is to be done
	Since    time.Time `json:"since,omitzero"` // when what it is compared with was seen
	Kinds    []string  `json:"kinds"`          // of the actions that it concerns directly: build, vet, link, test
	Packages []string  `json:"packages"`       // that it concerns directly: the roots
	Led      Counts    `json:"led_to"`         // what missed because of them
	LedTo    []string  `json:"led_to_names"`   // the same by name: "build example.com/p"
}

// A node is an action that missed, or one that did not, but is why others missed:
// it is not what it was, and came from the cache as somebody else has made it.
type node struct {
	action *Action
	hit    bool
	deps   []ref
	causes []cause
	others []*node        // that explain this one, beside the deps that missed
	roots  map[*node]bool // nodes with causes that this one has missed for
	busy   bool
}

// A cause is one of a node's own.
type cause struct {
	why        Why
	what, hint string
	own        bool
	since      time.Time
}

// Explain answers a question.
func Explain(q Question) *Explanation {
	e := explainer{q: q, before: make(map[ref][]seen), nodes: make(map[ref][]*node), others: make(map[otherKey]*node)}
	for _, r := range q.Before {
		for i := range r.Actions {
			a := &r.Actions[i]
			e.before[ref{a.Kind, a.Package}] = append(e.before[ref{a.Kind, a.Package}], seen{a, r})
		}
	}
	answer := &Explanation{Other: make(map[string]int), Causes: []Cause{}}
	e.choose(answer)
	for i := 0; i < len(e.list); i++ { // which grows by those that did not miss
		e.compare(e.list[i])
	}
	for _, n := range e.list {
		e.settle(n)
	}
	e.gather(answer)
	e.tests(answer)
	e.otherMisses(answer)
	slices.SortStableFunc(answer.Causes, func(a, b Cause) int {
		return cmp.Compare(b.Led.Total()+len(b.Packages), a.Led.Total()+len(a.Packages))
	})
	return answer
}

type explainer struct {
	q      Question
	before map[ref][]seen
	nodes  map[ref][]*node // that missed
	list   []*node         // all
	others map[otherKey]*node
}

// An otherKey is of an action that did not miss, compared with one recording.
type otherKey struct {
	ref
	in *Recording
}

// A seen is an action of a recording.
type seen struct {
	action *Action
	in     *Recording
}

// choose makes the nodes: what missed, or, against a recording, what differs.
func (e *explainer) choose(answer *Explanation) {
	asked := make(map[string]bool) // programs of tests that were asked for: the tests were run
	for _, a := range e.q.Now.Actions {
		if a.Kind == Link && strings.HasSuffix(a.Package, ".test") {
			access, ok := e.q.Accesses[a.ID]
			asked[a.Package] = asked[a.Package] || ok && !access.Put
		}
	}
	for i := range e.q.Now.Actions {
		a := &e.q.Now.Actions[i]
		access, known := e.q.Accesses[a.ID]
		missed, hit := access.Missed || access.Put && !access.Hit, access.Hit
		if a.Kind == Test {
			missed, hit = asked[a.Package+".test"], !asked[a.Package+".test"]
		}
		if e.q.Against {
			hit = slices.ContainsFunc(e.before[ref{a.Kind, a.Package}], func(s seen) bool { return s.action.ID == a.ID && e.sameInputs(a, s.action) })
			missed = !hit
		} else if !known && a.Kind != Test {
			continue // nobody asked for it: what was made from it is up to date
		}
		switch {
		case missed:
			answer.Missed.add(a.Kind)
			n := &node{action: a}
			for _, in := range inputsOf(a) {
				if (in.dep != ref{}) {
					n.deps = append(n.deps, in.dep)
				}
			}
			e.list = append(e.list, n)
			e.nodes[ref{a.Kind, a.Package}] = append(e.nodes[ref{a.Kind, a.Package}], n)
		case hit:
			answer.Hit.add(a.Kind)
		}
	}
}

// sameInputs matters for tests, whose ID leaves out what they read.
func (e *explainer) sameInputs(a, b *Action) bool {
	return a.Kind != Test || slices.Equal(a.Inputs, b.Inputs)
}

// compare finds a node's own causes: what differs from the most similar action of
// its name that was seen, apart from what other nodes explain.
func (e *explainer) compare(n *node) {
	if n.hit {
		return // it was, when it was found
	}
	a := n.action
	candidates := slices.DeleteFunc(slices.Clone(e.before[ref{a.Kind, a.Package}]), func(s seen) bool {
		return forTest(s.action) != forTest(a)
	})
	if access := e.q.Accesses[a.ID]; !e.q.Against && access.Put && !access.Missed && !access.Hit && a.Kind != Test {
		n.causes = []cause{{why: Forced, what: "the command did not ask the cache for it, as with -a"}}
		return
	}
	var best []change
	var from seen
	here := func(s seen) bool { return s.in.Dir == e.q.Now.Dir }
	for _, s := range candidates {
		if s.action.ID == a.ID && e.sameInputs(a, s.action) {
			e.unchanged(n, s)
			return
		}
		if from.action != nil && here(from) && !here(s) {
			continue // another checkout's is less like it, whatever the numbers
		}
		changes := compareInputs(a, s, e.q.Now.GoVersion)
		if from.action == nil || here(s) && !here(from) || len(changes) < len(best) {
			best, from = changes, s
		}
	}
	if from.action == nil {
		if !slices.ContainsFunc(n.deps, e.isNode) {
			n.causes = []cause{{why: New, what: "seen for the first time", since: time.Time{}}}
		}
		return
	}
	e.attribute(n, best, from)
}

// attribute makes causes of a node's changes: its own, and of what it depends on
// those that no other node explains.
func (e *explainer) attribute(n *node, changes []change, from seen) {
	var left []change
	explained := false
	for _, c := range changes {
		switch {
		case (c.input.dep == ref{}):
			n.causes = append(n.causes, cause{Changed, c.what, c.hint, c.own, from.in.Time})
		case e.isNode(c.input.dep):
			explained = true
		default:
			if other := e.other(c.input.dep, from.in); other != nil {
				n.others = append(n.others, other)
			} else {
				left = append(left, c)
			}
		}
	}
	if len(n.causes) > 0 || len(n.others) > 0 || explained {
		return
	}
	for _, c := range left {
		n.causes = append(n.causes, cause{Changed, c.what, c.hint, c.own, from.in.Time})
	}
}

// other is the node of an action that did not miss but is not as it was in a
// recording; nil if it is, or if nothing is known of it.
func (e *explainer) other(r ref, in *Recording) *node {
	key := otherKey{r, in}
	if n, ok := e.others[key]; ok {
		return n
	}
	e.others[key] = nil // while it is being found: what depends on itself is not explained
	now := findAction(e.q.Now, r)
	was := findAction(in, r)
	if now == nil || was == nil || now.ID == was.ID {
		return nil
	}
	n := &node{action: now, hit: true}
	e.others[key] = n
	e.list = append(e.list, n)
	from := seen{was, in}
	e.attribute(n, compareInputs(now, from, e.q.Now.GoVersion), from)
	return n
}

// findAction finds an action by name; one that is built for a test does not count.
func findAction(r *Recording, name ref) *Action {
	for i := range r.Actions {
		if a := &r.Actions[i]; a.Kind == name.kind && a.Package == name.pkg && !forTest(a) {
			return a
		}
	}
	return nil
}

// forTest reports whether a package is built together with its tests, under the
// name that it has without.
func forTest(a *Action) bool {
	return a.Kind == Build && slices.ContainsFunc(a.Inputs, func(line string) bool {
		name, _ := cutLast(line, " ")
		return line == "forcelibrary" || strings.HasPrefix(line, "file ") && strings.HasSuffix(name, "_test.go")
	})
}

// isNode reports whether an action that missed has this name.
func (e *explainer) isNode(r ref) bool { return len(e.nodes[r]) > 0 }

// unchanged is for an action that was seen exactly so.
func (e *explainer) unchanged(n *node, s seen) {
	switch n.action.Kind {
	case Link: // the go command does not keep programs: its way, and no cause
	case Test:
		n.causes = []cause{{why: Gone, what: "nothing that it reads changed: its last result was a failure, was not kept, or is gone (go clean -testcache)", since: s.in.Time}}
	default:
		n.causes = []cause{{why: Gone, what: "nothing changed: the cache does not have it any more (trimmed, cleaned, or it is another cache)", since: s.in.Time}}
	}
}

// settle finds the roots of a node: itself if it has causes, else those of what it
// depends on.
func (e *explainer) settle(n *node) map[*node]bool {
	if n.roots != nil || n.busy {
		return n.roots
	}
	n.busy = true
	roots := make(map[*node]bool)
	if len(n.causes) > 0 {
		roots[n] = true
	} else {
		for _, dep := range n.deps {
			for _, d := range e.nodes[dep] {
				if d != n {
					maps.Copy(roots, e.settle(d))
				}
			}
		}
		for _, d := range n.others {
			maps.Copy(roots, e.settle(d))
		}
	}
	n.roots, n.busy = roots, false
	return roots
}
