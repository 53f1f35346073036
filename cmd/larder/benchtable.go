package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/helper"
	"github.com/larder-build/larder/internal/stats"
	"github.com/larder-build/larder/internal/store"
)

// A tableHelper answers gets from a table in RAM, with no look at the disk: the
// floor of what the protocol costs, to measure Larder against. Its first
// session makes the table: it answers from the store and notes what it said.
// It is no cache: a table that is out of date breaks builds.
type tableHelper struct {
	*helper.Session // the store, for puts and for the first session
	mu              sync.Mutex
	known           map[cacheprog.ActionID]cacheprog.Entry
	noted           map[cacheprog.ActionID]cacheprog.Entry
}

// GetNow answers from the table.
func (t *tableHelper) GetNow(id cacheprog.ActionID) (cacheprog.Entry, error) {
	if e, ok := t.known[id]; ok {
		return e, nil
	}
	e, err := t.Session.GetNow(id)
	if err == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.noted[id] = e
	}
	return e, err
}

func serveTable(ctx context.Context, file string) error {
	in, out, err := cacheprog.Stdio()
	if err != nil {
		return err
	}
	t := &tableHelper{known: make(map[cacheprog.ActionID]cacheprog.Entry), noted: make(map[cacheprog.ActionID]cacheprog.Entry)}
	if _, err := out.Write(cacheprog.Capabilities(t)); err != nil {
		return err
	}
	if err := t.load(file); err != nil {
		return err
	}
	cfg, _ := loadConfig(nil)
	t.Session = helper.New(helper.Options{Store: store.Open(store.Options{Dir: cfg.Dir}), Costs: stats.OpenCosts(cfg.Dir)})
	defer answerPromptly()()
	err = cacheprog.Serve(ctx, in, out, t, &cacheprog.ServeOptions{CapabilitiesSent: true})
	t.Session.Finish()
	if err == nil && len(t.noted) > 0 {
		err = t.save(file)
	}
	return err
}

func (t *tableHelper) load(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return gob.NewDecoder(bufio.NewReader(f)).Decode(&t.known)
}

func (t *tableHelper) save(file string) error {
	for id, e := range t.known {
		t.noted[id] = e
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := gob.NewEncoder(f).Encode(t.noted); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return f.Close()
}
