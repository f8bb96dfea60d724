package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// progress is a line on a terminal that tells how far a run is. Elsewhere it says nothing.
type progress struct {
	to      *os.File // nil: nowhere
	name    string
	began   time.Time
	planned time.Duration
	shown   time.Time
}

// newProgress is of run number i of n.
func newProgress(w io.Writer, name string, i, n int) *progress {
	p := &progress{name: name}
	if n > 1 {
		p.name = fmt.Sprintf("%s %d/%d", name, i+1, n)
	}
	if f, ok := w.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			p.to = f
		}
	}
	return p
}

func (p *progress) begin(planned time.Duration) { p.began, p.planned = time.Now(), planned }

// show writes the line anew, at most once a second.
func (p *progress) show(open int64, rate float64, what string) {
	const width = 30
	if p.to == nil || time.Since(p.shown) < time.Second {
		return
	}
	p.shown = time.Now()
	share, left := 1., "a moment"
	if took := time.Since(p.began); took < p.planned {
		share, left = float64(took)/float64(p.planned), (p.planned - took).Round(time.Second).String()
	}
	full := int(share * width)
	line := fmt.Sprintf("%s [%s%s] %.0f %%  %d open, %.0f %s/s, %s left", p.name,
		strings.Repeat("#", full), strings.Repeat("-", width-full), 100*share, open, rate, what, left)
	if columns := p.columns(); len(line) >= columns {
		line = line[:columns-1] // a line that is broken can't be taken away
	}
	fmt.Fprint(p.to, "\r\x1b[K"+line)
}

// columns is how wide the terminal is.
func (p *progress) columns() int {
	if size, err := unix.IoctlGetWinsize(int(p.to.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		return int(size.Col)
	}
	return 80
}

// clear takes the line away, for what is printed next.
func (p *progress) clear() {
	if p.to != nil {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
