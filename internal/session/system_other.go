//go:build !unix

package session

import (
	"io/fs"
	"net"
)

// private is true: the user's cache directory is the user's alone here.
func private(fs.FileInfo) bool { return true }

func ownedByUser(fs.FileInfo) bool { return true }

func writable(string) error { return nil }

// DropInherited does nothing: what a process inherits is named when it is started.
func DropInherited() {}

// A conn is a connection to the agent.
type conn = net.Conn

func dial(path string) (conn, error) { return net.Dial("unix", path) }
