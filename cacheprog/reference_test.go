package cacheprog_test

import (
	"bufio"
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/larder-build/larder/cacheprog"
)

var referenceReleases = flag.String("reference", "local", "hold the vectors to the go commands of these releases, such as local,go1.24.13")

var (
	//go:embed testdata/reference/main.go.txt
	referenceMain string
	//go:embed testdata/reference/export.go.txt
	referenceExport string
)

func init() { programs["vector"] = vectorProgram }

// A referenceStep is what the reference is told, and a referenceOutcome what it says; see testdata/reference/main.go.txt.
type referenceStep struct {
	Do     string
	Text   string
	Action []byte
	Body   []byte
}

type referenceOutcome struct {
	Outcome, Err string
	responseEntry
	Fields []string
}

// TestReference holds the vectors themselves to the go command: its own code, built from the source that every Go distribution
// has, is given what they send, and asked for what they want.
func TestReference(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a part of the go command")
	}
	if raceEnabled {
		t.Skip("has none of our code in it: without the race detector it runs")
	}
	for _, release := range strings.Split(*referenceReleases, ",") {
		t.Run(release, func(t *testing.T) { testReference(t, release) })
	}
}

func testReference(t *testing.T, release string) {
	cmd := exec.Command("go", "env", "GOROOT", "GOVERSION")
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+release)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	root, version, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	reference := filepath.Join(t.TempDir(), "reference.exe")
	buildOverlaid(t, root, reference, "cmd/go/internal/vectors", map[string]string{
		filepath.Join(root, "src", "cmd", "go", "internal", "cache", "export_vectors.go"): referenceExport,
		filepath.Join(root, "src", "cmd", "go", "internal", "vectors", "main.go"):         referenceMain,
	})
	t.Run("commands", func(t *testing.T) { referenceCommands(t, reference) })
	t.Run("requests", func(t *testing.T) { referenceRequests(t, reference, version) })
	t.Run("responses", func(t *testing.T) { referenceResponses(t, reference, version) })
}

// runReference runs steps, and returns what came of those before the go command gave up, if it did.
func runReference(t *testing.T, reference string, env []string, steps ...referenceStep) (outcomes []referenceOutcome, fatal string) {
	t.Helper()
	var in, stdout, stderr bytes.Buffer
	for _, s := range steps {
		if err := json.NewEncoder(&in).Encode(s); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), reference)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &stdout, &stderr
	err := cmd.Run()
	d := json.NewDecoder(&stdout)
	for {
		var o referenceOutcome
		if d.Decode(&o) != nil {
			break
		}
		outcomes = append(outcomes, o)
	}
	if err != nil {
		fatal = cmp.Or(strings.TrimSpace(stderr.String()), err.Error())
	}
	return outcomes, fatal
}

func referenceCommands(t *testing.T, reference string) {
	var v commandVectors
	readVectors(t, "commands.json", &v)
	var steps []referenceStep
	for _, c := range v.Cases {
		steps = append(steps, referenceStep{Do: "split", Text: c.Text})
	}
	outcomes, fatal := runReference(t, reference, nil, steps...)
	for i, c := range v.Cases {
		if i >= len(outcomes) || (outcomes[i].Err != "") != c.Error || !slices.Equal(outcomes[i].Fields, c.Args) {
			t.Fatalf("%q: %+v, %s, want %q", c.Text, outcomes, fatal, c.Args)
		}
	}
}

// vectorProgram is a cache program that answers with VECTOR_SEND, or if that is not set, writes down what it is sent.
func vectorProgram() error {
	in := bufio.NewReader(os.Stdin)
	send, sends := os.LookupEnv("VECTOR_SEND")
	if os.Getenv("VECTOR_TO") != "start" {
		os.Stdout.WriteString(`{"ID":0,"KnownCommands":["get","put","close"]}` + "\n")
	}
	if !sends {
		return writeDown(in, os.Getenv("VECTOR_FILE"))
	}
	if os.Getenv("VECTOR_TO") != "start" {
		if _, err := readFrame(in); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(send)
	if err != nil {
		return err
	}
	os.Stdout.Write(data)
	if os.Getenv("VECTOR_END") == "" {
		io.Copy(io.Discard, in)
	}
	return nil
}

func writeDown(in *bufio.Reader, name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		raw, err := readFrame(in)
		if err != nil {
			return nil
		}
		if _, err := f.Write(raw); err != nil {
			return err
		}
		var r struct {
			ID      int64
			Command string
		}
		if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&r); err != nil {
			return err
		}
		switch r.Command {
		case "get":
			fmt.Printf(`{"ID":%d,"Miss":true}`+"\n", r.ID)
		case "put":
			fmt.Printf(`{"ID":%d,"DiskPath":"/x"}`+"\n", r.ID)
		case "close":
			fmt.Printf(`{"ID":%d}`+"\n", r.ID)
			return nil
		}
	}
}

// ownCommand is the command of the test binary.
func ownCommand(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command, err := cacheprog.JoinCommand([]string{exe})
	if err != nil {
		t.Fatal(err)
	}
	return command
}

// referenceRequests has the go command send what the vectors say that it sends, byte for byte.
func referenceRequests(t *testing.T, reference, version string) {
	var v requestVectors
	readVectors(t, "requests.json", &v)
	for _, c := range v.Cases {
		if !c.Go {
			continue
		}
		want := c.Send.bytes()
		steps := []referenceStep{{Do: "start", Text: ownCommand(t)}}
		for rest := bufio.NewReader(bytes.NewReader(want)); ; {
			raw, err := readFrame(rest)
			if err != nil {
				break
			}
			q := decodeRequest(t, string(raw))
			steps = append(steps, referenceStep{Do: q.Command, Action: q.ActionID, Body: q.body})
		}
		file := filepath.Join(t.TempDir(), "sent")
		outcomes, fatal := runReference(t, reference, []string{programEnv + "=vector", "VECTOR_FILE=" + file}, steps...)
		if len(outcomes) != len(steps) || fatal != "" {
			t.Errorf("%s: %+v, %s", c.Name, outcomes, fatal)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if minor(version) < 24 {
			got = bytes.ReplaceAll(got, []byte(`"ObjectID"`), []byte(`"OutputID"`))
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the go command sends %.400s, want %.400s", c.Name, got, want)
		}
	}
}

// referenceResponses has the go command read what the vectors send.
func referenceResponses(t *testing.T, reference, version string) {
	var v responseVectors
	readVectors(t, "responses.json", &v)
	for _, c := range v.Cases {
		if minor(version) < c.Since {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			send := filepath.Join(t.TempDir(), "send")
			if err := os.WriteFile(send, c.Send.bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
			env := []string{programEnv + "=vector", "VECTOR_SEND=" + send, "VECTOR_TO=" + c.To}
			if c.End {
				env = append(env, "VECTOR_END=1")
			}
			steps := []referenceStep{{Do: "start", Text: ownCommand(t)}}
			if c.To != "start" {
				steps = append(steps, referenceStep{Do: c.To, Action: v.Action, Body: v.Body})
			}
			outcomes, fatal := runReference(t, reference, env, steps...)
			if c.Go == "fatal" {
				if fatal == "" || len(outcomes) == len(steps) {
					t.Errorf("%+v, want a fatal error", outcomes)
				}
				return
			}
			if len(outcomes) != len(steps) {
				t.Fatalf("%+v, %s, want %s", outcomes, fatal, c.Go)
			}
			o := outcomes[len(outcomes)-1]
			if o.Outcome != c.Go || c.Err != "" && o.Err != c.Err {
				t.Errorf("%+v, want %s %s", o, c.Go, c.Err)
			} else if c.Entry != nil {
				checkEntry(t, o.responseEntry, *c.Entry, c.To == "get")
			}
		})
	}
}

// buildOverlaid builds a package of the Go distribution in root with files added or replaced.
func buildOverlaid(t *testing.T, root, out, pkg string, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for name, text := range files {
		path := filepath.Join(dir, strings.ReplaceAll(filepath.Base(filepath.Dir(name))+"-"+filepath.Base(name), "/", "-"))
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[name] = path
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, data, 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(root, "bin", "go"), "build", "-overlay", list, "-o", out, pkg)
	cmd.Dir = filepath.Join(root, "src", "cmd")
	// The module index does not know of the overlay, and below GOMODCACHE, where toolchains are, none is allowed.
	cmd.Env = append(os.Environ(), "GOROOT="+root, "GOTOOLCHAIN=local", "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOCACHEPROG=",
		"GODEBUG=goindex=0", "GOMODCACHE="+t.TempDir())
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s of %s: %v\n%s", pkg, root, err, bytes.TrimSpace(text))
	}
}
