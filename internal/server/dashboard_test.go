package server_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/larder-build/larder/internal/server"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/disk"
)

// A site is a server with a dashboard, whose tokens can be taken away.
type site struct {
	*httptest.Server
	t       *testing.T
	grants  map[string]auth.Grant // by hash
	storage *disk.Store
}

func startSite(t *testing.T, dir string, grants map[string]auth.Grant, secure bool) *site {
	t.Helper()
	storage, err := disk.Open(disk.Options{Dir: dir, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, grants: make(map[string]auth.Grant), storage: storage}
	o := server.Options{Storage: storage, Log: slog.New(slog.DiscardHandler), Version: "v1.2.3", Secure: secure}
	if grants != nil {
		for secret, g := range grants {
			s.grants[auth.Hash(secret)] = g
		}
		o.Find = func(hash string) (auth.Grant, error) {
			if g, ok := s.grants[hash]; ok {
				return g, nil
			}
			return auth.Grant{}, auth.ErrUnknown
		}
		o.Authenticate = func(secret string) (auth.Grant, error) { return o.Find(auth.Hash(secret)) }
	}
	s.Server = httptest.NewServer(server.New(o))
	t.Cleanup(s.end)
	return s
}

func (s *site) end() {
	s.Close()
	s.storage.Close()
}

// do makes a request as a browser would, with a cookie; redirects are not followed.
func (s *site) do(method, path, cookie string, header map[string]string, form url.Values) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for name, value := range header {
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(body)
}

func (s *site) login(secret string) (cookie string) {
	s.t.Helper()
	resp, _ := s.do("POST", "/login", "", map[string]string{"Sec-Fetch-Site": "same-origin"}, url.Values{"token": {secret}})
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) != 1 {
		s.t.Fatalf("login: %d, %v", resp.StatusCode, resp.Cookies())
	}
	c := resp.Cookies()[0]
	return c.Name + "=" + c.Value
}

func grants() map[string]auth.Grant {
	return map[string]auth.Grant{
		"main": {Name: "main", Read: []string{"trusted"}, Write: "trusted"},
		"pr":   {Name: "pr", Read: []string{"pr", "trusted"}, Write: "pr"},
		"ops":  {Name: "ops", Read: []string{"trusted"}, Write: "trusted", Admin: true},
	}
}

// A login outlives the server, but not its token, nor a logout.
func TestLogin(t *testing.T) {
	dir := t.TempDir()
	s := startSite(t, dir, grants(), true)
	for _, path := range []string{"/", "/sessions", "/sessions/" + strings.Repeat("0", 48), "/?period=1h"} {
		resp, _ := s.do("GET", path, "", nil, nil)
		if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/login" {
			t.Errorf("%s without a login: %d to %s", path, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	for _, token := range []string{"", "guess"} {
		resp, body := s.do("POST", "/login", "", nil, url.Values{"token": {token}})
		if resp.StatusCode != http.StatusUnauthorized || len(resp.Cookies()) != 0 || !strings.Contains(body, `id="refusal"`) {
			t.Errorf("login with %q: %d", token, resp.StatusCode)
		}
	}
	resp, _ := s.do("POST", "/login", "", nil, url.Values{"token": {"main"}})
	c := resp.Cookies()[0]
	if c.Name != "__Host-larder" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.MaxAge <= 0 {
		t.Errorf("cookie %+v", c)
	}
	main, ops := c.Name+"="+c.Value, s.login("ops")
	shown := func(cookie string, want bool) {
		t.Helper()
		if resp, body := s.do("GET", "/", cookie, nil, nil); (resp.StatusCode == 200) != want || strings.Contains(body, "Hit rate") != want {
			t.Errorf("overview: %d", resp.StatusCode)
		}
	}
	shown(main, true)
	shown("__Host-larder=guess", false)
	if resp, _ := s.do("GET", "/v1/sessions", main, nil, nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the API takes the cookie: %d", resp.StatusCode)
	}
	if resp, _ := s.do("GET", "/login", main, nil, nil); resp.Header.Get("Location") != "/" {
		t.Errorf("a second login: %d", resp.StatusCode)
	}

	s.end()
	s = startSite(t, dir, grants(), true)
	shown(main, true)
	delete(s.grants, auth.Hash("main")) // it is revoked
	shown(main, false)
	shown(ops, true)
	if resp, _ := s.do("POST", "/logout", ops, map[string]string{"Sec-Fetch-Site": "same-origin"}, url.Values{}); resp.StatusCode != http.StatusSeeOther || resp.Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %d", resp.StatusCode)
	}
	shown(ops, false)
	// What is stored is of no use to who reads it.
	s.storage.Notes("login/", "login0", func(key string, value []byte) bool {
		if _, secret, _ := strings.Cut(main, "="); strings.Contains(key+string(value), secret) || strings.Contains(string(value), `"main"`) {
			t.Errorf("stored: %s %s", key, value)
		}
		return true
	})
}

// Other sites can neither log in nor out, nor see anything, nor frame it.
func TestOtherSites(t *testing.T) {
	s := startSite(t, t.TempDir(), grants(), false)
	ops := s.login("ops")
	for name, header := range map[string]map[string]string{
		"fetch metadata": {"Sec-Fetch-Site": "cross-site"}, "a neighbour": {"Sec-Fetch-Site": "same-site"}, "an origin": {"Origin": "https://evil.example"}, "no origin": {"Origin": "null"},
	} {
		for _, path := range []string{"/login", "/logout"} {
			if resp, _ := s.do("POST", path, ops, header, url.Values{"token": {"ops"}}); resp.StatusCode != http.StatusForbidden || len(resp.Cookies()) > 0 {
				t.Errorf("%s, %s: %d", path, name, resp.StatusCode)
			}
		}
	}
	for _, path := range []string{"/", "/sessions", "/login", "/sessions/x"} {
		resp, body := s.do("GET", path, ops, nil, nil)
		policy := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") ||
			resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", path, resp.Header)
		}
		if strings.Contains(body, "style=") || strings.Contains(body, "<style") || strings.Contains(body, "onclick") || strings.Count(body, "<script") != strings.Count(body, "<script src=") {
			t.Errorf("%s has something inline", path)
		}
	}
	// A link from elsewhere comes without the cookie, and then once more with it.
	if resp, body := s.do("GET", "/?period=7d", "", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, nil); resp.StatusCode != 200 || !strings.Contains(body, `content="0; url=/?again=1&amp;period=7d"`) {
		t.Errorf("a link: %d %s", resp.StatusCode, body)
	}
	if resp, _ := s.do("GET", "/?again=1&period=7d", "", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("it goes on for ever: %d", resp.StatusCode)
	}
}

// A server without tokens needs no login, and serves nobody but this machine's own
// programs and pages: a browser that runs here is used by others, too.
func TestOpenServer(t *testing.T) {
	s := startSite(t, t.TempDir(), nil, false)
	for name, tt := range map[string]struct {
		method, path string
		header       map[string]string
		status       int
	}{
		"a browser":             {"GET", "/", map[string]string{"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200},
		"a program":             {"GET", "/v1/capabilities", nil, 200},
		"by name":               {"GET", "/", map[string]string{"Host": "localhost:7070"}, 200},
		"over IPv6":             {"GET", "/", map[string]string{"Host": "[::1]:7070"}, 200},
		"a link":                {"GET", "/", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200},
		"the page's own":        {"GET", "/", map[string]string{"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200},
		"another's script":      {"GET", "/v1/filter", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403},
		"another's put":         {"POST", "/v1/put", map[string]string{"Origin": "https://evil.example"}, 403},
		"another's form":        {"POST", "/v1/put", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403},
		"another's name for us": {"GET", "/", map[string]string{"Host": "evil.example"}, 403},
	} {
		if resp, body := s.do(tt.method, tt.path, "", tt.header, nil); resp.StatusCode != tt.status {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
	if resp, _ := s.do("GET", "/login", "", nil, nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("a login: %d", resp.StatusCode)
	}
}

// Pages and their parts: what there is before anything has happened, what a view
// leaves out, what a page that has not changed costs.
func TestPages(t *testing.T) {
	s := startSite(t, t.TempDir(), grants(), false)
	ops, pr := s.login("ops"), s.login("pr")
	for _, period := range []string{"", "?period=1h", "?period=24h", "?period=7d", "?period=30d", "?period=1y", "?period=x"} {
		if resp, body := s.do("GET", "/"+period, ops, nil, nil); resp.StatusCode != 200 || !strings.Contains(body, "No build has reported yet") || !strings.Contains(body, "</html>") {
			t.Errorf("empty, %s: %d\n%s", period, resp.StatusCode, body)
		}
	}
	for i := range 60 {
		token := []string{"main", "pr"}[i%2]
		r := report(fmt.Sprint(token, "-machine-", i), 3, 1)
		r.Breaker = strings.Repeat("the disk is on fire", i%2)
		req, _ := http.NewRequest("POST", s.URL+"/v1/sessions", strings.NewReader(string(reports(r))))
		req.Header.Set("Authorization", "Bearer "+token)
		if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 200 {
			t.Fatalf("report: %v, %v", resp, err)
		}
	}
	resp, all := s.do("GET", "/sessions", ops, nil, nil)
	_, own := s.do("GET", "/sessions", pr, nil, nil)
	if strings.Count(all, "-machine-") != 50 || strings.Count(own, "pr-machine-") != 30 || strings.Contains(own, "main-machine") {
		t.Errorf("admin sees %d machines, pr %d", strings.Count(all, "-machine-"), strings.Count(own, "-machine-"))
	}
	_, rest, _ := strings.Cut(all, `<a href="/sessions?after=`)
	next, _, _ := strings.Cut(rest, `"`)
	if _, more := s.do("GET", "/sessions?after="+next, ops, nil, nil); strings.Count(more, "-machine-") != 10 || strings.Contains(more, "?after=") {
		t.Errorf("then %d more", strings.Count(more, "-machine-"))
	}
	if resp, _ := s.do("GET", "/sessions", ops, map[string]string{"If-None-Match": resp.Header.Get("ETag")}, nil); resp.StatusCode != http.StatusNotModified {
		t.Errorf("once more: %d", resp.StatusCode)
	}
	_, rest, _ = strings.Cut(all, `<a href="/sessions/`)
	key, _, _ := strings.Cut(rest, `"`)
	if resp, body := s.do("GET", "/sessions/"+key, ops, nil, nil); resp.StatusCode != 200 || !strings.Contains(body, "pr-machine-59") || !strings.Contains(body, "the disk is on fire") {
		t.Errorf("session: %d", resp.StatusCode)
	}
	if resp, _ := s.do("GET", "/sessions/"+key, s.login("main"), nil, nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("main sees a session of pr: %d", resp.StatusCode)
	}
	_, overview := s.do("GET", "/", ops, nil, nil)
	for _, want := range []string{"75.0%", "30 gave the server up", "30 machines have trouble"} {
		if !strings.Contains(overview, want) {
			t.Errorf("the overview lacks %q", want)
		}
	}
	if resp, body := s.do("GET", "/assets/style.css?v=x", "", nil, nil); resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/css") || len(body) < 1000 {
		t.Errorf("style sheet: %d", resp.StatusCode)
	}
	for _, path := range []string{"/assets/uplot.LICENSE", "/assets/nothing.js", "/assets/..%2ftemplates%2flayout.html", "/favicon.ico"} {
		if resp, _ := s.do("GET", path, "", nil, nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}
