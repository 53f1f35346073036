package session

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
)

// A world is what a process has from whoever started it and what decides what it can
// reach. An agent outlives its first caller, and keeps that one's world; so it serves
// callers of the same world only, and whoever differs has an agent of their own.
type world struct {
	// kin is the same for worlds that may finish each other's work: the same machine,
	// and the same way to a server.
	kin []string
	// rest may differ between kin: where in the machine, and how much of it.
	rest []string
}

// wayVariables decide by what way and with whose certificates a server is reached
// (net/http's ProxyFromEnvironment, crypto/x509's roots, and what GODEBUG changes in
// those and in the resolver).
var wayVariables = [...]string{
	"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GODEBUG",
}

// ownWorld is this process's world. What cannot be found out is the same for all.
func ownWorld() world {
	host, _ := os.Hostname()
	w := world{kin: []string{host}}
	for _, name := range wayVariables {
		w.kin = append(w.kin, os.Getenv(name))
	}
	// A container's home may be another one's too, but not its files or its network.
	for _, space := range [...]string{"mnt", "net", "user"} {
		name, _ := os.Readlink("/proc/self/ns/" + space)
		w.rest = append(w.rest, name)
	}
	w.rest = append(w.rest, limits())
	return w
}

// name is the world's name, of 17 characters.
func (w world) name() string { return short(w.kin...) + "-" + short(w.rest...) }

// shortBytes is how much of a hash tells a user's worlds apart, which are few.
const shortBytes = 4

// short is a short hash of texts, in hexadecimal.
func short(texts ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", texts))
	return hex.EncodeToString(sum[:shortBytes])
}

func isHash(text string) bool {
	_, err := hex.DecodeString(text)
	return err == nil && len(text) == 2*shortBytes
}

// KinOf reports whether an agent of one place may finish what another one's has left:
// the worlds differ, but a server is reached in the same way. After a restart of the
// machine, the same world may have another name.
func (p Place) KinOf(other Place) bool {
	own, _, _ := strings.Cut(p.World, "-")
	theirs, _, _ := strings.Cut(other.World, "-")
	return own == theirs
}
