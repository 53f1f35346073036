package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/larder-build/larder/internal/bench"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/store"
)

const (
	// loadClients is how many requests are under way at once.
	loadClients = 16
	// loadTime is how long each arm is loaded in each round.
	loadTime = 3 * time.Second
)

// A load is how a server did under load, in each round.
type load struct {
	Name           string    `json:"name"`
	PerSecond      []float64 `json:"per_second"`
	BytesPerSecond []float64 `json:"bytes_per_second"`
}

// load measures gets and puts of the entries of the module's build, one request
// for each: of larderd, and of nginx serving and taking the same bytes as files.
func (b *bencher) load(ctx context.Context, s *benchServer) ([]load, error) {
	entries, err := b.entries(ctx, "http://"+s.Addr())
	if err != nil {
		return nil, err
	}
	type arm struct {
		name, method, url string
	}
	arms := []arm{{"larderd, get", http.MethodGet, "http://" + s.Addr() + "/v1/entry/"}, {"larderd, put", http.MethodPut, "http://" + s.Addr() + "/v1/entry/"}}
	if nginx, stop, err := b.startNginx(ctx, entries); err == nil {
		defer stop()
		arms = append(arms, arm{"nginx, get", http.MethodGet, nginx + "/get/"}, arm{"nginx, put (no sync)", http.MethodPut, nginx + "/put/"})
	} else if !errors.Is(err, exec.ErrNotFound) {
		return nil, err
	}
	loads := make([]load, len(arms))
	for range b.options.rounds {
		for i, a := range arms {
			bench.SettleMemory(settleBytes)
			perSecond, bytesPerSecond, err := hammer(ctx, a.method, a.url, entries)
			if err != nil {
				return nil, fmt.Errorf("load %s: %w", a.name, err)
			}
			loads[i].Name = a.name
			loads[i].PerSecond = append(loads[i].PerSecond, perSecond)
			loads[i].BytesPerSecond = append(loads[i].BytesPerSecond, bytesPerSecond)
		}
	}
	return loads, nil
}

// A loaded is an entry as it is sent, under its action's name.
type loaded struct {
	name string
	data []byte
}

// entries fetches those of the native build.
func (b *bencher) entries(ctx context.Context, server string) (entries []loaded, err error) {
	native := store.Open(store.Options{Dir: b.native()})
	defer native.Close()
	native.Actions(ctx, func(id entry.ActionID) bool {
		var data []byte
		if data, err = get(ctx, server+"/v1/entry/"+id.String()); err == nil && data != nil {
			entries = append(entries, loaded{id.String(), data})
		}
		return err == nil
	})
	if err == nil && len(entries) == 0 {
		err = errors.New("the server has nothing of the build")
	}
	return entries, err
}

// get is nil for what is not there.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return nil, err
	}
	return data, err
}

// hammer makes requests for the entries in turn until the time is up.
func hammer(ctx context.Context, method, url string, entries []loaded) (perSecond, bytesPerSecond float64, err error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: loadClients, ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10}}
	defer client.CloseIdleConnections()
	var next, requests, size atomic.Int64
	var failure atomic.Pointer[error]
	begin := time.Now()
	var wg sync.WaitGroup
	for range loadClients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for failure.Load() == nil && time.Since(begin) < loadTime {
				e := entries[int(next.Add(1))%len(entries)]
				if err := request(ctx, client, method, url, e); err != nil {
					failure.Store(&err)
					return
				}
				requests.Add(1)
				size.Add(int64(len(e.data)))
			}
		}()
	}
	wg.Wait()
	took := time.Since(begin).Seconds()
	if err := failure.Load(); err != nil {
		return 0, 0, *err
	}
	return float64(requests.Load()) / took, float64(size.Load()) / took, nil
}

func request(ctx context.Context, client *http.Client, method, url string, e loaded) error {
	var in io.Reader
	if method == http.MethodPut {
		in = bytes.NewReader(e.data)
	}
	req, err := http.NewRequestWithContext(ctx, method, url+e.name, in)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (resp.StatusCode/100 != 2 || method == http.MethodGet && n != int64(len(e.data))) {
		err = fmt.Errorf("%s %s: status %d, %d bytes", method, e.name, resp.StatusCode, n)
	}
	return err
}

// startNginx starts an nginx that serves the entries as files, and takes puts.
func (b *bencher) startNginx(ctx context.Context, entries []loaded) (url string, stop func(), err error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		return "", nil, err
	}
	dir := filepath.Join(b.work, "nginx")
	for _, sub := range []string{"get", "put", "temp"} {
		if err := errors.Join(os.RemoveAll(filepath.Join(dir, sub)), os.MkdirAll(filepath.Join(dir, sub), 0o777)); err != nil {
			return "", nil, err
		}
	}
	for _, e := range entries {
		if err := os.WriteFile(filepath.Join(dir, "get", e.name), e.data, 0o666); err != nil {
			return "", nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // to find a port
	if err != nil {
		return "", nil, err
	}
	addr := l.Addr().String()
	l.Close()
	conf := fmt.Sprintf(`daemon off; worker_processes auto; pid %[1]s/pid; error_log %[1]s/error.log; user root;
events { worker_connections 1024; }
http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; client_max_body_size 1g; client_body_temp_path %[1]s/temp;
server { listen %[2]s; root %[1]s; location /put/ { dav_methods PUT; } } }
`, dir, addr)
	confFile := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(confFile, []byte(conf), 0o666); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, program, "-c", confFile, "-p", dir, "-e", filepath.Join(dir, "error.log"))
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	}
	const tries, poll = 400, 5 * time.Millisecond
	for range tries {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return "http://" + addr, stop, nil
		}
		time.Sleep(poll)
	}
	stop()
	return "", nil, fmt.Errorf("start nginx: it does not listen; see %s", filepath.Join(dir, "error.log"))
}

func writeLoad(w io.Writer, loads []load) {
	if len(loads) == 0 {
		return
	}
	fmt.Fprintf(w, "\nserver, %d clients, medians of %d rounds\n", loadClients, len(loads[0].PerSecond))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "requests/s\tbytes/s\t")
	for _, l := range loads {
		fmt.Fprintf(tw, "%.0f\t%s\t  %s\n", bench.Median(l.PerSecond), config.FormatSize(int64(bench.Median(l.BytesPerSecond))), l.Name)
	}
	tw.Flush()
}
