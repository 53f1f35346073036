package main

import (
	"context"
	"fmt"
	"io"
)

// A load is how a server did under load.
type load struct {
	Name           string  `json:"name"`
	Requests       int     `json:"requests"`
	PerSecond      float64 `json:"per_second"`
	BytesPerSecond float64 `json:"bytes_per_second"`
}

func (b *bencher) load(ctx context.Context, s *benchServer) ([]load, error) {
	return nil, nil
}

func writeLoad(w io.Writer, loads []load) {
	for _, l := range loads {
		fmt.Fprintf(w, "%s: %.0f requests/s\n", l.Name, l.PerSecond)
	}
}
