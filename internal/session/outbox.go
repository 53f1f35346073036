package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/larder-build/larder/internal/stats"
)

// The outbox is what sessions tell their servers and the agent has not sent yet:
// one file of JSON lines, to which any helper appends and which the agent sets
// aside to send it. It needs no agent, so sessions that had all in their store,
// and so never spoke to one, report as well; and it is bounded, so it can lie for
// as long as there is none.

// outboxBytesMax is the size of the file beyond which sessions are not reported:
// that of some 500 sessions.
const outboxBytesMax = 512 << 10

// A Notice is a session's report and whom it is for.
type Notice struct {
	Remote Remote       `json:"remote"`
	Report stats.Report `json:"report"`
}

func (p Place) outbox() string  { return p.Dir + string(os.PathSeparator) + "reports" }
func (p Place) sending() string { return p.outbox() + ".sending" }

// leaveTries is how often a notice is written to an outbox that the agent sets aside
// meanwhile: far more often than it ever is.
const leaveTries = 100

// Leave adds a notice to the outbox, in one write. In a full one it is dropped.
func (p Place) Leave(n Notice) error {
	line, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	line = append(line, '\n')
	for range leaveTries {
		if kept, err := p.leave(line); kept || err != nil {
			return err
		}
	}
	return errors.New("leave a report: the outbox is set aside again and again")
}

// leave writes a line, and reports whether it is sure to be read: the agent may have
// set the file aside and read it while it was open here. Then the line is written
// once more; to the server a report that comes twice is one.
func (p Place) leave(line []byte) (kept bool, err error) {
	const flags = os.O_WRONLY | os.O_APPEND | os.O_CREATE
	f, err := os.OpenFile(p.outbox(), flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := p.Make(); err != nil {
			return false, err
		}
		f, err = os.OpenFile(p.outbox(), flags, 0o600)
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() >= outboxBytesMax {
		return true, err
	}
	if _, err := f.Write(line); err != nil {
		return false, err
	}
	now, err := os.Stat(p.outbox())
	return err == nil && os.SameFile(info, now), nil
}

// HasNotices reports whether there is anything in the outbox.
func (p Place) HasNotices() bool {
	for _, name := range []string{p.outbox(), p.sending()} {
		if _, err := os.Stat(name); err == nil {
			return true
		}
	}
	return false
}

// SetAside returns the notices that are to be sent. They stay set aside until
// Sent says which of them are left; meanwhile others may be added. Lines that do
// not parse are dropped. It is the agent's.
func (p Place) SetAside() ([]Notice, error) {
	if _, err := os.Stat(p.sending()); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(p.outbox(), p.sending()); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		} else if err != nil {
			return nil, fmt.Errorf("set reports aside: %w", err)
		}
	}
	data, err := os.ReadFile(p.sending())
	if err != nil {
		return nil, fmt.Errorf("read reports: %w", err)
	}
	var notices []Notice
	for line := range bytes.Lines(data) {
		var n Notice
		if json.Unmarshal(line, &n) == nil && n.Report.ID != "" {
			notices = append(notices, n)
		}
	}
	return notices, nil
}

// Sent keeps those of the notices set aside that are left.
func (p Place) Sent(left []Notice) error {
	if len(left) == 0 {
		return os.Remove(p.sending())
	}
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	for _, n := range left {
		if err := out.Encode(n); err != nil {
			return fmt.Errorf("encode report: %w", err)
		}
	}
	temporary := p.sending() + ".new"
	if err := os.WriteFile(temporary, b.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, p.sending())
}
