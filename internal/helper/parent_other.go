//go:build !linux && !darwin

package helper

// knowsParent says whether parentArgs can tell.
const knowsParent = false

// parentArgs: this system has no plain way to tell. All commands of a directory
// are of one kind then.
func parentArgs() []string { return nil }
