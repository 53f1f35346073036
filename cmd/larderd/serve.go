package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/net/netutil"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/server"
	"github.com/larder-build/larder/internal/server/auth"
	"github.com/larder-build/larder/internal/server/disk"
	"github.com/larder-build/larder/internal/tracing"
)

// serveOptions are the flags of "larderd serve".
type serveOptions struct {
	listen, dir     string
	maxSize, maxAge string
	tokens          string
	cert, key       string
	clientCA        string
	acme, acmeCA    string
	behindProxy     bool
	addrFile        string
}

const (
	// headerLimit is how long a client may take over a request's header, and
	// keepLimit how long it may keep a connection that it does not use: longer than
	// load balancers do, which answer 502 when the server ends one that they are about
	// to use. Google's keep theirs for 10 minutes, others for one.
	headerLimit    = 10 * time.Second
	keepLimit      = 620 * time.Second
	headerBytesMax = 16 << 10
	// drainLimit is how long requests that are under way have when the server is
	// told to end. Ten seconds are what orchestrators give before they kill.
	drainLimit = 8 * time.Second
)

func serveCommand() cli.Command {
	return cli.Command{
		Name:  "serve",
		Short: "run the team server",
		Long: `Machines whose LARDER_REMOTE is this server's URL share one cache. Without
-tokens anyone who can connect may read and write, so it listens on loopback
only. Signals: SIGTERM and interrupt end it once what is under way is done.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			var o serveOptions
			fs.StringVar(&o.listen, "listen", "127.0.0.1:7070", "listen on this `address`")
			fs.StringVar(&o.dir, "dir", "", "keep entries in this `directory`, for this server alone; larder/server in the user's cache directory by default")
			fs.StringVar(&o.maxSize, "max-size", "0", "evict what has been unused for longest beyond this `size` (50GB); 0 is no limit")
			fs.StringVar(&o.maxAge, "max-age", "30d", "evict what has been unused for this `duration`; 0 is no limit")
			fs.StringVar(&o.tokens, "tokens", "", "who may do what: a `file` that \"larderd token\" writes; changes are noticed")
			fs.StringVar(&o.cert, "tls-cert", "", "certificate chain, a PEM `file`; a renewed one is noticed")
			fs.StringVar(&o.key, "tls-key", "", "private key, a PEM `file`")
			fs.StringVar(&o.clientCA, "client-ca", "", "serve only who shows a certificate from these authorities, a PEM `file`, too; a renewed one is noticed")
			fs.StringVar(&o.acme, "acme", "", "get certificates for this `host` from Let's Encrypt, whose terms you accept; for that, -listen :443")
			fs.StringVar(&o.acmeCA, "acme-ca", autocert.DefaultACMEDirectory, "the `URL` of the directory of another authority that speaks ACME")
			fs.BoolVar(&o.behindProxy, "behind-proxy", false, "serve cleartext beyond loopback: a proxy in front does TLS")
			fs.StringVar(&o.addrFile, "addr-file", "", "write the address to this `file` once the server listens")
			return func(ctx context.Context, args []string) error {
				if len(args) > 0 {
					return &cli.UsageError{What: fmt.Sprintf("unexpected argument %q", args[0])}
				}
				return serve(ctx, o)
			}
		},
	}
}

func serve(ctx context.Context, o serveOptions) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := o.check(); err != nil {
		return err
	}
	storage, err := o.openStorage(log)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := storage.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("close the storage: %w", closeErr)
		}
	}()
	tracer := tracing.Open("larder-server", cli.Version(), log)
	defer tracer.Close()
	options := server.Options{Storage: storage, Log: log, Version: cli.Version(), Tracer: tracer}
	if o.tokens != "" {
		tokens, err := auth.OpenFile(o.tokens, nil, func(err error) {
			log.Error("the tokens file cannot be read; the old tokens stay", "error", err)
		})
		if err != nil {
			return &cli.HintError{Err: fmt.Errorf("read tokens: %w", err), Hint: "make one with \"larderd token add -tokens " + o.tokens + " -name NAME -role ROLE\""}
		}
		options.Authenticate, options.Find = tokens.Authenticate, tokens.Find
		options.Secure = o.cert != "" || o.acme != "" || o.behindProxy
	}
	api := server.New(options)
	keeping, stopKeeping := context.WithCancel(context.Background())
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		api.Keep(keeping)
	}()
	defer func() { // before the storage is closed
		stopKeeping()
		<-kept
	}()

	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	address := listener.Addr().String()
	if o.addrFile != "" {
		if err := writeWhole(o.addrFile, address); err != nil {
			listener.Close()
			return fmt.Errorf("write the address: %w", err)
		}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler:           api,
		Protocols:         protocols,
		ReadHeaderTimeout: headerLimit,
		IdleTimeout:       keepLimit,
		MaxHeaderBytes:    headerBytesMax,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // clients that go away
	}
	if srv.TLSConfig, err = o.tlsConfig(log); err != nil {
		listener.Close()
		return err
	}
	listener = netutil.LimitListener(listener, server.ConnectionsMax)
	log.Info("larderd serves", "address", address, "dir", o.dir, "tls", srv.TLSConfig != nil, "tokens", o.tokens != "", "version", cli.Version())

	ended := make(chan error, 1)
	go func() {
		if srv.TLSConfig != nil {
			ended <- srv.ServeTLS(listener, "", "")
		} else {
			ended <- srv.Serve(listener)
		}
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	log.Info("ending: what is under way is finished first")
	api.Drain()
	limit, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	if srv.Shutdown(limit) != nil {
		srv.Close() // cuts off what took too long; what was acknowledged is safe
	}
	<-ended
	return nil
}

// check refuses what would be unsafe or makes no sense.
func (o *serveOptions) check() error {
	if (o.cert == "") != (o.key == "") {
		return &cli.UsageError{What: "-tls-cert and -tls-key belong together"}
	}
	if o.acme != "" && o.cert != "" {
		return &cli.UsageError{What: "-acme and -tls-cert are two ways to the same"}
	}
	if o.clientCA != "" && o.cert == "" && o.acme == "" {
		return &cli.UsageError{What: "-client-ca goes with -tls-cert or -acme: who does TLS sees the certificates"}
	}
	if onLoopback(o.listen) {
		return nil
	}
	if o.tokens == "" {
		return &cli.HintError{
			Err:  &cli.UsageError{What: "without -tokens, anyone who reaches " + o.listen + " could plant objects in your builds"},
			Hint: "make tokens with \"larderd token add\", or listen on 127.0.0.1",
		}
	}
	if o.cert == "" && o.acme == "" && !o.behindProxy {
		return &cli.HintError{
			Err:  &cli.UsageError{What: "without TLS, anyone on the way to " + o.listen + " could read the tokens"},
			Hint: "give -tls-cert and -tls-key, or -acme, or say -behind-proxy if a proxy in front does TLS",
		}
	}
	return nil
}

// onLoopback reports whether only this machine can reach an address.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false // listening will say what is wrong
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (o *serveOptions) openStorage(log *slog.Logger) (*disk.Store, error) {
	maxSize, err := config.ParseSize(o.maxSize)
	if err != nil {
		return nil, &cli.UsageError{What: "-max-size: " + err.Error()}
	}
	maxAge, err := config.ParseAge(o.maxAge)
	if err != nil {
		return nil, &cli.UsageError{What: "-max-age: " + err.Error()}
	}
	if o.dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, &cli.UsageError{What: "-dir is needed: " + err.Error()}
		}
		o.dir = filepath.Join(cache, "larder", "server")
	}
	storage, err := disk.Open(disk.Options{Dir: o.dir, MaxBytes: maxSize, MaxAge: maxAge, Log: log})
	if err != nil {
		return nil, fmt.Errorf("open the storage: %w", err)
	}
	return storage, nil
}

// writeWhole writes a file so that nobody sees half of it.
func writeWhole(path, text string) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, []byte(text+"\n"), 0o666); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
