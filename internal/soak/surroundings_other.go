//go:build unix && !linux

package soak

// othersSurroundings are none that can be made here.
func othersSurroundings() []Fault { return nil }
