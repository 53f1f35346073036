package faulttest

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// NginxPath finds nginx, which distributions install where users do not look; "" is
// none.
func NginxPath() string {
	for _, name := range []string{"nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// NginxDefaults is the server of a configuration that people begin with: it listens at
// an address, and passes on to target.
func NginxDefaults(listen, target string) string {
	return fmt.Sprintf("server {\n\tlisten %s;\n\tlocation / { proxy_pass http://%s; }\n}\n", listen, target)
}

// StartNginx starts nginx with a server in its configuration, and returns what ends
// it once that listens at url.
func StartNginx(dir, conf, url string) (stop func(), err error) {
	user := ""
	if os.Geteuid() == 0 {
		user = "user root root;" // else its processes may not read the test's files
	}
	temporary := ""
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += name + "_temp_path " + filepath.Join(dir, name) + ";\n"
	}
	log := filepath.Join(dir, "error.log")
	whole := fmt.Sprintf("daemon off; worker_processes 2; %s pid %s; error_log %s;\nevents {}\nhttp {\naccess_log off;\n%s%s}\n",
		user, filepath.Join(dir, "pid"), log, temporary, conf)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, []byte(whole), 0o666); err != nil {
		return nil, err
	}
	cmd := exec.Command(NginxPath(), "-e", log, "-c", file)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = sync.OnceFunc(func() {
		cmd.Process.Signal(os.Interrupt) // its processes end with it
		cmd.Wait()
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	for range 1000 {
		resp, err := client.Get(url + "/healthz")
		if err == nil {
			resp.Body.Close()
			switch {
			case strings.HasPrefix(url, "https:") && resp.ProtoMajor != 2:
				stop()
				return nil, fmt.Errorf("it speaks %s", resp.Proto)
			case resp.StatusCode == http.StatusOK:
				return stop, nil
			}
		}
		time.Sleep(10 * time.Millisecond) // its answer is the sign
	}
	stop()
	said, _ := os.ReadFile(log)
	return nil, fmt.Errorf("nginx does not answer after 10 s: %s", said)
}

// FreeAddress is an address on loopback where nothing listens. Its port is none that
// the system gives to connections (32768 and more on Linux), which would be in the way
// of who listens there again.
func FreeAddress() (address string, err error) {
	const lowest, ports, tries = 12_000, 20_000, 100
	for range tries {
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(ports))); err == nil {
			address = l.Addr().String()
			return address, l.Close()
		}
	}
	return "", err
}
