package hardware

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestEmergencyStopLatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{Pan: testServo, Tilt: testServo})
		defer r.end()
		r.drive(1, 1)
		if res := r.do(Command{Kind: EStop}); !res.Applied {
			t.Errorf("answered with %+v", res)
		}
		r.wantLines("stopped", 0, 0, 0, 0, 0, 0, 0, 0)
		if s := r.state(); !s.EStop || s.Cause != CauseEStop {
			t.Errorf("the state is %+v", s)
		}
		if res := r.drive(1, 1); res.Applied || !errors.Is(res.Err, ErrEStop) {
			t.Errorf("driving was answered with %+v", res)
		}
		r.do(Command{Kind: Stop})
		if res := r.drive(-1, -1); !errors.Is(res.Err, ErrEStop) {
			t.Errorf("a stop in between ends it: %+v", res)
		}
		if res := r.do(Command{Kind: Turn, Pan: 5}); !res.Applied {
			t.Errorf("the camera was answered with %+v", res)
		}
		time.Sleep(time.Hour)
		r.do(Command{Kind: Reset})
		if s := r.state(); s.EStop {
			t.Errorf("after the reset: %+v", s)
		}
		if res := r.drive(1, 1); !res.Applied {
			t.Errorf("then driving was answered with %+v", res)
		}
	})
}

// What was asked while the emergency stop held is not driven when it ends, in whatever pace the commands come.
func TestResetDrivesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		defer r.end()
		now := time.Now()
		r.Do(Command{Kind: EStop, At: now})
		r.Do(Command{Kind: Drive, Left: 1, Right: 1, At: now})
		r.Do(Command{Kind: Reset, At: now})
		r.wantLines("after all three at once", 0, 0, 0, 0, 0, 0)
	})
}

// However many stops wait, an emergency stop and its reset get through, and decide in their order.
func TestEmergencyStopIsNeverDropped(t *testing.T) {
	for _, last := range []Kind{EStop, Reset} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, Config{})
			defer r.end()
			r.drive(1, 1)
			var other, ours inbox
			r.lines.mu.Lock() // the car waits in Set
			r.Do(Command{Kind: Stop, From: &other})
			for range 3 * maxStops {
				r.Do(Command{Kind: Stop, From: &other})
			}
			r.Do(Command{Kind: EStop, From: &ours})
			r.Do(Command{Kind: last, From: &ours})
			r.lines.mu.Unlock()
			if s := r.state(); s.EStop != (last == EStop) {
				t.Errorf("the last was %v, the state is %+v", last, s)
			}
			if len(other.results) != 3*maxStops+1 || len(ours.results) != 2 {
				t.Errorf("%d and %d answers", len(other.results), len(ours.results))
			}
		})
	}
}

// watchdog is a Watch that remembers.
type watchdog struct {
	r    *rig
	told []time.Time
	wet  bool // the lines were on when it was told for the first time
	took bool // it has taken the motors over, until it is told that they stand

	failed chan error
	closed []bool
}

func (w *watchdog) Failed() <-chan error { return w.failed }
func (w *watchdog) Close(off bool)       { w.closed = append(w.closed, off) }

func (w *watchdog) Until(t time.Time) bool {
	if len(w.told) == 0 {
		w.wet = w.r.lines.now()[leftForward] > 0
	}
	w.told = append(w.told, t)
	took := w.took
	w.took = took && !t.IsZero()
	return !took
}

// However the car ends, it tells the watch whether there is something left to do, and it does not drive unwatched.
func TestWatchEnds(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name    string
		end     func(l *tape, w *watchdog, stop func())
		wantErr error
		off     bool
	}{
		{"in order", func(_ *tape, _ *watchdog, stop func()) { stop() }, nil, true},
		{"by lines that fail", func(l *tape, _ *watchdog, stop func()) {
			l.mu.Lock()
			l.err = broken
			l.mu.Unlock()
			stop()
		}, broken, false},
		{"by a watch that fails", func(_ *tape, w *watchdog, _ func()) { w.failed <- broken }, broken, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines, w := &tape{t: t}, &watchdog{failed: make(chan error, 1)}
				w.r = &rig{lines: lines}
				car := New(Config{Motors: testMotors}, lines, w, func(State) {})
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				ended := make(chan error)
				go func() { ended <- car.Run(ctx) }()
				car.Do(Command{Kind: Drive, Left: 1, Right: 1, At: time.Now()})
				synctest.Wait()
				tt.end(lines, w, stop)
				if err := <-ended; !errors.Is(err, tt.wantErr) {
					t.Errorf("it ended with %v, want %v", err, tt.wantErr)
				}
				if !slices.Equal(w.closed, []bool{tt.off}) || !lines.closed || slices.Contains(lines.now(), 1) == tt.off {
					t.Errorf("the watch was closed with off %v, the lines are %v, given back: %v", w.closed, lines.now(), lines.closed)
				}
			})
		})
	}
}

// The watch hears of a lease before the lines move on it, and that the car stands when they have fallen.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		defer r.end()
		w := &watchdog{r: r}
		r.do(Command{Kind: Stop})
		r.Car.watch = w // the car rests: its next turn is ordered behind this by the mailbox
		begin := time.Now()
		r.drive(1, 1)
		time.Sleep(DefaultTTL / 2)
		r.drive(1, 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []time.Time{begin.Add(DefaultTTL), begin.Add(DefaultTTL * 3 / 2), {}}
		if len(w.told) != len(want) || !w.told[0].Equal(want[0]) || !w.told[1].Equal(want[1]) || !w.told[2].IsZero() || w.wet {
			t.Errorf("it was told %v, want %v; lines on before: %v", w.told, want, w.wet)
		}
	})
}

// A car that was too late to stop does not drive on behind the back of the watch that stopped it, but begins anew.
func TestWatchTakesOver(t *testing.T) {
	for _, tt := range []struct {
		brake bool
		stand []float64
	}{{false, []float64{0, 0, 0, 0, 0, 0}}, {true, []float64{1, 1, 1, 1, 1, 1}}} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, pwmMotors(func(m *Motors) { m.Driver, m.Brake = TB6612FNG, tt.brake }))
			defer r.end()
			w := &watchdog{r: r}
			r.do(Command{Kind: Stop})
			r.Car.watch = w
			r.drive(1, 1)
			w.took = true // the car waits
			time.Sleep(DefaultTTL / 2)
			if res := r.drive(1, 1); !errors.Is(res.Err, ErrLate) {
				t.Errorf("with the motors taken over: %+v", res)
			}
			r.wantLines("given back", tt.stand...)
			if s := r.state(); s.Cause != CauseTTL || !w.told[len(w.told)-1].IsZero() {
				t.Errorf("the state is %+v, the watch was told %v", s, w.told)
			}
			// What the lines are, and what they were last set to, the watch has made two things.
			if last := r.lines.steps[len(r.lines.steps)-2:]; !slices.Equal(last[0], make([]float64, 6)) {
				t.Errorf("the last steps are %v: not all were switched off before", last)
			}
			if res := r.drive(1, 1); !res.Applied {
				t.Errorf("then: %+v", res)
			}
			r.wantLines("driven again", 1, 0, 1, 1, 0, 1)
		})
	}
}
