package store_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/larder-build/larder/internal/store"
)

func BenchmarkGet(b *testing.B) {
	s := store.Open(store.Options{Dir: b.TempDir()})
	defer s.Close()
	const actions = 1000
	for i := range actions {
		put(b, s, actionID(i), body(byte(i), 100))
	}
	for name, first := range map[string]int{"hit": 0, "miss": actions} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				s.Get(actionID(first + i%actions))
			}
		})
	}
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{0, 1 << 10, 64 << 10, 10 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := store.Open(store.Options{Dir: b.TempDir()})
			defer s.Close()
			data := body(1, size)
			out := sha256.Sum256(data)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := range b.N {
				if _, err := s.Put(actionID(i%1000), out, int64(size), bytes.NewReader(data)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
