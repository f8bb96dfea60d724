package main

import (
	"testing"
	"time"

	"roverd/netpoll"
)

func TestPulseLateness(t *testing.T) {
	start := time.Now()
	at := func(micros int) time.Time { return start.Add(time.Duration(micros) * time.Microsecond) }
	for name, test := range map[string]struct {
		pulse pulse
		at    int
		want  int // microseconds
	}{
		"still":               {pulse{heard: at(0), late: 400 * time.Microsecond}, 100, 0},
		"before the first":    {pulse{next: at(1000)}, 900, 0},
		"a beat waits, too":   {pulse{next: at(1000), heard: at(10), late: 10 * time.Microsecond}, 31_000, 30_000},
		"read beside a beat":  {pulse{next: at(31_000), heard: at(30_500), late: 29_500 * time.Microsecond}, 30_600, 29_500},
		"read long after one": {pulse{next: at(31_000), heard: at(10), late: 10 * time.Microsecond}, 30_600, 0},
	} {
		if got := test.pulse.lateness(at(test.at)); got != time.Duration(test.want)*time.Microsecond {
			t.Errorf("%s: %s; want %d us", name, got, test.want)
		}
	}
}

func TestPulseBeats(t *testing.T) {
	due := time.Now().Add(-20*beat - beat/2)
	p := pulse{next: due}
	p.Data(nil, nil) // of 21 beats or more
	if p.late < 20*beat || p.heard.Sub(due) != p.late || !p.next.After(p.heard) || p.next.Sub(due)%beat != 0 {
		t.Errorf("of a beat at %v it heard %s late; the next is %s after that", due, p.late, p.next.Sub(due))
	}
	stopped := pulse{}
	if stopped.Data(nil, nil); !stopped.heard.IsZero() {
		t.Error("one that is stopped beats")
	}
}

// A loop that was busy for long hears late of what came meanwhile.
func TestPulseFeelsABusyLoop(t *testing.T) {
	loop, err := netpoll.NewLoop(netpoll.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	p, err := newPulse(loop)
	if err != nil {
		t.Fatal(err)
	}
	const busy = 20 * time.Millisecond
	began := time.Now()
	during, after := make(chan time.Duration, 1), make(chan bool, 1)
	loop.Post(func() {
		p.start()
		for start := time.Now(); time.Since(start) < busy; {
		}
		during <- p.lateness(time.Now())
	})
	if late := <-during; late < busy-beat {
		t.Errorf("a reply that is read then may lie there for %s; want %s or more", late, busy-beat)
	}
	for heard := false; !heard; heard = <-after { // of a beat, in a turn that may come after this one
		loop.Post(func() { after <- !p.heard.IsZero() })
		if time.Since(began) > time.Minute {
			t.Fatal("it hears of no beat")
		}
	}
}
