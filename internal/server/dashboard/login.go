package dashboard

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/history"
)

const (
	// loginAge is for how long a login is good, if the token is.
	loginAge = 7 * 24 * time.Hour
	// loginsMax is how many there are at once; the ones that end first go.
	loginsMax = 1000
	// formBytesMax bounds a login's form.
	formBytesMax = 4 << 10

	loginPrefix = "login/"
	loginEnd    = "login0" // after all of them
)

// logins are the browsers that have logged in: notes, by the hash of the cookie,
// so that whoever reads them has no cookie.
type logins struct {
	notes history.Notes
	now   func() time.Time
	mu    sync.Mutex // held while they are read and then written
}

// A login is one browser's.
type login struct {
	Token   string    `json:"token"` // its hash
	Expires time.Time `json:"expires"`
}

// add makes a login for a token's hash, and returns its cookie.
func (l *logins) add(token string) (cookie string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	changes := make(map[string][]byte)
	kept := make(map[string]login)
	err = l.notes.Notes(loginPrefix, loginEnd, func(key string, value []byte) bool {
		var old login
		if json.Unmarshal(value, &old) != nil || now.After(old.Expires) {
			changes[key] = nil
		} else {
			kept[key] = old
		}
		return true
	})
	if err != nil {
		return "", fmt.Errorf("read logins: %w", err)
	}
	if len(kept) >= loginsMax {
		first := ""
		for key, old := range kept {
			if first == "" || old.Expires.Before(kept[first].Expires) {
				first = key
			}
		}
		changes[first] = nil
	}
	cookie = rand.Text()
	value, err := json.Marshal(login{token, now.Add(loginAge)})
	if err != nil {
		return "", fmt.Errorf("encode a login: %w", err)
	}
	changes[loginPrefix+auth.Hash(cookie)] = value
	if err := l.notes.WriteNotes(changes); err != nil {
		return "", fmt.Errorf("write a login: %w", err)
	}
	return cookie, nil
}

// find returns the hash of the token that a cookie stands for. The error is
// auth.ErrUnknown if it stands for none, auth.ErrExpired if not any more.
func (l *logins) find(cookie string) (token string, err error) {
	key := loginPrefix + auth.Hash(cookie)
	found := auth.ErrUnknown
	err = l.notes.Notes(key, key+"\x00", func(_ string, value []byte) bool {
		var old login
		if json.Unmarshal(value, &old) != nil {
			return false
		}
		if token, found = old.Token, nil; l.now().After(old.Expires) {
			found = auth.ErrExpired
		}
		return false
	})
	if err != nil {
		return "", fmt.Errorf("read a login: %w", err)
	}
	return token, found
}

func (l *logins) remove(cookie string) error {
	return l.notes.WriteNotes(map[string][]byte{loginPrefix + auth.Hash(cookie): nil})
}

// cookieName has a prefix with which browsers take it from this host only.
func (d *Dashboard) cookieName() string {
	if d.Secure {
		return "__Host-larder"
	}
	return "larder"
}

func (d *Dashboard) setCookie(w http.ResponseWriter, value string, age time.Duration) {
	seconds := int(age / time.Second)
	if seconds == 0 {
		seconds = -1 // gone
	}
	http.SetCookie(w, &http.Cookie{
		Name: d.cookieName(), Value: value, Path: "/", MaxAge: seconds,
		Secure: d.Secure, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// grant is what a request's login may do now: a token that is revoked since, or has
// expired, may nothing.
func (d *Dashboard) grant(r *http.Request) (auth.Grant, error) {
	cookie, err := r.Cookie(d.cookieName())
	if err != nil || cookie.Value == "" {
		return auth.Grant{}, auth.ErrNoToken
	}
	token, err := d.logins.find(cookie.Value)
	if err != nil {
		return auth.Grant{}, err
	}
	return d.Find(token)
}

type loginPage struct{ Refusal string }

func (d *Dashboard) loginForm(w http.ResponseWriter, r *http.Request) {
	if d.Find == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if _, err := d.grant(r); err == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	d.show(w, r, http.StatusOK, "login", page{Title: "Log in", Body: loginPage{}})
}

func (d *Dashboard) login(w http.ResponseWriter, r *http.Request) {
	if d.Find == nil {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	if !sameOrigin(r) {
		d.showProblem(w, r, http.StatusForbidden, problem{"Another site has sent this login.", "Log in on this page."})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, formBytesMax)
	secret := r.PostFormValue("token")
	hash := auth.Hash(secret)
	_, err := d.Find(hash)
	if secret == "" {
		err = auth.ErrNoToken
	}
	refusals := map[error]string{
		auth.ErrNoToken: "Give a token.", auth.ErrUnknown: "This token is not known.", auth.ErrExpired: "This token has expired.",
	}
	for known, text := range refusals {
		if errors.Is(err, known) {
			d.Refused(err)
			d.show(w, r, http.StatusUnauthorized, "login", page{Title: "Log in", Body: loginPage{text}})
			return
		}
	}
	var cookie string
	if err == nil {
		cookie, err = d.logins.add(hash)
	}
	if err != nil {
		d.fail(w, r, err)
		return
	}
	d.setCookie(w, cookie, loginAge)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (d *Dashboard) logout(w http.ResponseWriter, r *http.Request) {
	if !sameOrigin(r) {
		d.showProblem(w, r, http.StatusForbidden, problem{"Another site wants you to be logged out.", ""})
		return
	}
	if cookie, err := r.Cookie(d.cookieName()); err == nil {
		if err := d.logins.remove(cookie.Value); err != nil {
			d.fail(w, r, err)
			return
		}
	}
	d.setCookie(w, "", 0)
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}

// sameOrigin reports whether a form was sent by a page of this server, as far as
// its browser says. Browsers say it in one of two headers; what says nothing is
// none, and has no cookie that another site could use.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}
