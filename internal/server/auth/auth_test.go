package auth_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-build/larder/internal/server/auth"
)

func TestRoles(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	path := filepath.Join(t.TempDir(), "tokens.toml")
	var tokens []auth.Token
	secrets := make(map[string]string)
	for _, token := range []auth.Token{
		{Name: "laptop", Role: auth.Reader},
		{Name: "pr-reader", Role: auth.Reader, Namespace: "pr"},
		{Name: "pr", Role: auth.Writer, Namespace: "pr"},
		{Name: "main", Role: auth.TrustedWriter},
		{Name: "ops", Role: auth.Admin},
		{Name: "old", Role: auth.Reader, Expires: now.Add(-time.Second)},
		{Name: "young", Role: auth.Reader, Expires: now.Add(time.Second)},
	} {
		secrets[token.Name] = auth.NewSecret()
		token.SHA256 = auth.Hash(secrets[token.Name])
		tokens = append(tokens, token)
	}
	if err := auth.WriteFile(path, tokens); err != nil {
		t.Fatal(err)
	}
	f, err := auth.OpenFile(path, func() time.Time { return now }, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	secrets["nobody"], secrets["guess"] = "", auth.NewSecret()
	for name, want := range map[string]struct {
		grant auth.Grant
		err   error
	}{
		"laptop":    {auth.Grant{Name: "laptop", Read: []string{"trusted"}}, nil},
		"pr-reader": {auth.Grant{Name: "pr-reader", Read: []string{"pr", "trusted"}}, nil},
		"pr":        {auth.Grant{Name: "pr", Read: []string{"pr", "trusted"}, Write: "pr"}, nil},
		"main":      {auth.Grant{Name: "main", Read: []string{"trusted"}, Write: "trusted"}, nil},
		"ops":       {auth.Grant{Name: "ops", Read: []string{"trusted"}, Write: "trusted", Admin: true}, nil},
		"old":       {auth.Grant{}, auth.ErrExpired},
		"young":     {auth.Grant{Name: "young", Read: []string{"trusted"}}, nil},
		"nobody":    {auth.Grant{}, auth.ErrNoToken},
		"guess":     {auth.Grant{}, auth.ErrUnknown},
	} {
		if got, err := f.Authenticate(secrets[name]); !reflect.DeepEqual(got, want.grant) || !errors.Is(err, want.err) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range secrets {
		if secret != "" && strings.Contains(string(data), secret) {
			t.Errorf("the file has %s's secret", name)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file %v, %v", info.Mode(), err)
	}
}

// A change is noticed; one that is no good leaves what was.
func TestReload(t *testing.T) {
	now := time.Now()
	path := filepath.Join(t.TempDir(), "tokens.toml")
	var logged []error
	one, two := auth.NewSecret(), auth.NewSecret()
	write := func(secrets ...string) {
		t.Helper()
		var tokens []auth.Token
		for i, secret := range secrets {
			tokens = append(tokens, auth.Token{Name: string(rune('a' + i)), Role: auth.Reader, SHA256: auth.Hash(secret)})
		}
		if err := auth.WriteFile(path, tokens); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := auth.OpenFile(path, nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	write(one)
	f, err := auth.OpenFile(path, func() time.Time { return now }, func(err error) { logged = append(logged, err) })
	if err != nil {
		t.Fatal(err)
	}
	known := func(secret string, want bool) {
		t.Helper()
		if _, err := f.Authenticate(secret); (err == nil) != want {
			t.Errorf("authenticate: %v, want known %v", err, want)
		}
	}
	known(one, true)
	known(two, false)
	write(one, two)
	known(two, false) // not looked at again yet
	now = now.Add(2 * time.Second)
	known(two, true)
	write(two)
	now = now.Add(2 * time.Second)
	known(one, false)

	if err := os.WriteFile(path, []byte("[[token]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	known(two, true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Second)
	known(two, true)
	if len(logged) != 2 {
		t.Errorf("logged %v", logged)
	}
}

func TestRefusedFiles(t *testing.T) {
	sum := strings.Repeat("ab", 32)
	for name, text := range map[string]string{
		"unknown key":       "[[token]]\nname=\"a\"\nrole=\"reader\"\nsha256=\"" + sum + "\"\nexpire=2026-01-01T00:00:00Z\n",
		"unknown role":      "[[token]]\nname=\"a\"\nrole=\"root\"\nsha256=\"" + sum + "\"\n",
		"no hash":           "[[token]]\nname=\"a\"\nrole=\"reader\"\n",
		"trusted by name":   "[[token]]\nname=\"a\"\nrole=\"writer\"\nnamespace=\"trusted\"\nsha256=\"" + sum + "\"\n",
		"writer of nothing": "[[token]]\nname=\"a\"\nrole=\"writer\"\nsha256=\"" + sum + "\"\n",
		"trusted elsewhere": "[[token]]\nname=\"a\"\nrole=\"trusted\"\nnamespace=\"x\"\nsha256=\"" + sum + "\"\n",
		"bad namespace":     "[[token]]\nname=\"a\"\nrole=\"writer\"\nnamespace=\"a b\"\nsha256=\"" + sum + "\"\n",
		"twice":             strings.Repeat("[[token]]\nname=\"a\"\nrole=\"reader\"\nsha256=\""+sum+"\"\n", 2),
	} {
		path := filepath.Join(t.TempDir(), "tokens.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := auth.OpenFile(path, nil, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzTokens reads anything as a file of tokens: what passes comes back from WriteFile as it was, and gives nobody more than
// its role says.
func FuzzTokens(f *testing.F) {
	token := func(name, role, rest, secret string) string {
		return "[[token]]\nname=\"" + name + "\"\nrole=\"" + role + "\"\n" + rest + "\nsha256=\"" + auth.Hash(secret) + "\"\n"
	}
	f.Add(token("a", "reader", "", "s"), "s")
	f.Add(token("a", "writer", "namespace=\"pr/1\"", "s")+token("b", "admin", "expires=2030-01-01T00:00:00Z", "t"), "t")
	f.Add(strings.ToUpper(token("a", "reader", "", "s")), "s")
	f.Add(token("a", "reader", "", "s")+token("b", "admin", "", "s"), "s")
	f.Add(strings.Replace(token("a", "trusted", "created=2020-01-01T00:00:00Z", "s"), auth.Hash("s"), strings.ToUpper(auth.Hash("s")), 1), "s")
	f.Fuzz(func(t *testing.T, text, secret string) {
		path := filepath.Join(t.TempDir(), "tokens.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tokens, err := auth.ReadFile(path)
		if err != nil {
			return
		}
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		file, err := auth.OpenFile(path, func() time.Time { return now }, func(error) {})
		if err != nil {
			t.Fatal(err)
		}
		grant, err := file.Authenticate(secret)
		var bearer *auth.Token
		for i, token := range tokens {
			if strings.EqualFold(token.SHA256, auth.Hash(secret)) && secret != "" {
				bearer = &tokens[i]
			}
		}
		switch {
		case bearer == nil || !bearer.Expires.IsZero() && bearer.Expires.Before(now):
			if err == nil {
				t.Errorf("%+v for nobody's token", grant)
			}
		case err != nil:
			t.Errorf("the bearer of %+v: %v", bearer, err)
		case grant.Name != bearer.Name || grant.Admin != (bearer.Role == auth.Admin) || (grant.Write == auth.Trusted) != (bearer.Role == auth.Admin || bearer.Role == auth.TrustedWriter):
			t.Errorf("%+v for %+v", grant, bearer)
		}
		if err := auth.WriteFile(path, tokens); err != nil {
			t.Fatal(err)
		}
		again, err := auth.ReadFile(path)
		same := func(a, b auth.Token) bool {
			created, expires := a.Created.Equal(b.Created), a.Expires.Equal(b.Expires)
			a.Created, a.Expires, b.Created, b.Expires = now, now, now, now
			return created && expires && a == b
		}
		if err != nil || !slices.EqualFunc(again, tokens, same) {
			t.Errorf("%+v became %+v, %v", tokens, again, err)
		}
	})
}
