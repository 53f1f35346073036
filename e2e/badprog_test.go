package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/store"
)

// badprog is a cache program with a fault, for the scripts that hold the facts
// about the go command. It keeps what is put in $BADPROG_DIR. Its argument is
// the fault.
func badprog() {
	if err := runBadprog(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "badprog:", err)
		os.Exit(1)
	}
}

func runBadprog(fault string) error {
	ctx := context.Background()
	b := &badHandler{fault: fault, dir: os.Getenv("BADPROG_DIR"), entries: make(map[string]cacheprog.Entry)}
	switch fault {
	case "die", "garbage", "unknown-id":
		return badAnswers(fault)
	case "no-put":
		return cacheprog.Serve(ctx, os.Stdin, os.Stdout, struct{ cacheprog.Getter }{b}, nil)
	case "hold-stdout":
		return holdStdout(ctx, b)
	case "held":
		return held()
	case "kill-mid-put":
		return killMidPut()
	}
	if err := b.load(); err != nil {
		return err
	}
	if fault == "no-time" { // what a test needs, which takes long to compile
		b.more = store.Open(store.Options{Dir: os.Getenv("GOCACHE")})
		defer b.more.Close()
	}
	if err := cacheprog.Serve(ctx, os.Stdin, os.Stdout, b, nil); err != nil {
		return err
	}
	return b.save()
}

// badAnswers says that it can do everything and answers the first request as
// no cache program may.
func badAnswers(fault string) error {
	fmt.Println(`{"ID":0,"KnownCommands":["get","put","close"]}`)
	line, err := bufio.NewReader(os.Stdin).ReadBytes('\n')
	if err != nil {
		return nil
	}
	var request cacheprog.Request
	if err := json.Unmarshal(line, &request); err != nil {
		return err
	}
	switch fault {
	case "garbage":
		fmt.Println("this is not JSON")
	case "unknown-id":
		fmt.Printf(`{"ID":%d,"Miss":true}`+"\n", request.ID+1000)
	case "die":
		os.Exit(0)
	}
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// holdStdout serves well, but leaves a child behind that has its standard output.
func holdStdout(ctx context.Context, b *badHandler) error {
	cmd := exec.Command("badprog", "held")
	cmd.Stdout = os.Stdout
	wait, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer wait.Close() // the child goes on from here
	return cacheprog.Serve(ctx, os.Stdin, os.Stdout, b, nil)
}

// held is the child: it holds its standard output until its parent is gone and
// 300 ms longer, and says when it let go.
func held() error {
	io.Copy(io.Discard, os.Stdin)
	time.Sleep(300 * time.Millisecond) // not a wait for something, but the thing to be seen
	return os.WriteFile(filepath.Join(os.Getenv("BADPROG_DIR"), "let-go"), []byte(time.Now().Format(time.RFC3339Nano)), 0o666)
}

// killMidPut is larder until half of a body has reached it; then that larder is
// killed, and so is this program.
func killMidPut() error {
	cmd := exec.Command("larder")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	requests := bufio.NewReaderSize(os.Stdin, 1<<20)
	const bodyBytesMin = 200_000 // enough that larder has made a file
	for {
		line, err := requests.ReadSlice('\n')
		if len(line) > 0 && line[0] == '"' && len(line) > bodyBytesMin {
			if _, err := in.Write(line[:len(line)/2]); err != nil {
				return err
			}
			if err := awaitTemporary(); err != nil {
				return err
			}
			cmd.Process.Kill()
			cmd.Wait()
			os.Exit(1)
		}
		if _, werr := in.Write(line); werr != nil {
			return werr
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
	}
}

// awaitTemporary waits until larder has begun to write the body.
func awaitTemporary() error {
	live := filepath.Join(os.Getenv("GOCACHE"), "larder", "live")
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		names, err := os.ReadDir(live)
		if err != nil {
			return err
		}
		for _, e := range names {
			if info, err := e.Info(); err == nil && info.Size() > 0 {
				return nil
			}
		}
	}
	return errors.New("larder did not begin to write")
}

// A badHandler is a plain directory cache with one fault.
type badHandler struct {
	fault string
	dir   string
	more  *store.Store // if not nil: has what is not in dir

	mu      sync.Mutex
	entries map[string]cacheprog.Entry
}

func (b *badHandler) index() string { return filepath.Join(b.dir, "index.json") }

func (b *badHandler) load() error {
	data, err := os.ReadFile(b.index())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(data, &b.entries)
}

func (b *badHandler) save() error {
	data, err := json.Marshal(b.entries)
	if err != nil {
		return err
	}
	return os.WriteFile(b.index(), data, 0o666)
}

func (b *badHandler) Get(_ context.Context, id cacheprog.ActionID) (cacheprog.Entry, error) {
	if b.fault == "get-error" {
		return cacheprog.Entry{}, errors.New("the fault: get")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[id.String()]
	if !ok && b.more != nil {
		o, err := b.more.Peek(entry.ActionID(id))
		e, ok = cacheprog.Entry{OutputID: cacheprog.OutputID(o.OutputID), Size: o.Size, DiskPath: o.DiskPath}, err == nil
	}
	if !ok {
		return e, cacheprog.ErrMiss
	}
	if b.fault == "no-time" {
		e.Time = time.Time{}
	}
	return e, nil
}

func (b *badHandler) Put(_ context.Context, p cacheprog.Put) (string, error) {
	if b.fault == "put-error" {
		return "", errors.New("the fault: put")
	}
	path := filepath.Join(b.dir, p.OutputID.String())
	if b.fault == "extension" {
		path += ".cache"
	}
	f, err := os.CreateTemp(b.dir, "new-")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.Copy(f, p.Body); err != nil {
		return "", err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries[p.ActionID.String()] = cacheprog.Entry{OutputID: p.OutputID, Size: p.Size, Time: time.Now(), DiskPath: path}
	return path, nil
}

func (b *badHandler) Close(context.Context) error {
	if b.fault == "close-error" {
		return errors.New("the fault: close")
	}
	return nil
}

// toolexec is a -toolexec program: it runs the tool, but when that compiles the
// package $TOOLEXEC_PACKAGE, or links it if $TOOLEXEC_TOOL is link, it first runs
// the shell command $TOOLEXEC_DO.
func toolexec() {
	tool, args := os.Args[1], os.Args[2:]
	which := os.Getenv("TOOLEXEC_TOOL")
	if which == "" {
		which = "compile"
	}
	if os.Getenv("TOOLEXEC_IMPORTPATH") == os.Getenv("TOOLEXEC_PACKAGE") && filepath.Base(tool) == which && args[0] != "-V=full" {
		if out, err := exec.Command("sh", "-c", os.Getenv("TOOLEXEC_DO")).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "toolexec: %v\n%s", err, out)
			os.Exit(1)
		}
	}
	cmd := exec.Command(tool, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		os.Exit(1)
	}
}
