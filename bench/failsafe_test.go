package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

const (
	moving   = `{"op":"state","seq":1,"motion":{"left":-1,"right":1},"cause":""}`
	expired  = `{"op":"state","seq":2,"motion":{"left":0,"right":0},"cause":"ttl"}`
	standing = `{"op":"state","seq":3,"motion":{"left":0,"right":0},"cause":"disconnect"}`
)

// failsafeCar stops ttl after a command, and delay after the end of a connection that sent one.
func failsafeCar(ttl, delay time.Duration) *fake {
	f := &fake{}
	f.upgraded = func(_ int, conn net.Conn) { ws.WriteFrame(conn, ws.NewTextFrame([]byte(standing))) }
	timer := time.AfterFunc(time.Hour, func() { f.say(expired) })
	f.reply = func(int) string {
		timer.Reset(ttl)
		f.say(moving)
		return ack
	}
	f.left = func(commands int) {
		if commands > 0 && timer.Stop() {
			time.Sleep(delay)
			f.say(standing)
		}
	}
	return f
}

func TestFailsafeMeasuresStops(t *testing.T) {
	r := runBench(t, t.Context(), "failsafe", "-rounds", "2", failsafeCar(300*time.Millisecond, 30*time.Millisecond).serve(t))
	if r.code != 0 {
		t.Fatal("it failed")
	}
	figures{"rounds": 6, "silent_by_ttl": 2, "reset_by_disconnect": 2, "closed_by_disconnect": 2}.check(t, r.run)
	for name, least := range map[string]int64{"silent_to_stop": 300_000, "reset_to_stop": 30_000, "closed_to_stop": 30_000} {
		if l := r.measured(name); l.Count != 2 || l.Min < least || l.Min > least+2_000_000 {
			t.Errorf("%s %+v: want 2 of %d us or a little more", name, l, least)
		}
	}
}

func TestFailsafeReportsACarThatDrivesOn(t *testing.T) {
	if testing.Short() {
		t.Skip("waits as long as bench does")
	}
	f := failsafeCar(time.Hour, 0)
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
