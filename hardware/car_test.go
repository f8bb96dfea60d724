package hardware

import (
	"context"
	"errors"
	"math"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be the guard, and processes that have one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "guard" {
		os.Exit(RunGuard(os.Args[2:], os.Stderr))
	}
	if os.Getenv("ROVERD_TEST_LEASE") != "" {
		guarded()
	}
	if os.Getenv("ROVERD_TEST_BLOCKED") != "" {
		blocked()
	}
	goleak.VerifyTestMain(m)
}

// testMotors are switched on and off.
var testMotors = Motors{
	Driver:   L298N,
	Left:     Motor{Forward: "IN1", Backward: "IN2", Enable: "ENA"},
	Right:    Motor{Forward: "IN3", Backward: "IN4", Enable: "ENB"},
	DeadTime: DefaultDeadTime,
}

var testServo = Servo{Line: "S", MinPulse: time.Millisecond, MaxPulse: 2 * time.Millisecond, MinAngle: -90, MaxAngle: 90}

// Indexes of testMotors' outputs.
const (
	leftForward = iota
	leftBackward
	leftEnable
	rightForward
	rightBackward
	rightEnable
)

// tape is a set of lines that remembers every step, and fails the test on a step no bridge may see.
type tape struct {
	t  *testing.T
	mu sync.Mutex

	pairs  [][2]int // outputs that must never both be on, but for a brake
	brake  bool
	steps  [][]float64
	fell   [MaxOutputs]time.Time // when each output last went off
	err    error                 // what Set fails with
	slow   time.Duration         // what the next Set takes
	closed bool
}

func newTape(t *testing.T, cfg *Config) *tape {
	l := &tape{t: t, brake: cfg.Motors.Brake}
	_, left, right, _, _, _ := cfg.layout()
	for _, m := range []motor{left, right} {
		if m.backward >= 0 {
			l.pairs = append(l.pairs, [2]int{m.forward, m.backward})
		}
	}
	return l
}

func (l *tape) Set(values []float64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.t.Error("lines set after they were given back")
	}
	if l.err != nil {
		return l.err
	}
	time.Sleep(l.slow)
	l.slow = 0
	before, now := l.last(), time.Now()
	for _, pair := range l.pairs {
		if both := values[pair[0]] > 0 && values[pair[1]] > 0; both && (!l.brake || values[pair[0]] != 1 || values[pair[1]] != 1) {
			l.t.Errorf("%v drives a bridge both ways", values)
		} else if both {
			continue
		}
		for i, line := range pair {
			if before != nil && before[line] > 0 && values[line] == 0 {
				l.fell[line] = now
			}
			rises := values[line] > 0 && (before == nil || before[line] == 0)
			if fell := l.fell[pair[1-i]]; rises && !fell.IsZero() && now.Sub(fell) < DefaultDeadTime {
				l.t.Errorf("%v follows %v: reversed %s after the other way", values, before, now.Sub(fell))
			}
		}
	}
	l.steps = append(l.steps, slices.Clone(values))
	return nil
}

func (l *tape) Failed() <-chan error { return nil }

func (l *tape) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return nil
}

func (l *tape) now() []float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last()
}

func (l *tape) last() []float64 {
	if len(l.steps) == 0 {
		return nil
	}
	return l.steps[len(l.steps)-1]
}

// inbox is a Sender that keeps what it hears.
type inbox struct {
	mu      sync.Mutex
	results []Result
}

func (s *inbox) Done(_ Command, r Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results = append(s.results, r)
}

func (s *inbox) take(t *testing.T) Result {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.results) != 1 {
		t.Fatalf("%d answers, want 1: %+v", len(s.results), s.results)
	}
	r := s.results[0]
	s.results = nil
	return r
}

// rig is a running car in a bubble of fake time.
type rig struct {
	*Car
	t      *testing.T
	lines  *tape
	mu     sync.Mutex
	states []State
	sender inbox
	stop   context.CancelFunc
	err    error
	ended  chan struct{}
}

func start(t *testing.T, cfg Config) *rig {
	if cfg.Motors.Driver == "" {
		cfg.Motors = testMotors
	}
	r := &rig{t: t, lines: newTape(t, &cfg), ended: make(chan struct{})}
	r.Car = New(cfg, r.lines, nil, func(s State) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.states = append(r.states, s)
	})
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() {
		defer close(r.ended)
		r.err = r.Run(ctx)
	}()
	synctest.Wait()
	return r
}

// end stops the car and checks what holds however it was driven: the lines are low and given back.
func (r *rig) end() {
	r.t.Helper()
	r.stop()
	<-r.ended
	if !r.lines.closed || slices.Contains(r.lines.now(), 1) {
		r.t.Errorf("at the end the lines are %v, given back: %v", r.lines.now(), r.lines.closed)
	}
}

// do gives a command, lets the car settle, and returns the answer.
func (r *rig) do(cmd Command) Result {
	r.t.Helper()
	if cmd.At.IsZero() {
		cmd.At = time.Now()
	}
	cmd.From = &r.sender
	r.Do(cmd)
	synctest.Wait()
	return r.sender.take(r.t)
}

func (r *rig) drive(left, right float64) Result {
	r.t.Helper()
	return r.do(Command{Kind: Drive, Left: left, Right: right})
}

func (r *rig) wantLines(what string, want ...float64) {
	r.t.Helper()
	synctest.Wait()
	same := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
	if got := r.lines.now(); !slices.EqualFunc(got, want, same) {
		r.t.Errorf("%s: lines are %v, want %v", what, got, want)
	}
}

func (r *rig) state() State {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.states) == 0 {
		return State{}
	}
	return r.states[len(r.states)-1]
}

func TestDirections(t *testing.T) {
	for _, tt := range []struct {
		name        string
		left, right float64
		want        []float64
	}{
		{"ahead", 1, 1, []float64{1, 0, 1, 1, 0, 1}},
		{"back", -1, -1, []float64{0, 1, 1, 0, 1, 1}},
		{"left", -1, 1, []float64{0, 1, 1, 1, 0, 1}},
		{"right", 1, -1, []float64{1, 0, 1, 0, 1, 1}},
		{"one wheel", 0.3, 0, []float64{1, 0, 1, 0, 0, 0}},
		{"none", 0, 0, []float64{0, 0, 0, 0, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, Config{})
				defer r.end()
				r.wantLines("at the start", 0, 0, 0, 0, 0, 0)
				before := len(r.lines.steps)
				if res := r.drive(tt.left, tt.right); !res.Applied || res.Err != nil || res.Seq != r.state().Seq {
					t.Errorf("the answer is %+v, the state %+v", res, r.state())
				}
				r.wantLines("driven", tt.want...)
				if steps := len(r.lines.steps) - before; steps > 1 {
					t.Errorf("the lines moved in %d steps, want one", steps)
				}
				r.do(Command{Kind: Stop})
				r.wantLines("stopped", 0, 0, 0, 0, 0, 0)
			})
		})
	}
}

func TestLeaseEndsTheMotion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		defer r.end()
		for range 10 { // repeated, as a held button does
			r.drive(1, 1)
			time.Sleep(DefaultTTL - time.Millisecond)
			r.wantLines("within the lease", 1, 0, 1, 1, 0, 1)
		}
		time.Sleep(time.Millisecond)
		r.wantLines("after the lease", 0, 0, 0, 0, 0, 0)
		if s := r.state(); s.Cause != CauseTTL || s.Left != 0 || s.Right != 0 || s.Outputs != [MaxOutputs]float64{} {
			t.Errorf("the state is %+v", s)
		}
		r.drive(1, 1)
		if s := r.state(); s.Cause != "" {
			t.Errorf("driven again, the cause is still %q", s.Cause)
		}
	})
}

// However many commands are taken at once, and however long each takes, the lease ends among them.
func TestLeaseEndsAmongCommands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{Pan: testServo, Tilt: testServo})
		defer r.end()
		begin := time.Now()
		r.drive(1, 1)
		time.Sleep(DefaultTTL - 10*time.Millisecond)
		slow := sender(func(Result) { time.Sleep(time.Millisecond) })
		for range maxLooks {
			r.Do(Command{Kind: Turn, Pan: 1, At: time.Now(), From: slow})
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if fell := r.lines.fell[leftForward].Sub(begin); fell < DefaultTTL || fell > DefaultTTL+time.Millisecond {
			t.Errorf("the lines fell after %s, want %s", fell, DefaultTTL)
		}
	})
}

func TestLeaseCountsFromTheReadOfTheCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{TTL: 100 * time.Millisecond})
		defer r.end()
		read := time.Now()
		time.Sleep(60 * time.Millisecond)
		r.do(Command{Kind: Drive, Left: 1, Right: 1, At: read})
		time.Sleep(39 * time.Millisecond)
		r.wantLines("99 ms after the read", 1, 0, 1, 1, 0, 1)
		time.Sleep(time.Millisecond)
		r.wantLines("100 ms after the read", 0, 0, 0, 0, 0, 0)
		if res := r.do(Command{Kind: Drive, Left: 1, Right: 1, At: read}); res.Applied || !errors.Is(res.Err, ErrStale) {
			t.Errorf("a stale command was answered with %+v", res)
		}
		r.wantLines("after the stale command", 0, 0, 0, 0, 0, 0)
		res := r.do(Command{Kind: Drive, Left: 1, TTL: 300 * time.Millisecond, At: time.Now()})
		time.Sleep(299 * time.Millisecond)
		r.wantLines("within a lease of its own", 1, 0, 1, 0, 0, 0)
		time.Sleep(time.Millisecond)
		r.wantLines("after it", 0, 0, 0, 0, 0, 0)
		if !res.Applied {
			t.Errorf("answered with %+v", res)
		}
	})
}

func TestReversalPausesForTheDeadTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		defer r.end()
		r.drive(1, 1)
		if res := r.drive(-1, 1); !res.Applied {
			t.Errorf("answered with %+v", res)
		}
		r.wantLines("the left motor rests, the right one runs on", 0, 0, 0, 1, 0, 1)
		if s := r.state(); s.Left != 0 || s.Right != 1 {
			t.Errorf("the state tells what was asked, not what is: %+v", s)
		}
		time.Sleep(DefaultDeadTime - time.Millisecond)
		r.wantLines("just before", 0, 0, 0, 1, 0, 1)
		time.Sleep(time.Millisecond)
		r.wantLines("after the dead time", 0, 1, 1, 1, 0, 1)
		r.do(Command{Kind: Stop})
		r.drive(1, 1)
		r.wantLines("a stop in between does not shorten it", 0, 0, 0, 1, 0, 1)
		time.Sleep(DefaultDeadTime)
		r.wantLines("then it turns", 1, 0, 1, 1, 0, 1)
	})
}

// The dead time counts from when the lines have fallen, not from when the call that lowers them began.
func TestDeadTimeOutlastsASlowCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		defer r.end()
		r.drive(1, 1)
		r.lines.mu.Lock()
		r.lines.slow = 40 * time.Millisecond
		r.lines.mu.Unlock()
		r.Do(Command{Kind: Drive, Left: -1, Right: -1, At: time.Now()})
		time.Sleep(DefaultTTL) // tape complains if the dead time is cut short
	})
}

func TestStopDuringTheDeadTimeIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		defer r.end()
		r.drive(1, 1)
		r.drive(-1, -1)
		time.Sleep(DefaultDeadTime / 2)
		r.do(Command{Kind: Stop, Cause: CauseDisconnect})
		if s := r.state(); s.Cause != CauseDisconnect {
			t.Errorf("the cause is %q", s.Cause)
		}
		time.Sleep(time.Hour)
		r.wantLines("an hour later", 0, 0, 0, 0, 0, 0)
	})
}

func TestCauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		defer r.end()
		r.do(Command{Kind: Stop, Cause: CauseDisconnect})
		if s := r.state(); s.Cause != "" {
			t.Errorf("a standing car was stopped by %q", s.Cause)
		}
		r.drive(1, 1)
		r.do(Command{Kind: Stop, Cause: CauseDisconnect})
		if s := r.state(); s.Cause != CauseDisconnect {
			t.Errorf("the cause is %q", s.Cause)
		}
		r.do(Command{Kind: Stop})
		if s := r.state(); s.Cause != CauseDisconnect {
			t.Errorf("a stop of a standing car makes the cause %q", s.Cause)
		}
		r.drive(1, 1)
		r.do(Command{Kind: Stop})
		if s := r.state(); s.Cause != "" {
			t.Errorf("after a wanted stop the cause is %q", s.Cause)
		}
	})
}

func TestEveryChangeHasItsOwnSeq(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		defer r.end()
		first := r.drive(1, 1).Seq
		if again := r.drive(1, 1).Seq; again != first {
			t.Errorf("nothing changed, but seq went from %d to %d", first, again)
		}
		// Both wait when the car wakes: it is changed and changed back in one turn.
		r.Do(Command{Kind: Stop, At: time.Now(), From: &r.sender})
		r.Do(Command{Kind: Drive, Left: 1, Right: 1, At: time.Now(), From: &r.sender})
		synctest.Wait()
		if len(r.sender.results) != 2 || r.sender.results[0].Seq != first+1 || r.sender.results[1].Seq != first+2 {
			t.Errorf("after seq %d the answers are %+v", first, r.sender.results)
		}
		for i := 1; i < len(r.states); i++ {
			if r.states[i].Seq <= r.states[i-1].Seq {
				t.Errorf("seq goes from %d to %d", r.states[i-1].Seq, r.states[i].Seq)
			}
		}
	})
}

func waiting(m *mailbox) []Command {
	all, _, _ := m.take(nil)
	return all
}

// Only the newest of the motions that wait is driven, a stop goes ahead of it, and everyone gets one answer.
func TestMailbox(t *testing.T) {
	m := newMailbox()
	senders := make([]inbox, 6)
	put := func(i int, kind Kind, left float64) { m.put(Command{Kind: kind, Left: left, From: &senders[i]}) }
	put(0, Drive, 0.1)
	put(1, Drive, 0.2) // overtakes 0
	put(2, Stop, 0)    // overtakes 1
	put(3, Drive, 0.3)
	put(4, Turn, 0)
	put(5, Stop, 0) // overtakes 3
	for i, overtaken := range []bool{true, true, false, true, false, false} {
		if got := len(senders[i].results) == 1; got != overtaken {
			t.Errorf("command %d: answered %v, want %v", i, got, overtaken)
		}
		for _, r := range senders[i].results {
			if r != (Result{}) {
				t.Errorf("command %d was answered with %+v", i, r)
			}
		}
	}
	var kinds []Kind
	for _, cmd := range waiting(m) {
		kinds = append(kinds, cmd.Kind)
	}
	if want := []Kind{Stop, Stop, Turn}; !reflect.DeepEqual(kinds, want) {
		t.Errorf("waiting are %v, want %v", kinds, want)
	}
	if rest := waiting(m); len(rest) != 0 {
		t.Errorf("taken twice: %v", rest)
	}
}

func TestMailboxIsBounded(t *testing.T) {
	m := newMailbox()
	var overtaken, busy, stops inbox
	for range 10 * maxStops {
		m.put(Command{Kind: Drive, From: &overtaken})
		m.put(Command{Kind: Turn, From: &busy})
		m.put(Command{Kind: Stop, From: &stops})
	}
	all := waiting(m)
	if len(all) != maxStops+maxLooks || all[0].Kind != Stop {
		t.Errorf("%d commands wait, want %d", len(all), maxStops+maxLooks)
	}
	if len(overtaken.results) != 10*maxStops || len(stops.results) != 9*maxStops || len(busy.results) != 10*maxStops-maxLooks {
		t.Errorf("answered: %d motions, %d stops, %d looks", len(overtaken.results), len(stops.results), len(busy.results))
	}
	if !errors.Is(busy.results[0].Err, ErrBusy) || stops.results[0].Err != nil {
		t.Errorf("answers: %+v, %+v", busy.results[0], stops.results[0])
	}
}

func TestSwitchedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		r.drive(1, 1)
		r.end()
		if r.err != nil {
			t.Error(r.err)
		}
		if s := r.state(); s.Left != 0 || s.Outputs != [MaxOutputs]float64{} {
			t.Errorf("the last state is %+v", s)
		}
		if res := r.do(Command{Kind: Stop}); !errors.Is(res.Err, ErrOff) {
			t.Errorf("answered with %+v", res)
		}
	})
}

func TestFaultEndsTheDrive(t *testing.T) {
	broken := errors.New("input/output error")
	for _, when := range []string{"at the start", "on a command", "at the end of the lease"} {
		t.Run(when, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lines := &tape{t: t}
				breakNow := func() { lines.mu.Lock(); lines.err = broken; lines.mu.Unlock() }
				if when == "at the start" {
					breakNow()
				}
				var last State
				c := New(Config{Motors: testMotors}, lines, nil, func(s State) { last = s })
				ended := make(chan error)
				go func() { ended <- c.Run(t.Context()) }()
				synctest.Wait()
				var sender inbox
				switch when {
				case "on a command":
					breakNow()
					c.Do(Command{Kind: Drive, Left: 1, At: time.Now(), From: &sender})
				case "at the end of the lease":
					c.Do(Command{Kind: Drive, Left: 1, At: time.Now()})
					synctest.Wait()
					breakNow()
				}
				if err := <-ended; !errors.Is(err, broken) {
					t.Errorf("Run returned %v", err)
				}
				if last.Cause != CauseFault || !lines.closed {
					t.Errorf("the last state is %+v, the lines given back: %v", last, lines.closed)
				}
				if when == "on a command" {
					if res := sender.take(t); !errors.Is(res.Err, broken) {
						t.Errorf("the driver was told %+v", res)
					}
				}
			})
		})
	}
}
