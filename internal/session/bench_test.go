package session_test

import (
	"testing"

	"github.com/larder-build/larder/internal/session"
)

// BenchmarkLeave is what a report costs a session.
func BenchmarkLeave(b *testing.B) {
	home := b.TempDir()
	b.Setenv("HOME", home)
	b.Setenv("XDG_CACHE_HOME", home)
	p, err := session.FindPlace()
	if err != nil {
		b.Fatal(err)
	}
	n := notice("machine")
	for i := 0; b.Loop(); i++ {
		if err := p.Leave(n); err != nil {
			b.Fatal(err)
		}
		if i%500 == 0 { // before it is full
			p.SetAside()
			p.Sent(nil)
		}
	}
}

// BenchmarkFindPlace is what finding the agent's place costs a session that has a remote.
func BenchmarkFindPlace(b *testing.B) {
	home := b.TempDir()
	b.Setenv("HOME", home)
	b.Setenv("XDG_CACHE_HOME", home)
	for b.Loop() {
		if _, err := session.FindPlace(); err != nil {
			b.Fatal(err)
		}
	}
}
