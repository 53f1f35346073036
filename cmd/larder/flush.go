package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/larder-build/larder/internal/cli"
	"github.com/larder-build/larder/internal/config"
	"github.com/larder-build/larder/internal/session"
)

// flushLimit is how long uploads are waited for without the flag.
const flushLimit = 5 * time.Minute

func flushCommand() cli.Command {
	return cli.Command{
		Name:  "flush",
		Short: "wait until all that builds have made is uploaded",
		Long: `Uploads happen after the build, in the background. Where the machine is thrown
away then, as in CI, flush waits for them; "larder run" does so by itself.`,
		Setup: func(fs *flag.FlagSet) cli.Run {
			flags := config.AddFlags(fs)
			limit := fs.Duration("limit", flushLimit, "give up after this `duration`; what is left stays queued")
			asJSON := fs.Bool("json", false, "print JSON")
			return func(ctx context.Context, args []string) error {
				if err := cli.NoArgs(args); err != nil {
					return err
				}
				cfg, problems := config.Load(flags, os.Environ())
				for _, p := range problems {
					fmt.Fprintf(os.Stderr, "larder: %v\n", p)
				}
				report, err := flush(ctx, cfg, *limit, nil, sayLine)
				if err == nil && *asJSON {
					return json.NewEncoder(os.Stdout).Encode(report)
				}
				if err == nil {
					fmt.Println(uploadSummary(report))
				}
				return err
			}
		},
	}
}

// flush waits for uploads, with a progress bar, and passes what the agent has to say
// to the user. What was uploaded is counted from before on, or, if that is nil, from
// when flush begins. Nothing queued, and nothing to count, needs no agent.
//
// Of other worlds (session.Place) it waits for what their agents are about to upload, as
// the run that it is for may have had its builds there; but not for one that cannot reach
// its remote, which is none of this world's business.
func flush(ctx context.Context, cfg config.Config, limit time.Duration, before *session.Report, say func(line string)) (session.Report, error) {
	place, err := session.FindPlace()
	if err != nil {
		return session.Report{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	remote, _ := remoteOf(cfg)
	f := flushing{hello: session.Hello{Version: cli.Version(), Remote: remote}, say: say}
	total, err := f.own(ctx, place, cfg.Larderd, before)
	for _, other := range place.Others() {
		report := f.other(ctx, other)
		total.Uploaded += report.Uploaded
		total.UploadedBytes += report.UploadedBytes
		if report.Queued > 0 && before == nil {
			say(fmt.Sprintf("%d entries that were built in other surroundings (network, proxy or limits) wait there: %s", report.Queued, report.Problem))
		}
	}
	if total.Queued > 0 {
		why := total.Problem
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			why = fmt.Sprintf("%v were not enough", limit)
		case err != nil:
			why = err.Error()
		}
		return total, &cli.HintError{
			Err:  fmt.Errorf("%d entries are not uploaded: %s; they stay queued", total.Queued, why),
			Hint: "run \"larder flush\" when the remote can be reached",
		}
	}
	return total, err
}

// A flushing is what waiting for agents has in common.
type flushing struct {
	hello session.Hello
	say   func(line string)
}

// own waits for the agent of this world, which it starts if there is something queued
// that it may upload.
func (f flushing) own(ctx context.Context, place session.Place, larderd string, before *session.Report) (session.Report, error) {
	jobs, err := place.Jobs()
	for _, other := range place.Others() {
		if place.KinOf(other) {
			left, _ := other.Jobs() // which an agent takes over, if theirs does not run
			jobs = append(jobs, left...)
		}
	}
	if err != nil || len(jobs) == 0 && before == nil && !place.HasNotices() {
		return session.Report{}, err
	}
	if len(jobs) > 0 {
		return f.wait(ctx, place, &session.Starter{Place: place, Larderd: larderd}, before, func(session.Report) {})
	}
	report, err := f.wait(ctx, place, nil, before, func(session.Report) {}) // reports only, which are not worth starting one
	if errors.Is(err, session.ErrNoAgent) {
		return session.Report{}, nil
	}
	return report, err
}

// other waits for the agent of another world, if there is one, for as long as it gets on.
func (f flushing) other(ctx context.Context, place session.Place) session.Report {
	if jobs, err := place.Jobs(); err != nil || len(jobs) == 0 {
		return session.Report{}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	report, _ := f.wait(ctx, place, nil, nil, func(r session.Report) {
		if r.Problem != "" {
			cancel()
		}
	})
	return report
}

// wait waits for one agent, and passes its reports on.
func (f flushing) wait(ctx context.Context, place session.Place, starter *session.Starter, before *session.Report, look func(session.Report)) (session.Report, error) {
	c, err := session.Connect(ctx, place, starter, f.hello, f.say)
	if err != nil {
		return session.Report{}, err
	}
	defer c.Close()
	bar := cli.NewProgress(os.Stderr, "upload")
	defer bar.End()
	total := int64(0)
	report, err := c.Flush(ctx, func(r session.Report) {
		if before == nil {
			before = &r
		} else if before.Uploaded > r.Uploaded {
			before = new(session.Report) // that was another agent
		}
		total = max(total, r.Queued)
		bar.Set(int(total-r.Queued), int(total))
		look(r)
	})
	if before != nil {
		report.Uploaded -= before.Uploaded
		report.UploadedBytes -= before.UploadedBytes
	}
	return report, err
}

// uploading are the settings of a run that leaves something to upload, unless there
// is no remote, or an agent that does not answer: the helpers say so, as they name what
// is wrong with the settings, and what there is to upload stays queued.
func uploading(flags *config.Flags) (config.Config, bool) {
	cfg, _ := config.Load(flags, os.Environ())
	_, remote := remoteOf(cfg)
	place, err := session.FindPlace()
	return cfg, remote && (err != nil || !place.Silent())
}

// uploadsSoFar is what the agent has uploaded, for flush to count from: what a build
// leaves may be uploaded before anybody waits for it. No agent has uploaded nothing.
func uploadsSoFar(ctx context.Context, flags *config.Flags) session.Report {
	_, ok := uploading(flags)
	place, err := session.FindPlace()
	if !ok || err != nil {
		return session.Report{}
	}
	c, err := session.Connect(ctx, place, nil, session.Hello{Version: cli.Version()}, nil)
	if err != nil {
		return session.Report{}
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(ctx)
	report, _ := c.Flush(ctx, func(session.Report) { cancel() })
	return report
}

// uploadSummary says what a flush did.
func uploadSummary(r session.Report) string {
	if r.Uploaded == 0 {
		return "nothing was left to upload"
	}
	return fmt.Sprintf("uploaded %d entries, %s", r.Uploaded, config.FormatSize(r.UploadedBytes))
}
