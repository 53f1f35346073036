package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/larder-build/larder/internal/remote"
	"github.com/larder-build/larder/internal/session"
)

// Whose a session is, is settled when it begins: by the token that its file held then,
// and by what the server has said of that token. What it builds is uploaded by nobody
// else. What lies in a store is nobody's in particular, so for pushes the store has a
// note of whose sessions have put things into it, and since when only theirs have.

// identity is whose a session that begins now is, without asking anybody.
func (u *upstream) identity() session.Identity {
	token, err := u.client.Token()
	if err != nil {
		return session.Identity{Token: session.Unreadable}
	}
	return u.identityOf(token.Hash())
}

// identityOf is what is known of a token.
func (u *upstream) identityOf(hash string) session.Identity {
	w, known := u.client.Writer(hash)
	return session.Identity{Token: hash, Confirmed: known, Name: w.Name, Namespace: w.Namespace}
}

// ask asks the server whom it takes a token for.
func (u *upstream) ask(ctx context.Context, token remote.Token) (session.Identity, error) {
	has, err := u.client.Capabilities(remote.WithToken(ctx, token))
	if err != nil {
		return session.Identity{}, err
	}
	return session.Identity{Token: token.Hash(), Confirmed: true, Name: has.Name, Namespace: has.Write}, nil
}

// tokenChanged is called before the first request with another token: what it brings
// into the stores of the sessions that are under way is no longer whose it was.
func (u *upstream) tokenChanged(token remote.Token) {
	dirs := make(map[string]bool)
	u.agent.mu.Lock()
	for c := range u.agent.sessions {
		if c.upstream == u && c.store != nil {
			dirs[c.hello.Store] = true
		}
	}
	u.agent.mu.Unlock()
	for dir := range dirs {
		u.agent.claim(dir, u.remote, u.identityOf(token.Hash()))
	}
}

// identified is the session's identity with what the server has said of it meanwhile. A
// push has the server asked; if that is in vain, it is what was known.
func (c *conn) identified(ctx context.Context) session.Identity {
	if c.hello.Identify && !c.identity.Confirmed {
		if token, err := c.upstream.client.Token(); err == nil && token.Hash() == c.identity.Token {
			if _, err := c.upstream.ask(ctx, token); err != nil {
				c.upstream.failed(ctx, c, err)
			}
		}
	}
	id := c.upstream.identityOf(c.identity.Token)
	if id.Confirmed && !c.identity.Confirmed {
		c.agent.confirm(c.hello.Store, c.hello.Remote, id)
		if c.hello.Identify {
			c.since = c.agent.claim(c.hello.Store, c.hello.Remote, id)
		}
	}
	return id
}

// A tenure says since when all that was put into a store was put by sessions of one
// identity. It is a file in the store, so that it goes where the store goes.
type tenure struct {
	URL      string           `json:"url"`
	Identity session.Identity `json:"identity"`
	Since    time.Time        `json:"since,omitzero"` // zero: always
	// Before is the tenure before this one, as long as it may still turn out that this
	// is the same identity with a new token.
	Before *tenure `json:"before,omitempty"`
}

func (t *tenure) of(url string, id session.Identity) bool {
	return t != nil && t.URL == url && t.Identity.Same(id)
}

// claim notes that sessions of an identity put things into a store from now on, and
// returns since when only they have. Where it is not known whose a store was, or it
// cannot be noted, that is now.
func (a *agent) claim(dir string, r session.Remote, id session.Identity) time.Time {
	a.claiming.Lock()
	defer a.claiming.Unlock()
	t, err := readTenure(dir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return time.Time{} // there is nothing in it, and it stays away if it was deleted
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t = &tenure{URL: r.URL, Identity: id}
		// A store in which Larder has never been has nothing from elsewhere; and without
		// a token there is nobody else.
		if _, err := os.Stat(filepath.Dir(session.IdentityFile(dir))); err == nil && r.TokenFile != "" {
			t.Since = time.Now()
		}
	case err != nil:
		t = &tenure{URL: r.URL, Identity: id, Since: time.Now()}
	case !t.of(r.URL, id):
		before := t
		if t = (&tenure{URL: r.URL, Identity: id, Since: time.Now()}); !id.Confirmed && before.Before == nil {
			t.Before = before
		}
	case !id.Confirmed || t.Identity == id && t.Before == nil:
		return t.Since // nothing new
	default:
		if t.Before.of(r.URL, id) {
			t.Since = t.Before.Since
		}
		t.Identity, t.Before = id, nil
	}
	if err := t.write(dir); err != nil {
		a.log.Warn("whose a store is cannot be noted", "store", dir, "error", err)
		if r.TokenFile != "" {
			return time.Now()
		}
	}
	return t.Since
}

// confirm notes what the server has said of who has claimed a store.
func (a *agent) confirm(dir string, r session.Remote, id session.Identity) {
	if t, err := readTenure(dir); err == nil && id.Confirmed && t.URL == r.URL && t.Identity.Token == id.Token {
		a.claim(dir, r, id)
	}
}

func readTenure(dir string) (*tenure, error) {
	data, err := os.ReadFile(session.IdentityFile(dir))
	if err != nil {
		return nil, err
	}
	t := new(tenure)
	return t, json.Unmarshal(data, t)
}

// write replaces the note. It is whole or as it was.
func (t *tenure) write(dir string) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	name := session.IdentityFile(dir)
	if err := os.Mkdir(filepath.Dir(name), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "identity-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
