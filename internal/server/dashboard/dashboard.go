// Package dashboard is the team server's web page: what the cache does for its
// users, from the server's history and storage.
//
// It promises that nobody sees more than the token with which they have logged in
// may: a token sees the namespace that it is for, one of role admin all of them and
// the server itself. A browser is given a random cookie for a token, which is good
// for loginAge and no longer than the token, cannot be read by scripts, is sent by
// no other site, and is forgotten by a logout. Where the server has no tokens, and
// so listens on loopback only, there is no login.
//
// All that a page needs comes from this package, and its policy forbids anything
// else: no inline scripts or styles, nothing from elsewhere, no frames. Pages are
// whole without JavaScript; with it they draw charts from their tables and renew
// themselves.
package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/server/history"
)

// A Storage is what the page shows of the server's storage.
type Storage interface {
	Stats() disk.Stats
	Err() error // not nil if it cannot be written any more
	Stat(ns string, id entry.ActionID) (entry.Header, error)
	history.Notes // for logins
}

// Options are a dashboard's parts.
type Options struct {
	Storage Storage
	History *history.History
	// Find returns what the token with a hash (auth.Hash) may do; its errors are
	// auth's. Nil lets everyone see everything.
	Find    func(hash string) (auth.Grant, error)
	Refused func(error) // is told of logins refused
	Record  func()      // brings the history up to date
	Secure  bool        // browsers reach the server by TLS only
	Version string      // of larderd
	Log     *slog.Logger
}

// A Dashboard serves the page.
type Dashboard struct {
	Options
	logins    *logins
	templates map[string]*template.Template
	assets    map[string]asset // by name
	mux       http.ServeMux
}

//go:embed assets templates
var files embed.FS

// Patterns are the requests that a Dashboard serves.
func Patterns() []string {
	return []string{"GET /{$}", "GET /sessions", "GET /sessions/{key}", "GET /login", "POST /login", "POST /logout", "GET /assets/{name}"}
}

// New returns a dashboard.
func New(o Options) *Dashboard {
	d := &Dashboard{Options: o, logins: &logins{notes: o.Storage, now: time.Now}}
	d.assets = loadAssets()
	d.templates = d.loadTemplates()
	for pattern, handler := range map[string]http.HandlerFunc{
		"GET /{$}":            d.withGrant(d.overview),
		"GET /sessions":       d.withGrant(d.sessions),
		"GET /sessions/{key}": d.withGrant(d.session),
		"GET /login":          d.loginForm,
		"POST /login":         d.login,
		"POST /logout":        d.logout,
		"GET /assets/{name}":  d.asset,
	} {
		d.mux.HandleFunc(pattern, handler)
	}
	return d
}

// policy lets a page use what this server serves, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP serves a request.
func (d *Dashboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	d.mux.ServeHTTP(w, r)
}

// An asset is a file that pages use.
type asset struct {
	url  string // with a hash of the content, so that it never changes
	kind string
	data []byte
}

func loadAssets() map[string]asset {
	kinds := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
	assets := make(map[string]asset)
	names, err := fs.ReadDir(files, "assets")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, f := range names {
		kind := kinds[path.Ext(f.Name())]
		if kind == "" {
			continue
		}
		data, err := files.ReadFile("assets/" + f.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(data)
		assets[f.Name()] = asset{"/assets/" + f.Name() + "?v=" + hex.EncodeToString(sum[:6]), kind, data}
	}
	return assets
}

func (d *Dashboard) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := d.assets[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	if "/assets/"+r.PathValue("name")+"?"+r.URL.RawQuery == a.url {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.data))
}

func (d *Dashboard) loadTemplates() map[string]*template.Template {
	functions := template.FuncMap{
		"asset": func(name string) (string, error) {
			a, ok := d.assets[name]
			if !ok {
				return "", fmt.Errorf("there is no asset %s", name)
			}
			return a.url, nil
		},
		"bytes": formatBytes, "count": formatCount, "seconds": formatSeconds, "percent": formatPercent, "width": width,
		"stamp": formatStamp, "iso": formatISO, "plural": plural, "rate": hitRate, "saved": savedText, "local": localHits,
		"int64": func(n int) int64 { return int64(n) },
		"dict":  dict,
	}
	templates := make(map[string]*template.Template)
	base := template.Must(template.New("").Funcs(functions).ParseFS(files, "templates/layout.html", "templates/parts.html"))
	for _, name := range []string{"overview", "sessions", "session", "login", "problem"} {
		templates[name] = template.Must(template.Must(base.Clone()).ParseFS(files, "templates/"+name+".html"))
	}
	return templates
}

// A page is what every template is given.
type page struct {
	Title   string
	Path    string // of the entry in the navigation
	Version string
	Who     string // whose token; "" is nobody's
	Login   bool   // it is one, so there is a logout
	Live    bool   // the page renews itself
	Refresh string // where the browser is to go on at once; "" is nowhere
	Now     time.Time
	Body    any
}

func (d *Dashboard) show(w http.ResponseWriter, r *http.Request, status int, name string, p page) {
	p.Version, p.Now = d.Version, time.Now()
	var b bytes.Buffer
	if err := d.templates[name].ExecuteTemplate(&b, "layout", p); err != nil {
		d.Log.Error("dashboard", "page", name, "error", err)
		http.Error(w, "The page cannot be shown; the server's log says why.", http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(b.Bytes())
	etag := `"` + hex.EncodeToString(sum[:12]) + `"`
	w.Header().Set("ETag", etag)
	if status == http.StatusOK && r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(b.Bytes())
}

// A problem is a page that says why there is none.
type problem struct{ What, Hint string }

func (d *Dashboard) showProblem(w http.ResponseWriter, r *http.Request, status int, p problem) {
	d.show(w, r, status, "problem", page{Title: http.StatusText(status), Body: p})
}

// fail shows that something could not be read.
func (d *Dashboard) fail(w http.ResponseWriter, r *http.Request, err error) {
	d.Log.Error("dashboard", "path", r.URL.Path, "error", err)
	d.showProblem(w, r, http.StatusInternalServerError, problem{"The server's records cannot be read.", "Its log says why."})
}

// withGrant lets in who has logged in, and shows others the way.
func (d *Dashboard) withGrant(next func(w http.ResponseWriter, r *http.Request, g auth.Grant)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if d.Find == nil {
			next(w, r, auth.Open())
			return
		}
		g, err := d.grant(r)
		switch {
		case err == nil:
			next(w, r, g)
		case r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") == "navigate" && !strings.Contains(r.URL.RawQuery, "again"):
			// A link on another site: the browser keeps the cookie to itself until it is
			// this site that leads here.
			again := *r.URL
			q := again.Query()
			q.Set("again", "1")
			again.RawQuery = q.Encode()
			d.show(w, r, http.StatusOK, "problem", page{Title: "One moment", Refresh: again.RequestURI(), Body: problem{"One moment.", ""}})
		case errors.Is(err, auth.ErrNoToken), errors.Is(err, auth.ErrUnknown), errors.Is(err, auth.ErrExpired):
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		default:
			d.fail(w, r, err)
		}
	}
}

func (d *Dashboard) newPage(g auth.Grant, title, path string, body any) page {
	return page{Title: title, Path: path, Who: g.Name, Login: d.Find != nil, Body: body}
}

// viewOf is what a grant may see: its own namespace, or all.
func viewOf(g auth.Grant) history.View {
	if g.Admin {
		return nil
	}
	return history.View{g.Home()}
}

// dict is what a template passes to another one: names and values in turn.
func dict(pairs ...any) map[string]any {
	m := make(map[string]any)
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}
