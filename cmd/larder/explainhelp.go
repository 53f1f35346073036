package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/explain"
	"github.com/larder-build/larder/internal/helper"
	"github.com/larder-build/larder/internal/store"
)

// noteAccesses has a session's accesses noted, if "larder explain" asks for it. The
// function that it returns, called at the session's end, writes them to its file, a
// line each: what became of the request and the action ID.
func noteAccesses(parts *helper.Options) (write func()) {
	name := os.Getenv(config.AccessLogVariable)
	if name == "" {
		return func() {}
	}
	var lines bytes.Buffer
	parts.Note = func(id entry.ActionID, a helper.Access) {
		lines.WriteString(string(a))
		lines.WriteByte(' ')
		lines.WriteString(id.String())
		lines.WriteByte('\n')
	}
	return func() {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return // explain says that there is nothing to explain
		}
		f.Write(lines.Bytes())
		f.Close()
	}
}

// readAccesses reads what noteAccesses has written.
func readAccesses(name string) (map[string]explain.Access, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("no go command used the cache")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := make(map[string]explain.Access)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		what, id, _ := strings.Cut(lines.Text(), " ")
		if _, err := hex.DecodeString(id); err != nil {
			continue
		}
		a := all[id]
		switch helper.Access(what) {
		case helper.Hit:
			a.Hit = true
		case helper.Missed:
			a.Missed = true
		case helper.Put:
			a.Put = true
		}
		all[id] = a
	}
	return all, lines.Err()
}

// gaveUpEnding is that of the file that serveTrace leaves beside the trace if it
// ended the session, so that no test would be run.
const gaveUpEnding = ".gave-up"

// serveTrace is the helper of a go command that "larder explain" and "larder doctor"
// run for its trace. The doctor leaves no trace of itself in the store.
func serveTrace(in io.Reader, out io.Writer, cfg config.Config, trace string) int {
	pretend := os.Getenv(config.PretendVariable)
	s := store.Open(store.Options{Dir: cfg.Dir})
	defer s.Close()
	puts := s
	if pretend == pretendKnown {
		puts = store.Open(store.Options{Dir: filepath.Join(filepath.Dir(trace), "puts")})
		defer puts.Close()
	}
	replayer := explain.NewReplayer(s, puts)
	var handler any = replayer
	if pretend != pretendNothing {
		p, err := explain.NewPretender(replayer, trace, func() {
			os.WriteFile(trace+gaveUpEnding, nil, 0o600)
			os.Exit(1)
		})
		if err != nil {
			fmt.Fprintf(os.Stderr, "larder: %v\n", err)
			return 1
		}
		p.KnownOnly = pretend == pretendKnown
		handler = p
	}
	if err := cacheprog.Serve(context.Background(), in, out, handler, &cacheprog.ServeOptions{CapabilitiesSent: true}); err != nil {
		return 1
	}
	return 0
}
