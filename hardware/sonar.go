package hardware

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What the datasheet of the HC-SR04 asks for: 10 µs of trigger; then the echo line is high for as long as the sound was
// under way, at least 2 cm and at most 4 m far, or for 38 ms when nothing came back; and 60 ms from one ping to the
// next, so that none hears the other's echo.
const (
	triggerTime = 10 * time.Microsecond
	listenTime  = 45 * time.Millisecond // 38, and what passes before the echo line rises
	pingEvery   = 60 * time.Millisecond
	maxRange    = 4.0 // metres

	speedOfSound = 343.0 // m/s, in dry air of 20 °C
)

const (
	// restAfter is for how long the sonars go on when the car is no longer driven.
	restAfter = 5 * time.Second
	// maxSilent is after how many pings with no answer a sonar counts as silent. Some makes hold their echo line for
	// 200 ms when nothing came back, and answer no ping meanwhile.
	maxSilent = 4
)

// lookout has the sonars ping in turns, one every 60 ms, since two at a time would hear each other. Pinging costs
// wake-ups, so it rests while nobody drives; then what is ahead is unknown, and the car waits for the first echo before
// it starts.
//
// Every reading counts at once: a median would spare the car a needless stop now and then, but bring each needed one a
// ping or two later.
type lookout struct {
	// Fixed by newLookout.
	sonars []*sonar
	report func(sensor int, value float64)

	driven atomic.Bool
	wake   chan struct{} // has an element when driven has become true
}

// newLookout makes a lookout at rest, and has told so when it returns: nobody may drive on what is not known yet.
func newLookout(sonars []*sonar, report func(sensor int, value float64)) *lookout {
	l := &lookout{sonars: sonars, report: report, wake: make(chan struct{}, 1)}
	l.rest()
	return l
}

// rest forgets what is ahead.
func (l *lookout) rest() {
	for _, s := range l.sonars {
		s.value, s.silent = Unknown, 0
		l.report(s.sensor, Unknown)
	}
}

// watch starts the pinging, or lets it come to rest. It never blocks.
func (l *lookout) watch(driven bool) {
	if !l.driven.Swap(driven) && driven {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// run pings while it is needed, until closing is closed or a line fails.
func (l *lookout) run(closing <-chan struct{}) error {
	for ; ; l.rest() {
		select {
		case <-closing:
			return nil
		case <-l.wake:
		}
		for last := time.Now(); time.Since(last) < restAfter; {
			for _, s := range l.sonars {
				at, err := s.look()
				if err != nil {
					return fmt.Errorf("sensor %q: %w", s.name, err)
				}
				l.report(s.sensor, s.value)
				select {
				case <-closing:
					return nil
				case <-time.After(time.Until(at.Add(pingEvery))):
				}
			}
			if l.needed() {
				last = time.Now()
			}
		}
	}
}

// needed tells whether the car is driven, or has been since it was last asked.
func (l *lookout) needed() bool {
	select {
	case <-l.wake:
		return true
	default:
		return l.driven.Load()
	}
}

// sonar is one distance sensor and what it last read.
type sonar struct {
	pinger
	sensor int // its index among the car's
	name   string
	value  float64
	silent int // pings in a row without an answer
}

// pinger measures one echo.
type pinger interface {
	// ping returns when it sent the sound, and for how long that was under way: listenTime when nothing came back, and 0
	// when the sensor did not answer at all.
	ping() (at time.Time, echo time.Duration, err error)
}

// look pings once, and returns when. The distance is the time there and back, times the speed of sound, by two: 58 µs to a centimetre.
// More than whole centimetres would be lost on the temperature (1 % in 6 °C), and every change is sent to all viewers.
func (s *sonar) look() (at time.Time, err error) {
	at, echo, err := s.ping()
	if err != nil {
		return at, err
	}
	if echo == 0 {
		if s.silent++; s.silent >= maxSilent {
			s.value = Silent
		}
		return at, nil
	}
	s.silent = 0
	s.value = math.Round(echo.Seconds()*speedOfSound/2*100) / 100
	if s.value > maxRange {
		s.value = NoEcho
	}
	return at, nil
}

// hcsr04 is a sensor of that kind on its two lines.
type hcsr04 struct {
	trigger      interface{ SetValue(value int) error }
	triggerWhere string // for errors
	echo         *edgeLine
}

// ping measures by the times that the kernel gave the echo line's edges, so it does not matter how late they are read.
func (h *hcsr04) ping() (at time.Time, echo time.Duration, err error) {
	var clock unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &clock); err != nil {
		return at, 0, os.NewSyscallError("clock_gettime", err)
	}
	begin := time.Duration(clock.Nano())
	if err := h.pulse(); err != nil {
		return at, 0, fmt.Errorf("%s: %w", h.triggerWhere, err)
	}
	at = time.Now()
	if err := h.echo.file.SetReadDeadline(time.Now().Add(listenTime)); err != nil {
		return at, 0, fmt.Errorf("%s: %w", h.echo.where, err)
	}
	var rose time.Duration
	for {
		edges, err := h.echo.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return at, 0, err
		}
		for _, e := range edges {
			switch {
			case e.at < begin: // the end of an earlier one
			case e.active:
				rose = e.at
			case rose > 0:
				return at, e.at - rose, nil
			}
		}
	}
	if rose > 0 {
		return at, listenTime, nil
	}
	return at, 0, nil
}

func (h *hcsr04) pulse() error {
	if err := h.trigger.SetValue(1); err != nil {
		return err
	}
	for high := time.Now(); time.Since(high) < triggerTime; { // no timer is that fine
	}
	return h.trigger.SetValue(0)
}
