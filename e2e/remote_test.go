package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/larder-build/larder/internal/faulttest"
)

// remoteCmds are the commands of scripts about more than one machine.
var remoteCmds = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"machine":     cmdMachine,
	"server":      cmdServer,
	"certificate": cmdCertificate,
	"lying":       cmdLying,
	"nginx":       cmdNginx,
	"random":      cmdRandom,
	"forward":     cmdForward,
	"stopserver":  cmdStop,
	"collector":   cmdCollector,
	"traced":      cmdTraced,
}

// cmdMachine: machine NAME makes what follows run on a machine of that name: with
// a home, a cache and an agent of its own. The checkout is at the same path.
func cmdMachine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: machine NAME")
	}
	home := ts.MkAbs(filepath.Join(ts.Getenv("WORK"), "machines", args[0]))
	_, err := os.Stat(home)
	ts.Check(os.MkdirAll(home, 0o777))
	ts.Setenv("HOME", home)
	ts.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	ts.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	ts.Setenv("GOCACHE", filepath.Join(home, "gocache"))
	if err == nil {
		return
	}
	if ts.Getenv("COLD") == "" {
		ts.Check(linkBase(ts.Getenv("GOCACHE")))
	}
	stop := scriptCommand(ts, "larderd", "agent", "-stop")
	ts.Defer(func() {
		if out, err := stop.CombinedOutput(); err != nil {
			ts.Logf("stop the agent: %v\n%s", err, out)
		}
	})
}

// scriptCommand is a command in the script's environment as it is now.
func scriptCommand(ts *testscript.TestScript, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(os.Getenv("LARDER_E2E_BIN"), name), args...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "XDG_CACHE_HOME", "TMPDIR", endpointVariable, delayVariable} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

// startLimit is how long a process may take to start or to end, on a machine that is
// busy, too.
const startLimit = 2 * time.Minute

// cmdServer: server DIR [FLAG...] starts a team server that keeps its entries in
// DIR, or starts it again at the same address, and makes it the remote.
func cmdServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: server DIR [FLAG...]")
	}
	dir := ts.MkAbs(args[0])
	listen := "127.0.0.1:0"
	if old, err := os.ReadFile(dir + ".addr"); err == nil {
		listen = strings.TrimSpace(string(old))
		ts.Check(os.Remove(dir + ".addr"))
	}
	cmd := scriptCommand(ts, "larderd", append([]string{"serve", "-dir", dir, "-listen", listen, "-addr-file", dir + ".addr"}, args[1:]...)...)
	log, err := os.OpenFile(dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	ts.Check(err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	ts.Check(cmd.Start())
	ts.Check(os.WriteFile(dir+".pid", []byte(strconv.Itoa(cmd.Process.Pid)), 0o666))
	ended := make(chan struct{})
	go func() { // ends with the process, which the script's end kills
		cmd.Wait()
		close(ended)
	}()
	ts.Defer(func() {
		cmd.Process.Kill()
		<-ended
	})
	limit := time.After(startLimit)
	for {
		address, err := os.ReadFile(dir + ".addr")
		if err == nil {
			scheme := "http://"
			if slices.Contains(args, "-tls-cert") {
				scheme = "https://"
			}
			ts.Setenv("LARDER_REMOTE", scheme+strings.TrimSpace(string(address)))
			return
		}
		select {
		case <-ended:
			data, _ := os.ReadFile(dir + ".log")
			ts.Fatalf("the server has ended:\n%s", data)
		case <-limit:
			ts.Fatalf("the server does not listen after %v", startLimit)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// cmdCertificate: certificate NAME writes NAME.cert and NAME.key, for a server on
// loopback, and has programs that are started from now on trust it.
func cmdCertificate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: certificate NAME")
	}
	name := ts.MkAbs(args[0])
	ts.Check(makeCertificate(name))
	ts.Setenv("SSL_CERT_FILE", name+".cert")
}

// makeCertificate writes name.cert, for a server on loopback, and name.key.
func makeCertificate(name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"larder.example.com"}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(name+".cert", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o666),
		os.WriteFile(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// cmdStop: stopserver DIR [-KILL] ends the server of DIR: -KILL, or gracefully.
func cmdStop(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: stopserver DIR [-KILL]")
	}
	data, err := os.ReadFile(ts.MkAbs(args[0]) + ".pid")
	ts.Check(err)
	stopProcess(ts, string(data), len(args) > 1)
}

// stopProcess ends a process and waits until it has.
func stopProcess(ts *testscript.TestScript, pidText string, kill bool) {
	pid, err := strconv.Atoi(strings.TrimSpace(pidText))
	ts.Check(err)
	process, err := os.FindProcess(pid)
	ts.Check(err)
	signal := os.Interrupt
	if kill {
		signal = os.Kill
	}
	ts.Check(process.Signal(signal))
	for limit := time.Now().Add(startLimit); time.Now().Before(limit); {
		if data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err != nil || strings.Contains(string(data), ") Z ") {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	ts.Fatalf("process %d does not end", pid)
}

// cmdLying: lying HOW puts a server before the remote that changes what it sends,
// and makes that the remote: "body" sends other bytes, with a checksum that is
// right for them; "flip" flips a bit in every body.
func cmdLying(ts *testscript.TestScript, neg bool, args []string) {
	lies := map[string]faulttest.Lie{"body": faulttest.WrongBody, "flip": faulttest.Damaged}
	if neg || len(args) != 1 || lies[args[0]] == faulttest.Honest {
		ts.Fatalf("usage: lying body|flip")
	}
	liar, err := faulttest.NewLiar(strings.TrimPrefix(ts.Getenv("LARDER_REMOTE"), "http://"))
	ts.Check(err)
	ts.Defer(liar.Close)
	liar.Tell(lies[args[0]])
	ts.Setenv("LARDER_REMOTE", "http://"+liar.Addr())
}
