package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// redrawEvery keeps a bar from costing more than the work that it shows.
const redrawEvery = 100 * time.Millisecond

// A Progress is a bar on a terminal: what is being done, how far it is, how
// long it will take. Where the file is no terminal it prints nothing. It is
// for one goroutine.
type Progress struct {
	w     io.Writer // nil: no terminal
	what  string
	start time.Time
	drawn time.Time
}

// NewProgress returns a bar on f, which is normally os.Stderr.
func NewProgress(f *os.File, what string) *Progress {
	p := &Progress{what: what, start: time.Now()}
	if IsTerminal(f) {
		p.w = f
	}
	return p
}

// Set says that done of total are done.
func (p *Progress) Set(done, total int) {
	if p.w == nil || total <= 0 || time.Since(p.drawn) < redrawEvery {
		return
	}
	p.drawn = time.Now()
	const width = 30
	filled := min(width*done/total, width)
	left := ""
	if done > 0 {
		d := time.Duration(float64(time.Since(p.start)) * float64(total-done) / float64(done))
		left = d.Round(time.Second).String() + " left"
	}
	fmt.Fprintf(p.w, "\r%s [%s%s] %3d%% %s\x1b[K", p.what,
		strings.Repeat("#", filled), strings.Repeat(".", width-filled), 100*done/total, left)
}

// End removes the bar.
func (p *Progress) End() {
	if p.w != nil && !p.drawn.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
