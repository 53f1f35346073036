package e2e_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/larder-build/larder/internal/stats"
)

var screenshots = flag.Bool("screenshots", false, "write docs/dashboard*.png anew")

// needBrowser demands a browser: without it, a machine that has none skips.
const needBrowser = "LARDER_NEED_BROWSER"

// browserPath finds a Chromium.
func browserPath(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("LARDER_BROWSER"), "chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	if os.Getenv(needBrowser) != "" {
		t.Fatalf("no Chromium on the PATH, and %s is set; apt-get install chromium", needBrowser)
	}
	t.Skipf("no Chromium on the PATH: apt-get install chromium (%s=1 makes this an error)", needBrowser)
	return ""
}

// A teamServer is a larderd serve with tokens, which can be stopped and started.
type teamServer struct {
	t       *testing.T
	dir     string
	url     string
	cmd     *exec.Cmd
	secrets map[string]string // tokens, by name
}

func larderd(args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(os.Getenv("LARDER_E2E_BIN"), "larderd"), args...)
}

func startTeamServer(t *testing.T) *teamServer {
	s := &teamServer{t: t, dir: t.TempDir(), secrets: make(map[string]string)}
	for name, flags := range map[string][]string{"ops": {"-role", "admin"}, "main-ci": {"-role", "trusted"}, "pull-requests": {"-role", "writer", "-namespace", "pr"}} {
		out, err := larderd(append(append([]string{"token", "-tokens", s.dir + "/tokens.toml", "-name", name}, flags...), "add")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		s.secrets[name] = strings.TrimSpace(string(out))
		if err := os.WriteFile(filepath.Join(s.dir, name+".token"), out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.start("127.0.0.1:0")
	t.Cleanup(s.stop)
	return s
}

func (s *teamServer) start(listen string) {
	s.t.Helper()
	addr := filepath.Join(s.dir, "addr")
	os.Remove(addr)
	s.cmd = larderd("serve", "-dir", filepath.Join(s.dir, "data"), "-tokens", s.dir+"/tokens.toml", "-max-size", "18MB", "-listen", listen, "-addr-file", addr)
	s.cmd.Stderr = os.Stderr
	if !testing.Verbose() {
		s.cmd.Stderr = nil
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for limit := time.Now().Add(startLimit); time.Now().Before(limit); {
		if data, err := os.ReadFile(addr); err == nil {
			s.url = "http://" + strings.TrimSpace(string(data))
			return
		}
		time.Sleep(10 * time.Millisecond) // the file is the sign
	}
	s.t.Fatalf("the server does not listen after %v", startLimit)
}

func (s *teamServer) stop() {
	s.cmd.Process.Signal(os.Interrupt)
	s.cmd.Wait()
}

// report tells the server of sessions.
func (s *teamServer) report(token string, reports ...stats.Report) {
	s.t.Helper()
	for chunk := range slices.Chunk(reports, 100) {
		body, err := json.Marshal(map[string]any{"version": stats.ReportVersion, "sessions": chunk})
		if err != nil {
			s.t.Fatal(err)
		}
		req, err := http.NewRequest("POST", s.url+"/v1/sessions", bytes.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.secrets[token])
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			s.t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || strings.Contains(string(answer), "refused") {
			s.t.Fatalf("report: %d %s", resp.StatusCode, answer)
		}
	}
}

// build builds a package for real, on a machine of its own, and waits until its
// outputs are uploaded.
func (s *teamServer) build(token, flag string) {
	s.t.Helper()
	module := filepath.Join(s.dir, "module")
	if err := os.MkdirAll(module, 0o777); err != nil {
		s.t.Fatal(err)
	}
	for name, text := range map[string]string{"go.mod": "module example.com/shop\n\ngo 1.24\n", "lib.go": "package shop\n\nfunc Answer() int { return 42 }\n"} {
		if err := os.WriteFile(filepath.Join(module, name), []byte(text), 0o666); err != nil {
			s.t.Fatal(err)
		}
	}
	s.run(token, module, "build", flag, ".")
}

// run runs a go command in a directory, on a machine of its own.
func (s *teamServer) run(token, dir string, args ...string) {
	s.t.Helper()
	home := s.t.TempDir()
	cmd := exec.Command(filepath.Join(os.Getenv("LARDER_E2E_BIN"), "larder"), append([]string{"run", "--", "go"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME="+home+"/.cache", "XDG_CONFIG_HOME="+home, "GOCACHE="+home+"/gocache", "GOMODCACHE="+goEnv(s.t, "GOMODCACHE"),
		"GOENV=off", "GOTOOLCHAIN=local", "GOFLAGS=-buildvcs=false", "LARDER_REMOTE="+s.url, "LARDER_TOKEN_FILE="+filepath.Join(s.dir, token+".token"))
	out, err := cmd.CombinedOutput()
	stop := larderd("agent", "-stop")
	stop.Env = cmd.Env
	if stopErr := stop.Run(); err != nil || stopErr != nil {
		s.t.Fatalf("go %q: %v, %v\n%s", args, err, stopErr, out)
	}
}

// pastDay are sessions of a day, as a team of ten machines has them, for pictures.
func pastDay(now time.Time) (trusted, pr []stats.Report) {
	r := rand.New(rand.NewPCG(7, 7))
	commands := []string{"go build ./...", "go test ./...", "go vet ./...", "go test -race -count=1 ./internal/…", "go build -trimpath -tags netgo -o … ./cmd/shop"}
	projects := []string{"example.com/shop", "example.com/shop/payments", "example.com/platform/tools"}
	for minute := 24 * 60; minute > 4; minute -= 2 + r.IntN(9) {
		at := now.Add(-time.Duration(minute) * time.Minute)
		busy := 0.35 + 0.65*math.Exp(-math.Pow((float64((at.Hour()+24)%24)-14)/5, 2))
		if r.Float64() > busy {
			continue
		}
		s := stats.Report{
			ID: stats.NewID(), Machine: fmt.Sprintf("ci-runner-%d", 1+r.IntN(6)), Project: projects[r.IntN(len(projects))], Command: commands[r.IntN(len(commands))],
			Go: "go1.26.8", Target: "linux/amd64", Version: "v0.4.0", Seconds: 2 + 20*r.Float64(),
		}
		isPR := r.IntN(4) == 0
		if isPR {
			s.Machine = fmt.Sprintf("pr-runner-%d", 1+r.IntN(3))
		} else if r.IntN(4) == 0 {
			s.Machine, s.Target = []string{"marias-laptop", "tom-mbp"}[r.IntN(2)], "darwin/arm64"
		}
		s.Start = at.Add(-time.Duration(s.Seconds * float64(time.Second)))
		s.Gets = 800 + int64(r.IntN(1600))
		rate := min(1, 0.86+0.16*r.Float64())
		if r.IntN(12) == 0 {
			rate = 0.4 + 0.3*r.Float64()
		}
		s.Hits = int64(rate * float64(s.Gets))
		s.Misses.Absent = s.Gets - s.Hits
		s.Puts, s.PutBytes, s.HitBytes = s.Misses.Absent, s.Misses.Absent*300_000, s.Hits*300_000
		s.HitsRemote = int64(float64(s.Hits) * 0.03 * r.Float64())
		s.HitsPrefetched = int64(float64(s.Hits-s.HitsRemote) * r.Float64())
		s.Fetched, s.FetchedBytes, s.RoundTrips = s.HitsPrefetched+s.HitsRemote, (s.HitsPrefetched+s.HitsRemote)*70_000, 1+s.HitsRemote/10
		s.SavedSeconds, s.BuildSeconds, s.WaitSeconds = float64(s.Hits)*0.09, float64(s.Misses.Absent)*0.1, 0.4+float64(s.HitsRemote)*0.01
		if isPR {
			pr = append(pr, s)
		} else {
			trusted = append(trusted, s)
		}
	}
	last := &trusted[len(trusted)-2]
	last.Machine, last.Breaker, last.RemoteErrors = "ci-runner-9", "dial tcp 10.2.0.7:7070: connect: connection refused", 1
	return trusted, pr
}

// A tab is a browser's, with what went wrong in it.
type tab struct {
	context.Context
	t  *testing.T
	mu sync.Mutex
	// wrong are messages on the console, exceptions and violations of the policy.
	wrong []string
	// fine tells of those that are expected at the moment.
	fine func(text string) bool
}

func openBrowser(t *testing.T) *tab {
	t.Helper()
	path := browserPath(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Flag("lang", "en-GB"), chromedp.UserDataDir(t.TempDir()))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it has none for root
	}
	allocated, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancelTab := chromedp.NewContext(allocated, chromedp.WithErrorf(t.Logf))
	t.Cleanup(cancelTab)
	ctx, cancelTime := context.WithTimeout(ctx, 8*time.Minute)
	t.Cleanup(cancelTime)
	b := &tab{Context: ctx, t: t}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			b.note("exception: " + e.ExceptionDetails.Error())
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
				b.note(fmt.Sprintf("console: %s", e.Args[0].Value))
			}
		case *cdplog.EventEntryAdded:
			if e.Entry.Level == cdplog.LevelError || e.Entry.Level == cdplog.LevelWarning {
				b.note(fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
			}
		}
	})
	b.do(
		runtime.Enable(), cdplog.Enable(), page.Enable(),
		chromedp.ActionFunc(func(ctx context.Context) error {
			_, err := page.AddScriptToEvaluateOnNewDocument(`addEventListener("securitypolicyviolation", e => console.error("policy", e.violatedDirective, e.blockedURI))`).Do(ctx)
			return err
		}),
	)
	return b
}

func (b *tab) note(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fine == nil || !b.fine(text) {
		b.wrong = append(b.wrong, text)
	}
}

// expect says what may go wrong from now on.
func (b *tab) expect(fine func(text string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fine = fine
}

// clean fails the test if anything went wrong.
func (b *tab) clean(where string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.wrong {
		b.t.Errorf("%s: %s", where, text)
	}
	b.wrong = nil
}

func (b *tab) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// eval is what an expression, which may be a promise, comes to.
func eval[T any](b *tab, script string) (v T) {
	b.t.Helper()
	b.do(chromedp.Evaluate(script, &v, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
	return v
}

// until waits until an expression is true.
func (b *tab) until(script string) {
	b.t.Helper()
	limit, cancel := context.WithTimeout(b, 2*time.Minute)
	defer cancel()
	if err := chromedp.Run(limit, chromedp.Poll(script, nil, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(0))); err != nil {
		b.t.Fatalf("%s: %v; the page is\n%s", script, err, eval[string](b, `document.body.innerText`))
	}
}

func (b *tab) login(s *teamServer, token string) {
	b.t.Helper()
	// By keyboard alone: the field has the focus.
	b.do(chromedp.Navigate(s.url+"/"), chromedp.WaitVisible("#token"), chromedp.KeyEvent(s.secrets[token]+kb.Enter), chromedp.WaitVisible("h1"), chromedp.WaitNotPresent("#token"))
}

func (b *tab) scheme(scheme string) {
	b.t.Helper()
	b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}))
}

func (b *tab) size(width, height int64, touch bool) {
	b.t.Helper()
	b.do(emulation.SetDeviceMetricsOverride(width, height, 1, touch))
}

// audit has axe look at the page.
func (b *tab) audit(where string) {
	b.t.Helper()
	if !eval[bool](b, `"axe" in window`) {
		packed, err := os.ReadFile(filepath.Join("testdata", "axe", "axe-core-4.14.1.min.js.gz"))
		if err != nil {
			b.t.Fatal(err)
		}
		unpacked, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			b.t.Fatal(err)
		}
		script, err := io.ReadAll(unpacked)
		if err != nil {
			b.t.Fatal(err)
		}
		b.do(chromedp.Evaluate(string(script)+";true", nil))
	}
	type finding struct{ ID, Help, Nodes string }
	for _, f := range eval[[]finding](b, `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(v => (
		{id: v.id, help: v.help, nodes: v.nodes.map(n => n.html + " " + n.failureSummary).join("\n")})))`) {
		b.t.Errorf("%s: %s: %s\n%s", where, f.ID, f.Help, f.Nodes)
	}
	if passes := eval[int](b, `axe.run(document).then(r => r.passes.length)`); passes < 10 {
		b.t.Errorf("%s: axe has looked at %d rules only", where, passes)
	}
}

// fits checks that the page is not wider than the window.
func (b *tab) fits(where string) {
	b.t.Helper()
	type widths struct{ Page, Window int }
	if w := eval[widths](b, `({page: document.scrollingElement.scrollWidth, window: innerWidth})`); w.Page > w.Window {
		b.t.Errorf("%s: %d pixels in a window of %d", where, w.Page, w.Window)
	}
}

func (b *tab) screenshot(name string) {
	b.t.Helper()
	var png []byte
	b.do(chromedp.CaptureScreenshot(&png))
	if len(png) > 300<<10 {
		b.t.Errorf("picture %s has %d bytes", name, len(png))
	}
	if *screenshots {
		if err := os.WriteFile(filepath.Join("..", "docs", name), png, 0o666); err != nil {
			b.t.Fatal(err)
		}
	}
}

// The dashboard in a real browser.
func TestDashboard(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds, and browses")
	}
	t.Parallel() // it mostly waits
	b := openBrowser(t)
	s := startTeamServer(t)
	trusted, pr := pastDay(time.Now())
	s.report("main-ci", trusted...)
	s.report("pull-requests", pr...)
	s.build("main-ci", "-tags=first")
	s.build("pull-requests", "-gcflags=-N")
	if *screenshots {
		for range 3 { // for pictures, something larger; the last time all of it comes from the server
			s.run("main-ci", "..", "build", "-o", s.dir, "./cmd/larder", "./internal/config")
		}
		s.run("pull-requests", "..", "vet", "./internal/config", "./internal/session", "./internal/store")
	}
	b.size(1280, 1220, false)
	b.scheme("light")

	b.do(chromedp.Navigate(s.url + "/sessions"))
	if at := eval[string](b, `location.pathname`); at != "/login" {
		t.Errorf("without a login one is at %s", at)
	}
	b.audit("login")
	b.expect(func(text string) bool { return strings.Contains(text, "401") })
	b.do(chromedp.WaitVisible("#token"), chromedp.KeyEvent("larder_guess"+kb.Enter), chromedp.WaitVisible("#refusal"))
	b.expect(nil)
	b.login(s, "ops")
	if eval[string](b, `document.cookie`) != "" {
		t.Error("a script can read the cookie")
	}
	b.until(`document.getElementById("status").textContent === "Live"`)
	if n := eval[int](b, `document.querySelectorAll("figure canvas").length`); n != 5 {
		t.Errorf("%d charts are drawn", n)
	}
	b.clean("the overview")

	t.Run("live", func(t *testing.T) {
		b.t = t
		before := eval[int](b, `(window.mark = "not reloaded", document.querySelectorAll("#recent tbody tr").length)`)
		b.do(chromedp.Evaluate(`document.querySelector("#chart-rate details").open = true; document.querySelector("#recent tbody a").focus(); true`, nil))
		href := eval[string](b, `document.activeElement.getAttribute("href")`)
		s.build("main-ci", "-tags=live")
		b.until(`document.querySelector("#recent").textContent.includes("go build -tags=live .")`)
		if eval[string](b, `window.mark`) != "not reloaded" || !eval[bool](b, `document.querySelector("#chart-rate details").open`) {
			t.Error("the page was loaded anew, or what was open is not any more")
		}
		if now := eval[string](b, `document.activeElement.getAttribute("href") ?? ""`); now != href && before < 15 {
			t.Errorf("the focus went from %s to %q", href, now)
		}
		b.do(chromedp.Evaluate(`document.querySelector("#chart-rate details").open = false; true`, nil))

		// A restart is noticed, survived, and no reason to log in again.
		b.expect(func(text string) bool { return strings.Contains(text, "net::ERR") })
		s.stop()
		b.until(`document.getElementById("status").textContent.includes("does not answer")`)
		s.start(strings.TrimPrefix(s.url, "http://"))
		b.until(`document.getElementById("status").textContent === "Live"`)
		b.expect(nil)
		s.build("main-ci", "-tags=restarted")
		b.until(`document.querySelector("#recent").textContent.includes("go build -tags=restarted .")`)
		if eval[string](b, `window.mark`) != "not reloaded" {
			t.Error("the page was loaded anew")
		}
		b.clean("live")
	})

	t.Run("looks", func(t *testing.T) {
		b.t = t
		session := eval[string](b, `document.querySelector("#recent tbody a").href`)
		for _, scheme := range []string{"light", "dark"} {
			b.scheme(scheme)
			for name, url := range map[string]string{"overview": s.url + "/", "sessions": s.url + "/sessions", "session": session, "nothing": s.url + "/sessions/nothing"} {
				b.expect(func(text string) bool { return name == "nothing" && strings.Contains(text, "404") })
				b.size(1280, 1220, false)
				b.do(chromedp.Navigate(url), chromedp.WaitVisible("h1"))
				b.audit(name + ", " + scheme)
				switch {
				case name == "overview" && scheme == "light":
					b.screenshot("dashboard.png")
				case name == "overview":
					b.screenshot("dashboard-dark.png")
				case name == "session" && scheme == "light":
					b.size(1280, 800, false)
					b.screenshot("dashboard-session.png")
				}
				b.size(360, 780, true)
				b.do(chromedp.Navigate(url), chromedp.WaitVisible("h1"))
				b.fits(name + ", " + scheme)
				if name == "overview" && scheme == "dark" {
					b.screenshot("dashboard-phone.png")
				}
				b.clean(name + ", " + scheme)
			}
		}
		b.expect(nil)
		b.scheme("light")
		b.size(1280, 1220, false)
	})

	t.Run("keyboard", func(t *testing.T) {
		b.t = t
		b.do(chromedp.Navigate(s.url+"/"), chromedp.WaitVisible("h1"))
		type stop struct {
			What    string
			Visible bool
		}
		var stops []string
		all := eval[int](b, `document.querySelectorAll("a, button, summary, .scroll").length`)
		for range all + 20 {
			b.do(chromedp.KeyEvent(kb.Tab))
			at := eval[stop](b, `(() => { const e = document.activeElement, s = getComputedStyle(e);
				return {what: e === document.body ? "" : e.getAttribute("href") || e.getAttribute("aria-label") || e.textContent.trim(), visible: s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2}; })()`)
			if at.What == "" || slices.Contains(stops, "#main") && at.What == "#main" {
				break
			}
			if !at.Visible {
				t.Errorf("the focus on %q is not visible", at.What)
			}
			stops = append(stops, at.What)
		}
		for _, want := range []string{"#main", "/", "/sessions", "/?period=7d", "Log out", "Hit rate in numbers", "Recent sessions, a table", "Clients, a table"} {
			if !slices.Contains(stops, want) {
				t.Errorf("%q cannot be reached; what can is %q", want, stops)
			}
		}
		if len(stops) > 0 && stops[0] != "#main" {
			t.Errorf("the first is %q", stops[0])
		}
	})

	t.Run("hostile", func(t *testing.T) {
		b.t = t
		evil := trusted[0]
		evil.ID, evil.Start, evil.Seconds = stats.NewID(), time.Now().Add(-time.Second), 1
		evil.Machine, evil.Project = `<script>window.evil = 1</script>`, `"><img src=x onerror=window.evil=1>`+strings.Repeat("long", 60)
		evil.Command, evil.Breaker = `javascript:alert(1) </td></table>`, strings.Repeat("x", 300)
		s.report("main-ci", evil)
		b.size(360, 780, true)
		b.do(chromedp.Navigate(s.url+"/"), chromedp.WaitVisible("h1"))
		b.fits("long names")
		b.do(chromedp.Evaluate(`document.querySelector("#recent tbody a").click(); true`, nil), chromedp.WaitVisible(".crumb"))
		b.fits("a session with long names")
		if text := eval[string](b, `document.body.innerText`); !strings.Contains(text, evil.Machine) || eval[bool](b, `"evil" in window`) {
			t.Errorf("what a client says is not shown as it is:\n%s", text)
		}
		b.size(1280, 1220, false)
		b.clean("hostile")
	})

	t.Run("without scripts", func(t *testing.T) {
		b.t = t
		b.do(emulation.SetScriptExecutionDisabled(true), chromedp.Navigate(s.url+"/"), emulation.SetScriptExecutionDisabled(false))
		text := eval[string](b, `document.body.textContent`)
		for _, want := range []string{"Hit rate", "example.com/shop", "ci-runner-9", "gave the server up", "connection refused", "Dearest to build", "pull-requests", "UTC"} {
			if !strings.Contains(text, want) {
				t.Errorf("the page lacks %q", want)
			}
		}
		if n := eval[int](b, `document.querySelectorAll("#chart-gets tbody tr").length`); n < 90 {
			t.Errorf("a chart's table has %d rows", n)
		}
	})

	t.Run("roles", func(t *testing.T) {
		b.t = t
		b.do(chromedp.Navigate(s.url+"/"), chromedp.WaitVisible(".who"), chromedp.Click(".who button"), chromedp.WaitVisible("#token"))
		b.do(chromedp.Navigate(s.url + "/sessions"))
		if at := eval[string](b, `location.pathname`); at != "/login" {
			t.Errorf("after a logout one is at %s", at)
		}
		b.login(s, "pull-requests")
		text := eval[string](b, `document.body.textContent`)
		if !strings.Contains(text, "pr-runner-") || strings.Contains(text, "ci-runner-") || strings.Contains(text, "main-ci") || strings.Contains(text, "Evicted") {
			t.Errorf("a pull request's token sees\n%s", text)
		}
		b.audit("a writer's overview")
		b.clean("roles")
	})
}
