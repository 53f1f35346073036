package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/larder-build/larder/internal/body"
	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/remote"
	"github.com/larder-build/larder/internal/store"
)

const (
	// checkTrips is how many round trips are made to tell how long one takes.
	checkTrips = 5
	// checkEntries and checkFetch bound what is fetched to tell how fast that goes.
	checkEntries = 500
	checkFetch   = 3 * time.Second
	// clockTolerance is how much clocks may differ before it is worth a word. Put
	// times decide when test results expire (GODEBUG=gocachetest tells).
	clockTolerance = time.Minute
)

func checkCommand() cli.Command {
	return cli.Command{
		Name:  "check",
		Short: "look at the remote as the agent would, for larder doctor",
		Long: `It uses the settings of larder. The exit code is 1 if something was found that
should be mended.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			flags := config.AddFlags(fs)
			asJSON := fs.Bool("json", false, "print JSON")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				cfg, _ := config.Load(flags, os.Environ()) // larder doctor names the problems
				return cli.ReportFindings(os.Stdout, checkRemote(ctx, cfg), *asJSON)
			}
		},
	}
}

func checkRemote(ctx context.Context, cfg config.Config) []cli.Finding {
	const check = "remote"
	client, err := remote.New(remote.Options{
		URL: cfg.Remote, TokenFile: cfg.TokenFile, CAFile: cfg.CAFile, ClientCert: cfg.ClientCert, ClientKey: cfg.ClientKey, Version: cli.Version(),
	})
	if err != nil {
		return []cli.Finding{cli.Bad(check, "set LARDER_REMOTE to the server's URL, such as https://larder.example.com:7070", "%v", err)}
	}
	defer client.Close()
	var (
		has  remote.Capabilities
		trip time.Duration
		skew time.Duration
	)
	for i := range checkTrips {
		begin := time.Now()
		if has, err = client.Capabilities(ctx); err != nil {
			return []cli.Finding{cli.Bad(check, remedy(err), "%s: %v; builds go on without it", cfg.Remote, err)}
		}
		if took := time.Since(begin); i == 0 || took < trip {
			trip = took
			skew = has.Time.Sub(begin.Add(took / 2))
		}
	}
	findings := []cli.Finding{
		cli.Good(check, "%s answers within %v, version %s", cfg.Remote, trip.Round(10*time.Microsecond), has.Version),
		checkRole(cfg, has),
	}
	if !has.Time.IsZero() {
		findings = append(findings, checkClock(skew))
	}
	return append(findings, checkThroughput(ctx, cfg, client)...)
}

func remedy(err error) string {
	var (
		token       *remote.TokenError
		file        *remote.CertificateError
		unknownRoot x509.UnknownAuthorityError
		certificate x509.CertificateInvalidError
		hostname    x509.HostnameError
		dns         *net.DNSError
	)
	switch {
	case errors.As(err, &token):
		return "set LARDER_TOKEN_FILE to a file with the token, which its user can read"
	case errors.As(err, &file):
		return "correct " + file.Variable + ": PEM files that its user can read"
	case remote.IsStatus(err, http.StatusUnauthorized):
		return "get a token from whoever runs the server (larderd token add), and name its file in LARDER_TOKEN_FILE"
	case remote.IsStatus(err, http.StatusForbidden):
		return "get a token that may do this"
	case remote.IsStatus(err, http.StatusNotFound):
		return "is that the server's URL? Something else answers there"
	case errors.As(err, &unknownRoot):
		return "name the certificate of the server's authority, or of whoever inspects TLS here, in LARDER_CA_FILE (PEM), or have this machine trust it"
	case errors.As(err, &certificate), errors.As(err, &hostname):
		return "the server needs a certificate that is valid for the host in LARDER_REMOTE"
	case strings.Contains(err.Error(), "tls: certificate required"): // the alert's type is crypto/tls's own
		return "the server wants a client certificate: name one and its key in LARDER_CLIENT_CERT and LARDER_CLIENT_KEY"
	case errors.As(err, &dns):
		return "correct the host in LARDER_REMOTE, or this machine's name resolution"
	}
	return "see whether the server runs, and whether this machine may connect to it"
}

func checkRole(cfg config.Config, has remote.Capabilities) cli.Finding {
	const check = "token"
	name := has.Name
	if name == "" {
		name = "anyone"
	}
	reads := fmt.Sprintf("%s reads %s", name, strings.Join(has.Read, ", "))
	switch {
	case has.Write != "":
		return cli.Good(check, "%s and writes %s", reads, has.Write)
	case cfg.Mode == config.ReadOnly:
		return cli.Good(check, "%s", reads)
	default:
		return cli.Good(check, "%s, and writes nothing: LARDER_MODE=readonly says that this is meant", reads)
	}
}

func checkClock(skew time.Duration) cli.Finding {
	const check = "clock"
	if skew.Abs() > clockTolerance {
		return cli.Bad(check, "set this machine's clock, or the server's", "the server's clock differs by %v: test results that others made may seem to have expired", skew.Round(time.Second))
	}
	return cli.Good(check, "the server's differs by less than %v", max(time.Second, skew.Abs().Round(time.Second)+time.Second))
}

// checkThroughput fetches some of what the local store has, if the server has it too.
func checkThroughput(ctx context.Context, cfg config.Config, client *remote.Client) []cli.Finding {
	const check = "throughput"
	local := store.Open(store.Options{Dir: cfg.Dir})
	defer local.Close()
	var ids []entry.ActionID
	local.Actions(ctx, func(id entry.ActionID) bool {
		ids = append(ids, id)
		return len(ids) < checkEntries
	})
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkFetch)
	defer cancel()
	begin := time.Now()
	stream, err := client.Get(ctx, ids)
	if err != nil {
		return []cli.Finding{cli.Bad(check, remedy(err), "%v", err)}
	}
	defer stream.Close()
	codec := body.NewCodec()
	var bytes int64
	var entries, wrong int
	for {
		f, err := stream.Next()
		if err == nil && f.Kind == entry.Entry && f.Header.Stored <= body.InRAM && f.Header.Size <= body.InRAM {
			stored, readErr := io.ReadAll(stream.Body())
			if err = readErr; err == nil {
				entries++
				bytes += f.Header.Stored
				if codec.Verify(&f.Header, stored, nil) != nil {
					wrong++
				}
			}
		}
		if ctx.Err() != nil || err == nil && f.Kind == entry.End {
			break
		}
		if err != nil {
			return []cli.Finding{cli.Bad(check, remedy(err), "%v", err)}
		}
	}
	took := time.Since(begin)
	switch {
	case wrong > 0:
		return []cli.Finding{cli.Bad(check, "tell whoever runs the server; builds refuse such entries", "%d of %d entries were not what they should be", wrong, entries)}
	case entries == 0:
		return []cli.Finding{cli.Good(check, "unknown: the server has none of %d actions of the local store", len(ids))}
	}
	return []cli.Finding{cli.Good(check, "%d entries, %s, came in %v, and were what they should be", entries, config.FormatSize(bytes), took.Round(time.Millisecond))}
}
