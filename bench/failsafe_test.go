package main

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

const (
	moving   = `{"op":"state","seq":1,"motion":{"left":-1,"right":1},"cause":""}`
	expired  = `{"op":"state","seq":2,"motion":{"left":0,"right":0},"cause":"ttl"}`
	standing = `{"op":"state","seq":3,"motion":{"left":0,"right":0},"cause":"disconnect"}`
)

// failsafeCar is a car that drives on, unless its time to live is over, or its driver's connection: it stops delay after
// the end of one that sent a command.
type failsafeCar struct {
	*fake
	moves atomic.Bool
}

func newFailsafeCar(delay time.Duration) *failsafeCar {
	car := &failsafeCar{fake: &fake{}}
	car.upgraded = func(_ int, conn net.Conn) { ws.WriteFrame(conn, ws.NewTextFrame([]byte(standing))) }
	car.reply = func(int) string {
		car.moves.Store(true)
		car.say(moving)
		return ack
	}
	car.left = func(commands int) {
		if commands > 0 && car.moves.Swap(false) {
			time.Sleep(delay)
			car.say(standing)
		}
	}
	return car
}

func (car *failsafeCar) expire() {
	car.moves.Store(false)
	car.say(expired)
}

func TestFailsafeMeasuresStops(t *testing.T) {
	const ttl, delay = 300 * time.Millisecond, 30 * time.Millisecond
	car := newFailsafeCar(delay)
	// The time to live counts from the silence, not from the last command: the car does not stop as long as it is driven,
	// however late bench gets to it.
	leave := vanishings[0].leave
	vanishings[0].leave = func(c *client) int {
		time.AfterFunc(ttl, car.expire)
		return leave(c)
	}
	t.Cleanup(func() { vanishings[0].leave = leave })
	r := runBench(t, t.Context(), "failsafe", "-rounds", "2", car.serve(t))
	if r.code != 0 {
		t.Fatal("it failed")
	}
	figures{"rounds": 6, "silent_by_ttl": 2, "reset_by_disconnect": 2, "closed_by_disconnect": 2}.check(t, r.run)
	for name, least := range map[string]time.Duration{"silent_to_stop": ttl, "reset_to_stop": delay, "closed_to_stop": delay} {
		if l := r.measured(name); l.Count != 2 || l.Min < least.Microseconds() || float64(l.Max) > 1e6*r.Seconds {
			t.Errorf("%s %+v: want 2 of %s or more, within the %v s of the run", name, l, least, r.Seconds)
		}
	}
}

func TestFailsafeReportsACarThatDrivesOn(t *testing.T) {
	t.Parallel() // it waits as long as bench does
	f := newFailsafeCar(0)
	heard := make(chan string, 100)
	f.heard = func(command string) { heard <- command }
	r := runBench(t, t.Context(), "failsafe", "-rounds", "1", f.serve(t))
	if r.code != 1 || !strings.Contains(r.stderr, "silent: the car did not stop within 5s") {
		t.Errorf("exit code %d, %q; want 1", r.code, r.stderr)
	}
	for {
		select {
		case command := <-heard:
			if command == "stop" {
				return
			}
		case <-time.After(5 * time.Second):
			t.Fatal("nobody said stop")
		}
	}
}
