package cacheprog_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPage holds docs/protocol.md to the vectors and the schema: its examples, the names that it mentions, and what it says that
// the go command says.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	schema := schemas(t)
	sessions := make(map[string][]session)
	for _, s := range readSessions(t) {
		sessions[s.Name] = append(sessions[s.Name], s)
	}

	quoted := 0
	for _, m := range regexp.MustCompile("(?s)```(json|text) (\\S+)\n(.*?)```").FindAllStringSubmatch(page, -1) {
		quoted++
		if kind, what, block := m[1], m[2], m[3]; kind == "json" {
			part := map[string]string{"request": "request", "response": "answerToGet", "first": "first"}[what]
			if err := validate(schema(part), []byte(block)); err != nil {
				t.Errorf("the example of a %s: %v", what, err)
			}
		} else {
			checkQuote(t, what, block)
		}
	}
	if n := strings.Count(page, "```") / 2; quoted != n || n < 5 {
		t.Errorf("%d of %d examples are checked", quoted, n)
	}

	named := regexp.MustCompile("`((?:fault|known|build|vet|list|test)-[a-z0-9-]+)`").FindAllStringSubmatch(page, -1)
	for _, m := range named {
		if sessions[m[1]] == nil {
			t.Errorf("no session %s", m[1])
		}
	}
	for name := range sessions {
		if strings.HasPrefix(name, "fault-") && !strings.Contains(page, "`"+name+"`") {
			t.Errorf("the page says nothing of %s", name)
		}
	}

	cases := map[string][]string{}
	var requests requestVectors
	readVectors(t, "requests.json", &requests)
	for _, c := range requests.Cases {
		cases["requests"] = append(cases["requests"], c.Name)
	}
	var responses responseVectors
	readVectors(t, "responses.json", &responses)
	for _, c := range responses.Cases {
		cases["responses"] = append(cases["responses"], c.Name)
	}
	mentioned := regexp.MustCompile(`(requests|responses)\.json#([a-z0-9-]+)`).FindAllStringSubmatch(page, -1)
	for _, m := range mentioned {
		if !slices.Contains(cases[m[1]], m[2]) {
			t.Errorf("no case %s", m[0])
		}
	}
	if len(named) < 20 || len(mentioned) < 20 {
		t.Errorf("%d sessions and %d cases are named", len(named), len(mentioned))
	}

	says := 0
	for _, line := range strings.Split(page, "\n") {
		message := regexp.MustCompile("“(.*)”").FindStringSubmatch(line)
		name := regexp.MustCompile("`(fault-[a-z0-9-]+)` \\|$").FindStringSubmatch(line)
		if message == nil || name == nil {
			continue
		}
		says++
		for _, s := range sessions[name[1]] {
			if !strings.Contains(s.Stderr, message[1]) || s.Exit != 1 {
				t.Errorf("%s/%s: %d, %s, want %s", s.Go, s.Name, s.Exit, s.Stderr, message[1])
			}
		}
	}
	if says < 10 {
		t.Errorf("%d messages are checked", says)
	}
}

// checkQuote checks that a block has what a session has, line by line and in order. An ellipsis stands for anything.
func checkQuote(t *testing.T, name, block string) {
	t.Helper()
	s, err := readSession(filepath.Join("..", "docs", "protocol", name))
	if err != nil {
		t.Error(err)
		return
	}
	var lines []string
	for _, e := range s.events {
		for _, line := range strings.Split(e.Raw, "\n") {
			if line != "" {
				lines = append(lines, e.From+" "+line)
			}
		}
	}
	for i, want := range strings.Split(strings.TrimSpace(block), "\n") {
		from, text, _ := strings.Cut(want, " ")
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(from+" "+strings.TrimSpace(text)), "…", ".*") + "$"
		if i >= len(lines) || !regexp.MustCompile(pattern).MatchString(lines[i]) {
			t.Errorf("%s: line %d of the example is not %s", name, i+1, lines[min(i, len(lines)-1)])
			return
		}
	}
}

// TestVersions holds what the page says of the releases to what they have sent.
func TestVersions(t *testing.T) {
	seen := make(map[int]bool)
	for _, s := range readSessions(t) {
		n := minor(s.Go)
		seen[n] = true
		for _, e := range s.events {
			if put := strings.Contains(e.Raw, `"Command":"put"`); put && strings.Contains(e.Raw, `"ObjectID"`) != (n < 24) || put && strings.Contains(e.Raw, `"OutputID"`) != (n >= 24) {
				t.Errorf("%s sends %.200s", s.Go, e.Raw)
			}
		}
		if lost := s.Name == "fault-close-end" && n < 24; lost != (s.Exit == -1 || s.Exit == 2) {
			t.Errorf("%s/%s: status %d", s.Go, s.Name, s.Exit)
		}
	}
	for n := 21; n <= 27; n++ {
		if !seen[n] {
			t.Errorf("no session of Go 1.%d", n)
		}
	}
}
