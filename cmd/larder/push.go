package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/larder-build/larder/cacheprog"
	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/entry"
	"github.com/larder-build/larder/internal/gocommand"
	"github.com/larder-build/larder/internal/helper"
	"github.com/larder-build/larder/internal/native"
	"github.com/larder-build/larder/internal/session"
	"github.com/larder-build/larder/internal/store"
)

func pushCommand() cli.Command {
	return nativeCommand(cli.Command{
		Name:  "push",
		Short: "upload what a go command that ran without a helper has made",
		Long: `For after "larder pull" and a go command that ran natively: asks the go command,
without building, testing or writing anything, what "go COMMAND" uses, uploads what
of that is new since the pull or the last push, or what the server lacks, and notes
for the next pull what this kind of build uses. Without a command, all those are
pushed that were pulled in this directory. docs/native.md tells all of it.

What cannot be uploaded is said in one line, and stays queued. The exit code is 0
then too: the step must not fail a job. It is 2 for wrong usage only.`,
	}, func(fs *flag.FlagSet, _ *config.Flags) func(context.Context, nativeRun, []gocommand.Command) error {
		limit := fs.Duration("limit", flushLimit, "give up after this `duration`; what is left stays queued")
		asJSON := fs.Bool("json", false, "print JSON")
		return func(ctx context.Context, run nativeRun, named []gocommand.Command) error {
			if run.remote.ReadOnly {
				run.say("nothing is uploaded: the remote is read only (LARDER_MODE=readonly)")
				return nil
			}
			builds, err := run.builds(ctx, named)
			if err != nil {
				return err
			}
			p := pushed{Commands: []pushedCommand{}}
			whose := run.whose()
			for _, b := range builds {
				if c, ok := run.queue(ctx, b, whose); ok {
					p.Commands = append(p.Commands, c)
				}
			}
			if err := ctx.Err(); err != nil {
				return err // Ctrl-C
			}
			if len(p.Commands) > 0 {
				run.upload(ctx, &p, *limit)
			}
			p.write(*asJSON)
			return nil
		}
	})
}

// A pushed is what a push did.
type pushed struct {
	Commands []pushedCommand `json:"commands"`
	Entries  int64           `json:"entries"` // uploaded
	Bytes    int64           `json:"bytes"`   // as sent
	Left     int64           `json:"left"`    // entries that stay queued
	Problem  string          `json:"problem,omitempty"`
}

// A pushedCommand is what one go command uses.
type pushedCommand struct {
	Command string `json:"command"`
	Used    int    `json:"used"`              // entries
	New     int    `json:"new"`               // of these, put here since the last pull or push
	Unbuilt int    `json:"unbuilt,omitempty"` // packages that are not there as they are now
	Others  int    `json:"others,omitempty"`  // entries of another identity, perhaps, which are not uploaded
}

func (p pushed) write(asJSON bool) {
	if asJSON {
		json.NewEncoder(os.Stdout).Encode(p)
		return
	}
	if len(p.Commands) == 0 {
		return // it is said why
	}
	var uses []string
	for _, c := range p.Commands {
		uses = append(uses, fmt.Sprintf("%s uses %d", c.Command, c.Used))
	}
	switch {
	case p.Entries > 0:
		fmt.Printf("pushed %s, %s; %s\n", countEntries(p.Entries), config.FormatSize(p.Bytes), strings.Join(uses, ", "))
	case p.Problem == "":
		fmt.Printf("nothing to push: the server has all that is used; %s\n", strings.Join(uses, ", "))
	}
}

// queue leaves to the agent what of a build is to be uploaded. It is not ok if there
// is nothing that could be, which it has said then.
func (r nativeRun) queue(ctx context.Context, b nativeBuild, whose func(store string) (owner, error)) (c pushedCommand, ok bool) {
	begin := time.Now()
	own, err := whose(b.store)
	if err != nil {
		r.say(fmt.Sprintf("%v; nothing of %v is uploaded: nobody else can say whose it is", err, b.Command))
		return c, false
	}
	used, unbuilt, err := record(ctx, b)
	if err != nil {
		r.say(fmt.Sprintf("%v: %v; nothing of it is uploaded", b.Command, err))
		return c, false
	}
	marks, key := r.marks(b.store), b.kind.Key()
	job := &session.Job{Remote: r.remote, Store: b.store, Manifest: key, Time: begin, Identity: own.identity}
	fresh, others := choose(job, own, used, marks.New(key))
	if len(job.Used) == 0 {
		r.say(fmt.Sprintf("%v uses nothing that is in %s; run it first", b.Command, b.store))
		return c, false
	}
	if unbuilt > 0 {
		r.say(fmt.Sprintf("%v: not built as the sources are now: %s, which no pull will bring", b.Command, count(int64(unbuilt), "package")))
	}
	if others > 0 {
		r.say(fmt.Sprintf("%v: %s may have been made with another token, or have come with it, and %s not uploaded with this one; see docs/native.md",
			b.Command, countEntries(int64(others)), map[bool]string{true: "is", false: "are"}[others == 1]))
	}
	if err := job.Write(r.place); err != nil {
		r.say(fmt.Sprintf("queue uploads: %v; nothing is uploaded", err))
		return c, false
	}
	mark := native.Mark{Begun: begin, Known: true, Dir: r.dir, Args: b.Args}
	if err := marks.Set(key, mark, nil); err != nil {
		r.say(err.Error() + "; the next push may upload more than is needed")
	}
	return pushedCommand{Command: b.String(), Used: len(job.Used), New: fresh, Unbuilt: unbuilt, Others: others}, true
}

// choose fills a job in with what is used, and returns how many entries are new.
// Those are sent whatever the server has: a test's list of inputs is put again under
// the same action when the test begins to read other files. What is left is sent
// where the server lacks it. Nobody has measured what building these cost. others are
// those that were put, or came, when the store was not the owner's alone: they are not
// sent, whatever the server has.
func choose(job *session.Job, own owner, used []entry.ActionID, isNew func(entry.ActionID, time.Time) bool) (fresh, others int) {
	s := store.Open(store.Options{Dir: job.Store})
	defer s.Close()
	var unsure []session.Put
	for _, id := range used {
		o, err := s.Get(id)
		if err != nil || !strings.HasSuffix(o.DiskPath, "-d") {
			continue // it is gone, or an executable, which only its go command keeps
		}
		job.Used = append(job.Used, id)
		put := session.Put{Action: id, Output: o.OutputID}
		switch {
		case !own.put(o.Time):
			others++
		case isNew(id, o.Time):
			job.Puts = append(job.Puts, put)
		default:
			unsure = append(unsure, put)
		}
	}
	fresh = len(job.Puts)
	job.Puts, job.Unsure = append(job.Puts, unsure...), len(unsure)
	return fresh, others
}

// An owner is whose a store is.
type owner struct {
	identity *session.Identity // nil: there is no token, and so nobody else
	since    time.Time         // zero: always
}

// put reports whether an entry of that time is the owner's.
func (o owner) put(at time.Time) bool { return o.since.IsZero() || at.After(o.since) }

// identifyLimit is how long the agent may take to find out: it asks the server once.
const identifyLimit = 10 * time.Second

// whose returns what asks the agent whose a store is, once for each: it has the token.
func (r nativeRun) whose() func(store string) (owner, error) {
	type answer struct {
		owner
		err error
	}
	known := make(map[string]answer)
	return func(store string) (owner, error) {
		a, ok := known[store]
		if !ok {
			a.owner, a.err = r.ask(store)
			known[store] = a
		}
		return a.owner, a.err
	}
}

func (r nativeRun) ask(store string) (owner, error) {
	hello := session.Hello{Version: cli.Version(), Store: store, Remote: r.remote, Private: !r.cfg.Report, Identify: true}
	c, err := session.Connect(context.Background(), r.place, &session.Starter{Place: r.place, Larderd: r.cfg.Larderd}, hello, sayLine)
	if err == nil {
		defer c.Close()
		if report, ok := c.End(identifyLimit); ok && report.Identity != nil {
			return owner{report.Identity, report.Since}, nil
		}
		err = fmt.Errorf("the agent does not say whose %s is", store)
	}
	if r.remote.TokenFile == "" {
		return owner{}, nil
	}
	return owner{}, err
}

// upload waits until what was queued is uploaded.
func (r nativeRun) upload(ctx context.Context, p *pushed, limit time.Duration) {
	said := false
	report, err := flush(ctx, r.cfg, limit, nil, func(line string) { // ends before flush does
		said = true
		sayLine(line)
	})
	p.Entries, p.Bytes, p.Left = report.Uploaded, report.UploadedBytes, report.Queued
	switch {
	case err != nil:
		p.Problem = err.Error()
		var hint *cli.HintError
		if errors.As(err, &hint) {
			p.Problem += "; " + hint.Hint
		}
	case report.Refused != "":
		p.Problem = "nothing is uploaded: " + report.Refused
	}
	if p.Problem != "" && !said {
		r.say(p.Problem)
	}
}

// recordLimit is how long after its end a go command's helper may take to write
// down what was asked for.
const recordLimit = 10 * time.Second

// record asks the go command what a build uses, in the order in which it asks for
// it, and how many packages would have to be compiled. It is run once more for that,
// through the helper, in a way that builds and writes nothing.
func record(ctx context.Context, b nativeBuild) (used []entry.ActionID, unbuilt int, err error) {
	scratch, err := os.MkdirTemp("", "larder-push-")
	if err != nil {
		return nil, 0, fmt.Errorf("make a directory for the dry run: %w", err)
	}
	defer os.RemoveAll(scratch)
	self, err := ownPath()
	if err != nil {
		return nil, 0, err
	}
	prog, err := cacheprog.JoinCommand([]string{self, "-dir=" + b.store, "-mode=off", "-stats=false", "-report=false"})
	if err != nil {
		return nil, 0, fmt.Errorf("write GOCACHEPROG: %w", err)
	}
	tools, err := cacheprog.JoinCommand([]string{self, toolVersionArg})
	if err != nil {
		return nil, 0, fmt.Errorf("write -toolexec: %w", err)
	}
	log, written := filepath.Join(scratch, "accesses"), filepath.Join(scratch, "written")
	if err := os.Mkdir(written, 0o700); err != nil {
		return nil, 0, err
	}
	args := b.Dry(tools, written)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "GOCACHEPROG="+prog, config.AccessLogVariable+"="+log, config.RunLogVariable+"=")
	if b.Args[1] == "install" {
		cmd.Env = append(cmd.Env, "GOBIN="+written)
	}
	// A pipe, which the helper has too: go list does not wait for its helper's end,
	// but Run waits for that of everybody who has the pipe.
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.WaitDelay = recordLimit
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return nil, 0, err
	}
	f, err := os.Open(log)
	if err != nil {
		return nil, 0, errors.New("the go command has not asked for anything")
	}
	defer f.Close()
	used, err = readUsed(bufio.NewScanner(f))
	return used, compiled(&said, b.tools), err
}

// compiled is how many packages a dry run would have compiled, or tried to: commands
// for that are in what it says.
func compiled(said io.Reader, tools string) (n int) {
	compiler := filepath.Join(tools, "compile")
	lines := bufio.NewScanner(said)
	lines.Buffer(nil, 1<<20) // a command names all files of a package
	for lines.Scan() {
		if slices.ContainsFunc(strings.Fields(lines.Text()), func(word string) bool { return strings.TrimSuffix(word, ".exe") == compiler }) {
			n++
		}
	}
	return n
}

// readUsed reads which actions were there, or are there now, each once. There are
// none if only the dry run itself has made any (indexes of the files of packages).
func readUsed(lines *bufio.Scanner) (used []entry.ActionID, err error) {
	found := false
	seen := make(map[entry.ActionID]bool)
	for lines.Scan() {
		what, text, _ := strings.Cut(lines.Text(), " ")
		var id entry.ActionID
		err := id.UnmarshalText([]byte(text))
		if a := helper.Access(what); err == nil && (a == helper.Hit || a == helper.Put) && !seen[id] {
			seen[id] = true
			used = append(used, id)
			found = found || a == helper.Hit
		}
	}
	if !found {
		used = nil
	}
	return used, lines.Err()
}

// toolVersionArg has this program stand before the tools that the go command runs
// (-toolexec): they say which version they are of, which is a part of action IDs,
// and otherwise name themselves and fail.
const toolVersionArg = "tool-version"

// toolVersion runs a tool if it is asked for its version, in either of the two ways
// in which the go command does that (cmd/go/internal/work/buildid.go), and returns
// the exit code.
func toolVersion(tool []string) int {
	if len(tool) == 0 || !slices.Contains(tool, "-V=full") && !slices.Contains(tool, "-###") {
		fmt.Fprintln(os.Stderr, strings.Join(tool, " "))
		return cli.ExitFail
	}
	cmd := exec.Command(tool[0], tool[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return cli.ExitFail
	}
	return cli.ExitOK
}
