package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lineTrace is the kernel's own record of every value that is set on a line, whoever sets it, and of a mark that a test
// makes in it, by one clock (Documentation/trace: the event gpio_value, trace_marker).
type lineTrace struct {
	t   testing.TB
	dir string
}

// traceEvent is a value that was set on a line, or the mark.
type traceEvent struct {
	at    time.Duration // on CLOCK_MONOTONIC, in whole microseconds
	mark  bool
	line  int // in the kernel's numbering of all lines
	level int
}

func traceLines(t testing.TB) *lineTrace {
	t.Helper()
	l := &lineTrace{t: t, dir: t.TempDir()}
	if err := unix.Mount("tracefs", l.dir, "tracefs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The event stays enabled: to switch it the kernel patches its own code, while all processors wait, and in QEMU that
		// may take for ever.
		l.write("tracing_on", "0")
		unix.Unmount(l.dir, 0)
	})
	l.write("trace_clock", "mono")
	// The names of the threads are noted by a probe in the scheduler, for which its code is changed while it runs. In
	// QEMU 7.2 with several processors that now and then ends in a processor which takes the breakpoint for ever.
	l.write("options/record-cmd", "0")
	l.write("events/gpio/gpio_value/enable", "1")
	l.begin()
	return l
}

func (l *lineTrace) write(file, text string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join(l.dir, file), []byte(text), 0); err != nil {
		l.t.Fatal(err)
	}
}

// begin forgets what there is, and records from now on.
func (l *lineTrace) begin() {
	l.write("trace", "")
	l.write("tracing_on", "1")
}

func (l *lineTrace) mark() { l.write("trace_marker", "here") }

// text is the record so far.
func (l *lineTrace) text() string {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, "trace"))
	if err != nil {
		l.t.Fatal(err)
	}
	return string(text)
}

// events ends the record and returns it.
func (l *lineTrace) events() (all []traceEvent) {
	l.t.Helper()
	l.write("tracing_on", "0")
	for line := range strings.Lines(l.text()) {
		if e, ok := parseTrace(strings.TrimSpace(line)); ok {
			all = append(all, e)
		}
	}
	return all
}

// parseTrace takes a line of the trace apart, as in
//
//	roverd-99 [000] ..... 12.345678: gpio_value: 535 set 1
//	roverd-99 [000] ..... 12.345678: tracing_mark_write: here
func parseTrace(line string) (e traceEvent, ok bool) {
	head, value, set := strings.Cut(line, ": gpio_value: ")
	if !set {
		head, _, e.mark = strings.Cut(line, ": tracing_mark_write: ")
	}
	at, err := time.ParseDuration(head[strings.LastIndexByte(head, ' ')+1:] + "s")
	number, level, _ := strings.Cut(value, " set ")
	e.at = at
	e.line, _ = strconv.Atoi(number)
	e.level, _ = strconv.Atoi(level)
	return e, err == nil && (set || e.mark)
}

// untilOff returns how long after the mark the last line that was high fell for good. Some must have been high there.
func (l *lineTrace) untilOff() time.Duration {
	l.t.Helper()
	high := map[int]bool{}
	var mark, off time.Duration
	for _, e := range l.events() {
		switch {
		case e.mark:
			if mark = e.at; len(high) == 0 {
				l.t.Fatal("all lines were off when the fault came, so there was nothing to switch off")
			}
		case e.level == 1:
			high[e.line] = true
		case high[e.line]:
			delete(high, e.line)
			off = e.at
		}
	}
	if mark == 0 || len(high) > 0 || off < mark {
		l.t.Fatalf("the mark is at %s, the last line fell at %s, and these are still high: %v", mark, off, high)
	}
	return off - mark
}
