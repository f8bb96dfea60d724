package hardware

import (
	"bufio"
	"errors"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/warthog618/go-gpiosim"
	"golang.org/x/sys/unix"
)

// fakePing answers after a while.
type fakePing struct {
	echo  time.Duration
	late  time.Duration // the pulse after the turn
	took  time.Duration
	err   error
	pings []time.Duration // since the test began
	begin time.Time
}

func (f *fakePing) ping() (time.Time, time.Duration, error) {
	time.Sleep(f.late)
	at := time.Now()
	f.pings = append(f.pings, at.Sub(f.begin))
	time.Sleep(f.took)
	return at, f.echo, f.err
}

// Two sonars take turns, one ping every 60 ms, as long as the car is driven and for a while more; then they rest.
func TestLookoutTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near := &fakePing{echo: 1166 * time.Microsecond, took: 10 * time.Millisecond, begin: time.Now()}
		far := &fakePing{echo: listenTime, took: listenTime, begin: time.Now()}
		var mu sync.Mutex
		var read [2]float64
		report := func(i int, value float64) { mu.Lock(); defer mu.Unlock(); read[i] = value }
		readings := func() [2]float64 { mu.Lock(); defer mu.Unlock(); return read }
		l := newLookout([]*sonar{{pinger: near, sensor: 0}, {pinger: far, sensor: 1}}, report)
		if readings() != [2]float64{Unknown, Unknown} {
			t.Errorf("before the first turn the readings are %v", readings())
		}
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }
		closing, ended := make(chan struct{}), make(chan error)
		go func() { ended <- l.run(closing) }()

		pass(time.Hour)
		if len(near.pings)+len(far.pings) > 0 || readings() != [2]float64{Unknown, Unknown} {
			t.Errorf("at rest: pings at %v and %v, readings %v", near.pings, far.pings, readings())
		}
		l.watch(true)
		l.watch(true)
		pass(110 * time.Millisecond)
		if readings() != [2]float64{0.2, NoEcho} {
			t.Errorf("after a ping each the readings are %v", readings())
		}
		pass(10 * time.Second)
		l.watch(false)
		pass(time.Second)
		l.watch(true) // for a moment that no turn sees
		l.watch(false)
		driven := time.Since(near.begin)
		pass(restAfter - time.Second)
		if readings()[0] != 0.2 {
			t.Errorf("a moment after the drive the reading is %v", readings()[0])
		}
		pass(time.Hour)
		if readings() != [2]float64{Unknown, Unknown} {
			t.Errorf("at rest again the readings are %v", readings())
		}
		all := slices.Sorted(slices.Values(slices.Concat(near.pings, far.pings)))
		for i := 1; i < len(all); i++ {
			if d := all[i] - all[i-1]; d != pingEvery {
				t.Fatalf("ping %d comes %s after the one before", i, d)
			}
		}
		if all[0] != time.Hour || all[len(all)-1] < driven+restAfter-pingEvery || all[len(all)-1] > driven+restAfter+3*pingEvery {
			t.Errorf("pings from %s to %s, driven until %s", all[0], all[len(all)-1], driven)
		}
		if len(near.pings) != len(far.pings) {
			t.Errorf("%d and %d pings", len(near.pings), len(far.pings))
		}

		// The same at rest: another while, once.
		count := len(near.pings)
		l.watch(true)
		l.watch(false)
		pass(time.Hour)
		if n := len(near.pings) - count; n < 41 || n > 43 {
			t.Errorf("%d pings after a moment's drive, want those of 5 s", n)
		}
		near.err = errors.New("no such device")
		l.sonars[0].name = "front"
		l.watch(true)
		if err := <-ended; err == nil || err.Error() != `sensor "front": no such device` {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestSonarReadings(t *testing.T) {
	const cm = 58309 * time.Nanosecond // there and back, at 343 m/s
	ping := &fakePing{}
	s := &sonar{pinger: ping, value: Unknown}
	for i, tt := range []struct {
		echo time.Duration
		want float64
	}{
		{0, Unknown},
		{100 * cm, 1},
		{100*cm + cm/3, 1},
		{100*cm + 2*cm/3, 1.01},
		{400 * cm, 4},
		{401 * cm, NoEcho},
		{0, NoEcho}, {0, NoEcho}, {0, NoEcho}, // a sonar that still holds its echo line
		{2 * cm, 0.02},
		{0, 0.02}, {0, 0.02}, {0, 0.02}, {0, Silent}, {0, Silent},
		{2 * cm, 0.02},
	} {
		ping.echo = tt.echo
		if _, err := s.look(); err != nil || s.value != tt.want {
			t.Errorf("ping %d, echo %s: %v, %v, want %v", i, tt.echo, s.value, err, tt.want)
		}
	}
}

// fakeTrigger is a trigger line, behind which the kernel notes edges of the echo line.
type fakeTrigger struct {
	rose, high time.Duration
	echo       func(begin time.Duration)
}

func (f *fakeTrigger) SetValue(value int) error {
	var clock unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &clock)
	now := time.Duration(clock.Nano())
	if value == 1 {
		f.rose = now
		return nil
	}
	f.high = now - f.rose
	f.echo(f.rose)
	return nil
}

func TestEchoIsMeasuredByTheKernelsClock(t *testing.T) {
	const ms = time.Millisecond
	for _, tt := range []struct {
		name   string
		events []edge // at is since the trigger
		want   time.Duration
	}{
		{"an echo", []edge{{at: ms, active: true}, {at: 7*ms + 1}}, 6*ms + 1},
		{"after the end of an earlier one", []edge{{at: -ms}, {at: ms, active: true}, {at: 3 * ms}}, 2 * ms},
		{"after the end of an earlier one, late", []edge{{at: ms / 2}, {at: ms, active: true}, {at: 3 * ms}}, 2 * ms},
		{"after a whole earlier one", []edge{{at: -2 * ms, active: true}, {at: -ms}, {at: ms, active: true}, {at: 3 * ms}}, 2 * ms},
		{"no end", []edge{{at: ms, active: true}}, listenTime},
		{"no beginning", []edge{{at: ms}}, 0},
		{"no answer", nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			line, kernel := fakeLine(t)
			trigger := &fakeTrigger{echo: func(begin time.Duration) {
				for _, e := range tt.events {
					kernel.Write(event(begin+e.at, e.active, 1))
				}
			}}
			_, got, err := (&hcsr04{trigger: trigger, echo: line}).ping()
			if err != nil || got != tt.want {
				t.Errorf("it takes %s, %v, want %s", got, err, tt.want)
			}
			if trigger.high < 10*time.Microsecond {
				t.Errorf("the trigger is high for %s", trigger.high)
			}
		})
	}
}

// A ping that comes late after its turn puts off the next: the time between two of them is for the sound to die away.
func TestLatePing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near := &fakePing{late: 20 * time.Millisecond, took: listenTime, begin: time.Now()}
		far := &fakePing{took: listenTime, begin: time.Now()}
		l := newLookout([]*sonar{{pinger: near}, {pinger: far}}, func(int, float64) {})
		closing, ended := make(chan struct{}), make(chan error)
		go func() { ended <- l.run(closing) }()
		l.watch(true)
		time.Sleep(time.Second)
		close(closing)
		<-ended
		all := slices.Sorted(slices.Values(slices.Concat(near.pings, far.pings)))
		for i := 1; i < len(all); i++ {
			if d := all[i] - all[i-1]; d < pingEvery {
				t.Fatalf("ping %d comes %s after the one before", i, d)
			}
		}
	})
}

// sound plays the HC-SR04s: it hears their trigger lines in the kernel's trace, and moves their echo lines.
type sound struct {
	chip   *gpiosim.Chip
	echo   []int        // line of each sonar, in the order in which their triggers are requested
	answer atomic.Value // func(echo int), what the echo line does after a pulse

	pings []ping // read them after close
	close func()
}

// ping is one of them as the kernel saw it.
type ping struct {
	sonar int
	at    time.Duration   // of the trigger's rise
	edges []time.Duration // of the echo line, until the next ping
}

func listen(t *testing.T, chip *gpiosim.Chip, echo ...int) *sound {
	t.Helper()
	pipe, err := os.Open(startTrace(t, "gpio/gpio_value", "irq/irq_handler_entry") + "/trace_pipe")
	if err != nil {
		t.Fatal(err)
	}
	s := &sound{chip: chip, echo: echo}
	ended := make(chan struct{})
	go func() { defer close(ended); s.run(pipe) }()
	s.close = func() { pipe.Close(); <-ended }
	return s
}

func (s *sound) run(pipe *os.File) {
	var lines []string // of the triggers; each is first set low when it is requested
	var rose time.Duration
	for scan := bufio.NewScanner(pipe); scan.Scan(); {
		e, ok := parseTrace(scan.Text())
		sonar := slices.Index(lines, e.line)
		switch {
		case !ok:
		case e.edge:
			if n := len(s.pings); n > 0 {
				s.pings[n-1].edges = append(s.pings[n-1].edges, e.at)
			}
		case sonar < 0:
			lines = append(lines, e.line)
		case e.level == 1:
			rose = e.at
		default:
			s.pings = append(s.pings, ping{sonar: sonar, at: rose})
			if answer, ok := s.answer.Load().(func(int)); ok {
				answer(s.echo[sonar])
			}
		}
	}
}

// pulse raises an echo line for a while. How long that is to the kernel is in its trace.
func (s *sound) pulse(echo int, d time.Duration) {
	s.chip.SetPull(echo, 1)
	time.Sleep(d)
	s.chip.SetPull(echo, 0)
}

func TestGPIODistance(t *testing.T) {
	chip := &simulate(t, pi("pinctrl-bcm2711", true))[0]
	air := listen(t, chip, 24)
	s, readings := openSensors(t, Sensor{Name: "front", Kind: Distance, Line: "GPIO24", Trigger: "GPIO23", Pull: "down"})
	wantReading(t, "at rest", readings, 0, Unknown)
	s.Watch(true)

	// Echoes from 5 cm to 3 m, as far as this machine keeps the time; what they really are the kernel's trace tells.
	d := 300 * time.Microsecond
	air.answer.Store(func(line int) {
		if d < 18*time.Millisecond {
			air.pulse(line, d)
			d += 300 * time.Microsecond
		}
	})
	var all []float64
	for len(all) == 0 || all[len(all)-1] != Silent {
		all = append(all, (<-readings).value)
	}
	next := func(what string, passing, want float64) { // skips readings until want
		t.Helper()
		for {
			switch r := <-readings; r.value {
			case want:
				return
			case passing:
			default:
				t.Errorf("%s: the reading is %v", what, r.value)
			}
		}
	}
	air.answer.Store(func(line int) { chip.SetPull(line, 1) })
	next("the echo line stays high", Silent, NoEcho)
	next("it still does", NoEcho, Silent)
	air.answer.Store(func(line int) { air.pulse(line, 38*time.Millisecond) })
	next("nothing ahead", Silent, NoEcho)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wantFree(t, chip, 23, 24)
	air.close()

	// The trace is a moment off the time that the kernel gives the edge, and on a busy machine now and then a long one.
	const near = 0.02
	checked, off, nearest, farthest := 0, 0, math.Inf(1), 0.0
	for i, p := range air.pings {
		if i >= len(all) || len(p.edges) != 2 || p.edges[1] > p.at+listenTime*9/10 {
			continue // no answer, or so late that it may have been missed
		}
		want := (p.edges[1] - p.edges[0]).Seconds() * 343 / 2
		if want >= maxRange {
			continue
		}
		if math.Abs(all[i]-want) > near {
			t.Logf("ping %d reads %v m, by the trace it is %.3f", i, all[i], want)
			off++
		}
		checked, nearest, farthest = checked+1, min(nearest, all[i]), max(farthest, all[i])
	}
	t.Logf("%d echoes from %v to %v m, %d of them more than %v m off the trace", checked, nearest, farthest, off, near)
	if checked < 30 || off > checked/10 {
		t.Errorf("%d echoes could be checked, and %d are off", checked, off)
	}
}

// Two sonars never ping at the same time, and neither does while nobody drives.
func TestGPIOSonarsTakeTurns(t *testing.T) {
	chip := &simulate(t, pi("pinctrl-bcm2711", true))[0]
	air := listen(t, chip, 24, 26)
	air.answer.Store(func(line int) { air.pulse(line, time.Duration(line)*100*time.Microsecond) })
	s, readings := openSensors(t,
		Sensor{Name: "left", Kind: Distance, Line: "GPIO24", Trigger: "GPIO23", Pull: "down"},
		Sensor{Name: "right", Kind: Distance, Line: "GPIO26", Trigger: "GPIO25", Pull: "down"})
	wantReading(t, "at rest", readings, 0, Unknown)
	wantReading(t, "at rest", readings, 1, Unknown)
	time.Sleep(3 * pingEvery)
	if len(readings) > 0 {
		t.Errorf("at rest there is a reading: %+v", <-readings)
	}
	s.Watch(true)
	for i := range 40 {
		if r := <-readings; r.sensor != i%2 {
			t.Errorf("reading %d is of sensor %d", i, r.sensor)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	air.close()
	if len(air.pings) < 39 {
		t.Errorf("only %d pulses", len(air.pings))
	}
	for i := 1; i < len(air.pings); i++ {
		a, b := air.pings[i-1], air.pings[i]
		if d := b.at - a.at; a.sonar == b.sonar || d < pingEvery {
			t.Errorf("sonar %d pings %s after sonar %d", b.sonar, d, a.sonar)
		}
	}
}
