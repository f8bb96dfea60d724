package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// How exact the pulses of roverd's lines are, from the edges that the kernel traces: with nobody there but the driver, and
// before a crowd that is told every state. It is a measurement, not judged, but that a servo's pulse is never too short.
// Each round is a second; `make pulses ROUNDS=100` has the distributions.
func TestGPIOPulseWidths(t *testing.T) {
	const servos = `
[pan]
line = "GPIO18"
min_angle = -45
max_angle = 45

[tilt]
line = "GPIO19"
min_angle = -45
max_angle = 45
`
	pulses := []struct {
		name  string
		line  int
		width time.Duration
		whole bool
	}{
		{"servo", 18, 1500 * time.Microsecond, true},
		{"left motor", 25, 6 * time.Millisecond, false},
		{"right motor", 17, 4 * time.Millisecond, false},
	}
	for _, viewers := range []int{0, 1000} {
		t.Run(fmt.Sprint("viewers=", viewers), func(t *testing.T) {
			r := startRover(t, "[drive]\nttl = \"5s\"\n"+servos)
			trace := traceLines(t)
			crowd := newCrowd(t, r.addr, viewers)
			driver, _ := dial(t, r.addr)
			go driver.discard()
			tooLong := make([][]time.Duration, len(pulses))
			var told int64
			for i := range *rounds {
				if i%20 == 19 {
					crowd.stay()
				}
				before := crowd.told.Load()
				trace.begin()
				for i := range 20 { // with each the tilt changes, and so does the state
					driver.send(`{"op":"drive","left":0.6,"right":0.4}`)
					driver.send(fmt.Sprintf(`{"op":"look","pan":0,"tilt":%d}`, 20*(i%2)))
					time.Sleep(50 * time.Millisecond)
				}
				widths := trace.pulses(17)
				told += crowd.told.Load() - before
				for i, p := range pulses {
					for _, width := range widths[p.line] {
						tooLong[i] = append(tooLong[i], width-p.width)
					}
				}
			}
			if viewers > 0 {
				t.Logf("each of %d viewers was told %.1f states a second", viewers, float64(told)/float64(*rounds))
			}
			for i, p := range pulses {
				if len(tooLong[i]) == 0 {
					t.Fatalf("there were no pulses of the %s", p.name)
				}
				least := slices.Min(tooLong[i])
				t.Logf("the %s's pulses of %s are too long by %s at least, %s", p.name, p.width, least, spread(tooLong[i]))
				if p.whole && least < -5*time.Microsecond { // which a servo does not feel (SG90 datasheet: dead band)
					t.Errorf("the %s had one that was too short", p.name)
				}
			}
		})
	}
}

// crowd is viewers that only read.
type crowd struct {
	viewers []*client
	told    atomic.Int64 // frames, to one of them
}

func newCrowd(t *testing.T, addr string, viewers int) *crowd {
	t.Helper()
	var c crowd
	for range viewers {
		v, _ := dial(t, addr)
		c.viewers = append(c.viewers, v)
	}
	for i, v := range c.viewers {
		if i > 0 {
			go v.discard()
			continue
		}
		go func() {
			for _, err := v.frame(); err == nil; _, err = v.frame() {
				c.told.Add(1)
			}
		}()
	}
	return &c
}

// discard reads on and looks at nothing, until the connection ends.
func (c *client) discard() {
	c.conn.SetReadDeadline(time.Time{}) // which frame has set
	io.Copy(io.Discard, c.conn)
}

// stay has nobody sent away for being silent.
func (c *crowd) stay() {
	for _, v := range c.viewers {
		v.sendFrame(ws.NewPongFrame(nil))
	}
}

// pulses returns the widths of the pulses that are whole in the trace, by the lines' offsets. lowest is that of the lowest
// line that was set.
func (l *lineTrace) pulses(lowest int) map[int][]time.Duration {
	l.t.Helper()
	events := l.events()
	base := math.MaxInt
	for _, e := range events {
		base = min(base, e.line-lowest)
	}
	low, rose, widths := map[int]bool{}, map[int]time.Duration{}, map[int][]time.Duration{}
	for _, e := range events {
		line := e.line - base
		if up, high := rose[line]; high && e.level == 0 {
			widths[line] = append(widths[line], e.at-up)
			delete(rose, line)
		}
		if low[line] && e.level == 1 {
			rose[line] = e.at
		}
		low[line] = e.level == 0
	}
	return widths
}
