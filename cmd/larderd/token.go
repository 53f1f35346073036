package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/server/auth"
)

// tokenOptions are the flags of "larderd token".
type tokenOptions struct {
	file, name, role, namespace, expires string
	asJSON                               bool
}

func tokenCommand() cli.Command {
	return cli.Command{
		Name:  "token",
		Args:  "add|list|revoke",
		Short: "make, list and revoke the tokens of a team server",
		Long: `The roles:
  reader   reads its namespace, if it has one, and the trusted one
  writer   reads the same, and writes its namespace
  trusted  reads and writes the trusted namespace: main's CI
  admin    does that, reads metrics and manages the server

add prints the new token once; the file keeps only its hash. A server that uses
the file notices the change within seconds.

For example:
  larderd token -tokens tokens.toml -name pull-requests -role writer -namespace pr -expires 90d add
  larderd token -tokens tokens.toml -name pull-requests revoke`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			var o tokenOptions
			fs.StringVar(&o.file, "tokens", "", "the tokens `file` (needed)")
			fs.StringVar(&o.name, "name", "", "the token's `name`: whose it is, or what for")
			fs.StringVar(&o.role, "role", "", "reader, writer, trusted or admin: the token's `role`")
			fs.StringVar(&o.namespace, "namespace", "", "the `namespace` of a reader or writer")
			fs.StringVar(&o.expires, "expires", "", "after this `duration` (90d) the token is no good; never by default")
			fs.BoolVar(&o.asJSON, "json", false, "list: print JSON")
			return func(_ context.Context, args []string) error {
				if o.file == "" {
					return &cli.UsageError{What: "-tokens is needed: the file that the server is given"}
				}
				if len(args) != 1 {
					return &cli.UsageError{What: "one of add, list, revoke is needed, after the flags"}
				}
				switch args[0] {
				case "add":
					return addToken(o)
				case "list":
					return listTokens(o)
				case "revoke":
					return revokeToken(o)
				}
				return &cli.UsageError{What: fmt.Sprintf("%q is none of add, list, revoke", args[0])}
			}
		},
	}
}

func addToken(o tokenOptions) error {
	tokens, err := auth.ReadFile(o.file)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(tokens, func(t auth.Token) bool { return t.Name == o.name }) {
		return &cli.HintError{Err: fmt.Errorf("there is a token %s already", o.name), Hint: "revoke it first, or take another name"}
	}
	secret := auth.NewSecret()
	now := time.Now().UTC().Truncate(time.Second)
	t := auth.Token{Name: o.name, Role: auth.Role(o.role), Namespace: o.namespace, SHA256: auth.Hash(secret), Created: now}
	if o.expires != "" {
		age, err := config.ParseAge(o.expires)
		if err != nil {
			return &cli.UsageError{What: "-expires: " + err.Error()}
		}
		t.Expires = now.Add(age)
	}
	if err := t.Check(); err != nil {
		return &cli.UsageError{What: err.Error()}
	}
	if err := auth.WriteFile(o.file, append(tokens, t)); err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	fmt.Println(secret)
	fmt.Fprintln(os.Stderr, "larderd: keep it in a file that LARDER_TOKEN_FILE names; it is not shown again")
	return nil
}

func listTokens(o tokenOptions) error {
	tokens, err := auth.ReadFile(o.file)
	if err != nil {
		return err
	}
	if o.asJSON {
		type listed struct {
			Name      string     `json:"name"`
			Role      auth.Role  `json:"role"`
			Namespace string     `json:"namespace,omitempty"`
			Created   time.Time  `json:"created"`
			Expires   *time.Time `json:"expires,omitempty"`
		}
		list := make([]listed, 0, len(tokens))
		for _, t := range tokens {
			l := listed{t.Name, t.Role, t.Namespace, t.Created, nil}
			if !t.Expires.IsZero() {
				l.Expires = &t.Expires
			}
			list = append(list, l)
		}
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(list)
	}
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NAME\tROLE\tNAMESPACE\tCREATED\tEXPIRES")
	for _, t := range tokens {
		expires := "never"
		if !t.Expires.IsZero() {
			expires = t.Expires.Format(time.DateOnly)
			if time.Now().After(t.Expires) {
				expires += " (expired)"
			}
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", t.Name, t.Role, t.Namespace, t.Created.Format(time.DateOnly), expires)
	}
	return tw.Flush()
}

func revokeToken(o tokenOptions) error {
	if o.name == "" {
		return &cli.UsageError{What: "-name is needed: the token to revoke"}
	}
	tokens, err := auth.ReadFile(o.file)
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(tokens), func(t auth.Token) bool { return t.Name == o.name })
	if len(left) == len(tokens) {
		return errors.New("there is no token " + o.name)
	}
	if err := auth.WriteFile(o.file, left); err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	return nil
}
