package e2e_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdForward: forward LOG starts the proxy of an office, through which all that leaves
// goes: it connects whoever asks for larder.example.com with the remote, and writes
// who asked for what to LOG. HTTPS_PROXY names it, and the remote is
// https://larder.example.com from now on.
func cmdForward(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: forward LOG")
	}
	_, target, _ := strings.Cut(ts.Getenv("LARDER_REMOTE"), "://")
	log, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	var connections sync.WaitGroup
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(log, r.Method+" "+r.Host+"\n")
		if r.Method != http.MethodConnect || r.Host != "larder.example.com:443" {
			http.Error(w, "only to larder.example.com", http.StatusForbidden)
			return
		}
		server, err := net.Dial("tcp", target)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		client, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			server.Close()
			return
		}
		io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
		connections.Add(1)
		go func() {
			defer connections.Done()
			io.Copy(server, client)
			server.Close()
		}()
		connections.Add(1)
		go func() {
			defer connections.Done()
			io.Copy(client, server)
			client.Close()
		}()
	}))
	ts.Defer(func() {
		proxy.Close()
		connections.Wait() // they end with the server, or the agent
		log.Close()
	})
	ts.Setenv("HTTPS_PROXY", proxy.URL)
	ts.Setenv("LARDER_REMOTE", "https://larder.example.com")
}
