package hardware

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	bumper = Sensor{Name: "bumper", Kind: Contact, Stop: 1}
	front  = Sensor{Name: "front", Kind: Distance, Stop: 0.2}
)

func TestSensorStopsTheCar(t *testing.T) {
	for _, tt := range []struct {
		name        string
		sensor      Sensor
		free, block float64
		says        string // of a refusal
	}{
		{"bumper", bumper, 0, 1, "drive ahead: bumper"},
		{"distance", front, 0.2, 0.19, "drive ahead: front"},
		{"no echo", front, NoEcho, 0.02, "drive ahead: front"},
		{"silent", front, 0.5, Silent, "front does not answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Config{Sensors: []Sensor{{Name: "other", Kind: tt.sensor.Kind}, tt.sensor}, TTL: 5 * time.Second})
				defer r.end()
				r.Report(0, 0.01) // which stops nothing
				r.Report(1, tt.free)
				if res := r.drive(1, 1); !res.Applied {
					t.Fatalf("free to drive: %+v", res)
				}
				before := time.Now()
				r.Report(1, tt.block)
				r.wantLines("blocked", 0, 0, 0, 0, 0, 0)
				if s := r.state(); s.Cause != CauseSensor || s.Sensors[1] != tt.block || s.Left != 0 || !time.Now().Equal(before) {
					t.Errorf("after %s the state is %+v", time.Since(before), s)
				}
				for _, ahead := range [][2]float64{{1, 1}, {0.5, 0}, {1, -0.5}} {
					if res := r.drive(ahead[0], ahead[1]); !errors.Is(res.Err, ErrBlocked) || !strings.Contains(res.Err.Error(), tt.says) {
						t.Errorf("%v was answered with %+v, want an error that says %q", ahead, res, tt.says)
					}
					r.wantLines("refused", 0, 0, 0, 0, 0, 0)
				}
				r.drive(-1, -1)
				r.Report(1, tt.free)
				r.Report(1, tt.block)
				time.Sleep(DefaultDeadTime)
				r.wantLines("backing away", 0, 1, 1, 0, 1, 1)
				r.drive(-1, 1)
				time.Sleep(DefaultDeadTime)
				r.wantLines("on the spot", 0, 1, 1, 1, 0, 1)
				r.Report(1, tt.free)
				r.drive(1, 1)
				time.Sleep(DefaultDeadTime)
				r.wantLines("free again", 1, 0, 1, 1, 0, 1)
			})
		})
	}
}

// Of a turn on the spot one motor may have to rest first. Meanwhile the other takes the car ahead, but not against a
// sensor.
func TestSensorStopsHalfATurn(t *testing.T) {
	for _, tt := range []struct {
		name    string
		sensor  Sensor
		reading float64
		resting []float64
	}{
		{"free", bumper, 0, []float64{0, 0, 0, 1, 0, 1}},
		{"blocked", bumper, 1, []float64{0, 0, 0, 0, 0, 0}},
		{"not known", front, Unknown, []float64{0, 0, 0, 0, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Config{Sensors: []Sensor{tt.sensor}})
				defer r.end()
				r.drive(1, 1)
				r.drive(-1, 1)
				r.Report(0, tt.reading)
				r.wantLines("while the left motor rests", tt.resting...)
				time.Sleep(DefaultDeadTime)
				r.wantLines("when it has", 0, 1, 1, 1, 0, 1)
			})
		})
	}
}

// A car on relays can't turn on the spot: with one wheel standing and the other going ahead it goes ahead.
func TestSensorStopsRelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		motors := Motors{Driver: Relay, Left: Motor{Forward: "1"}, Right: Motor{Forward: "2"}, DeadTime: DefaultDeadTime}
		r := start(t, Config{Motors: motors, Sensors: []Sensor{bumper}})
		defer r.end()
		r.drive(-1, 1)
		r.wantLines("turning left", 0, 1)
		r.Report(0, 1)
		r.wantLines("touched", 0, 0)
		if res := r.drive(-1, 1); !errors.Is(res.Err, ErrBlocked) {
			t.Errorf("against the bumper: %+v", res)
		}
		r.wantLines("against the bumper", 0, 0)
		if res := r.drive(-1, -1); !res.Applied {
			t.Errorf("back, which it can't: %+v", res)
		}
		r.wantLines("back", 0, 0)
	})
}

// A touch that is over before the car could look stops it all the same.
func TestShortTouchStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{Sensors: []Sensor{bumper}})
		defer r.end()
		r.drive(1, 1)
		r.Report(0, 1)
		r.Report(0, 0)
		r.wantLines("touched", 0, 0, 0, 0, 0, 0)
		if s := r.state(); s.Cause != CauseSensor || s.Sensors[0] != 0 {
			t.Errorf("the state is %+v", s)
		}
		if res := r.drive(1, 1); !res.Applied {
			t.Errorf("afterwards: %+v", res)
		}
	})
}

// Before it starts ahead the car waits for the first reading; other ways need none.
func TestStartWaitsForTheDistance(t *testing.T) {
	for _, tt := range []struct {
		name    string
		reading float64
		want    []float64
		cause   string
	}{
		{"free", 0.5, []float64{1, 0, 1, 1, 0, 1}, ""},
		{"nothing ahead", NoEcho, []float64{1, 0, 1, 1, 0, 1}, ""},
		{"blocked", 0.1, []float64{0, 0, 0, 0, 0, 0}, CauseSensor},
		{"silent", Silent, []float64{0, 0, 0, 0, 0, 0}, CauseSensor},
		{"never", Unknown, []float64{0, 0, 0, 0, 0, 0}, CauseTTL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Config{Sensors: []Sensor{front, {Name: "rear", Kind: Distance}}})
				defer r.end()
				r.Report(0, Unknown)
				r.Report(1, Unknown)
				r.drive(-1, 1)
				r.wantLines("on the spot", 0, 1, 1, 1, 0, 1)
				r.do(Command{Kind: Stop})
				time.Sleep(DefaultDeadTime)
				if res := r.drive(1, 1); !res.Applied {
					t.Errorf("answered with %+v", res)
				}
				time.Sleep(DefaultTTL - time.Millisecond)
				r.wantLines("no reading", 0, 0, 0, 0, 0, 0)
				if tt.reading != Unknown {
					r.Report(0, tt.reading)
					synctest.Wait()
				} else {
					time.Sleep(time.Millisecond)
				}
				r.wantLines("reading", tt.want...)
				if s := r.state(); s.Cause != tt.cause {
					t.Errorf("the cause is %q, want %q", s.Cause, tt.cause)
				}
				if told := slices.ContainsFunc(r.states, func(s State) bool { return s.Left == 1 }); told != (tt.want[leftForward] == 1) {
					t.Errorf("the state told what was asked, not what was: %+v", r.states)
				}
			})
		})
	}
}

// A sensor's line that fails ends the drive, as an output's does.
func TestFailedSensorEndsTheDrive(t *testing.T) {
	line, kernel := fakeLine(t)
	s := &Sensors{failed: make(chan error, 1), closing: make(chan struct{}), lines: []*edgeLine{line}}
	lines := &tape{t: t}
	var last State
	c := New(Config{Motors: testMotors, Sensors: []Sensor{bumper}}, lines, nil, func(s State) { last = s })
	s.report = c.Report
	c.Sense(s)
	s.start(func() error { return s.feel(0, "bumper", line) })
	driven := make(chan Result, 1)
	c.Do(Command{Kind: Drive, Left: 1, Right: 1, TTL: MaxTTL, At: time.Now(), From: sender(func(r Result) {
		driven <- r
		kernel.Close()
	})})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := c.Run(ctx)
	if r := <-driven; !r.Applied {
		t.Errorf("driving: %+v", r)
	}
	const want = `sensor "bumper": line "GPIO5" of pinctrl: EOF`
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(last.Fault, want) || last.Cause != CauseFault {
		t.Errorf("Run returned %v, the last state is %+v", err, last)
	}
	if !lines.closed || slices.Contains(lines.now(), 1) {
		t.Errorf("the lines are %v, given back: %v", lines.now(), lines.closed)
	}
}

type sender func(Result)

func (f sender) Done(_ Command, r Result) { f(r) }

// fakeLine is a line with a pipe for the kernel.
func fakeLine(t *testing.T) (line *edgeLine, kernel *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return &edgeLine{file: r, where: `line "GPIO5" of pinctrl`}, w
}

// event is an edge as the kernel writes it: struct gpio_v2_line_event of linux/gpio.h.
func event(at time.Duration, active bool, seq uint32) []byte {
	p := binary.NativeEndian.AppendUint64(nil, uint64(at))
	id := uint32(2)
	if active {
		id = 1
	}
	for _, field := range []uint32{id, 5, seq, seq, 0, 0, 0, 0, 0, 0} {
		p = binary.NativeEndian.AppendUint32(p, field)
	}
	return p
}

func TestEncoderCountsWhatTheKernelDropped(t *testing.T) {
	line, kernel := fakeLine(t)
	counts := make(chan float64, 10)
	s := &Sensors{failed: make(chan error, 1), closing: make(chan struct{}), lines: []*edgeLine{line}}
	s.report = func(_ int, count float64) { counts <- count }
	s.start(func() error { return s.tally(0, "wheel", line) })
	const most = 1<<32 - 1
	for _, tt := range []struct {
		events []byte
		want   float64
	}{
		{event(1, true, 1), 1},
		{slices.Concat(event(2, true, 2), event(3, true, 3)), 3},
		{slices.Concat(event(4, true, 50), event(5, true, 51)), 51}, // 46 are missing
		{event(6, true, most), most},
		{event(7, true, 1), most + 2}, // the number wraps
	} {
		before := time.Now()
		kernel.Write(tt.events)
		if got := <-counts; got != tt.want {
			t.Errorf("%.0f after %s, want %.0f", got, time.Since(before), tt.want)
		}
	}
	s.Close()
	if len(s.failed) > 0 || len(counts) > 0 {
		t.Errorf("at the end: %d failures, %d counts more", len(s.failed), len(counts))
	}
}
