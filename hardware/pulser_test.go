package hardware

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// recorder is a set of lines that notes when it was set to what, and by which thread.
type recorder struct {
	call time.Duration // what a call takes, beyond the moment at which the lines change
	seen chan struct{} // has an element for every step; may be nil

	mu    sync.Mutex
	steps []step
	err   error // what the calls fail with
}

type step struct {
	at     time.Time
	levels []int
	thread int
}

func (r *recorder) SetValues(levels []int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	r.steps = append(r.steps, step{time.Now(), slices.Clone(levels), unix.Gettid()})
	if r.seen != nil {
		r.seen <- struct{}{}
	}
	time.Sleep(r.call)
	return nil
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *recorder) last() step {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.steps[len(r.steps)-1]
}

// pulses returns the widths of a line's pulses.
func (r *recorder) pulses(line int) (widths []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var rose time.Time
	for _, s := range r.steps {
		if s.levels[line] == 1 && rose.IsZero() {
			rose = s.at
		} else if s.levels[line] == 0 && !rose.IsZero() {
			widths = append(widths, s.at.Sub(rose))
			rose = time.Time{}
		}
	}
	return widths
}

func newTestPulser(t testing.TB, lines setter, outputs ...Output) *pulser {
	t.Helper()
	p, err := newPulser(lines, outputs)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var (
	testSwitch     = Output{}
	testMotor      = Output{Period: 10 * time.Millisecond}
	testServoPulse = Output{Period: servoPeriod, Whole: true}
)

// Which edges come of which values, by a clock of the test's own: 0.075 of a servo's period are 1.5 ms.
func TestPulses(t *testing.T) {
	const ms = time.Millisecond
	type set struct {
		at     time.Duration
		values []float64
	}
	type outputs []Output
	for _, tt := range []struct {
		name    string
		outputs outputs
		sets    []set
		late    time.Duration // how late the thread is for every edge
		call    time.Duration // what it takes to set the lines
		want    string        // the levels and when they were set, before 50 ms
	}{
		{"a line without pulses is on for any value", outputs{testSwitch}, []set{{0, []float64{.3}}, {5 * ms, []float64{0}}}, 0, 0,
			"0s 1, 5ms 0"},
		{"a motor", outputs{testMotor}, []set{{0, []float64{.4}}, {25 * ms, []float64{0}}}, 0, 0,
			"0s 1, 4ms 0, 10ms 1, 14ms 0, 20ms 1, 24ms 0"},
		{"a motor stops within a pulse", outputs{testMotor}, []set{{0, []float64{.4}}, {11 * ms, []float64{0}}}, 0, 0,
			"0s 1, 4ms 0, 10ms 1, 11ms 0"},
		{"a motor stops and is driven again", outputs{testMotor},
			[]set{{0, []float64{.4}}, {2 * ms, []float64{0}}, {7 * ms, []float64{.4}}, {18 * ms, []float64{0}}}, 0, 0,
			"0s 1, 2ms 0, 7ms 1, 11ms 0, 17ms 1, 18ms 0"},
		{"a motor slows down within a pulse", outputs{testMotor}, []set{{0, []float64{.4}}, {3 * ms, []float64{.2}}, {15 * ms, []float64{0}}}, 0, 0,
			"0s 1, 3ms 0, 10ms 1, 12ms 0"},
		{"a motor speeds up within a pulse, and behind it", outputs{testMotor},
			[]set{{0, []float64{.2}}, {1 * ms, []float64{.4}}, {5 * ms, []float64{.6}}, {9 * ms, []float64{0}}}, 0, 0,
			"0s 1, 4ms 0, 5ms 1, 6ms 0"},
		{"full speed has no pulses", outputs{testMotor}, []set{{0, []float64{.4}}, {7 * ms, []float64{1}}, {45 * ms, []float64{0}}}, 0, 0,
			"0s 1, 4ms 0, 7ms 1, 45ms 0"},
		{"from full speed", outputs{testMotor}, []set{{0, []float64{1}}, {25 * ms, []float64{.4}}, {40 * ms, []float64{0}}}, 0, 0,
			"0s 1, 29ms 0, 35ms 1, 39ms 0"},
		{"less than the clock can tell is off", outputs{testMotor}, []set{{0, []float64{1e-9}}, {5 * ms, []float64{1}}}, 0, 0,
			"0s 0, 5ms 1"},
		{"motors are in step", outputs{testMotor, testMotor}, []set{{0, []float64{.4, 0}}, {11 * ms, []float64{.4, .2}}, {25 * ms, []float64{0, 0}}}, 0, 0,
			"0s 10, 4ms 00, 10ms 10, 11ms 11, 12ms 10, 14ms 00, 20ms 11, 22ms 10, 24ms 00"},
		{"a late motor is in step", outputs{testMotor}, []set{{0, []float64{.4}}, {28 * ms, []float64{0}}}, 2 * ms, 0,
			"0s 1, 6ms 0, 12ms 1, 16ms 0, 22ms 1, 26ms 0"},
		{"a motor that is later than its pause is short stays on", outputs{testMotor}, []set{{0, []float64{.9}}, {35 * ms, []float64{0}}}, 2 * ms, 0,
			"0s 1, 35ms 0"},
		{"a servo", outputs{testServoPulse}, []set{{0, []float64{.075}}}, 0, 0,
			"0s 1, 1.5ms 0, 20ms 1, 21.5ms 0, 40ms 1, 41.5ms 0"},
		{"a servo's pulse is finished", outputs{testServoPulse}, []set{{0, []float64{.075}}, {1 * ms, []float64{0}}}, 0, 0,
			"0s 1, 1.5ms 0"},
		{"a servo's pulse keeps its width", outputs{testServoPulse}, []set{{0, []float64{.075}}, {1 * ms, []float64{.1}}, {30 * ms, []float64{0}}}, 0, 0,
			"0s 1, 1.5ms 0, 20ms 1, 22ms 0"},
		{"a servo is wanted again within its pulse", outputs{testServoPulse},
			[]set{{0, []float64{.075}}, {ms / 2, []float64{0}}, {1 * ms, []float64{.1}}, {30 * ms, []float64{0}}}, 0, 0,
			"0s 1, 1.5ms 0, 21ms 1, 23ms 0"},
		{"a servo is wanted again within its pause", outputs{testServoPulse},
			[]set{{0, []float64{.075}}, {2 * ms, []float64{0}}, {5 * ms, []float64{.1}}, {30 * ms, []float64{0}}}, 0, 0,
			"0s 1, 1.5ms 0, 20ms 1, 22ms 0"},
		{"a servo is wanted again later", outputs{testServoPulse},
			[]set{{0, []float64{.075}}, {2 * ms, []float64{0}}, {33 * ms, []float64{.1}}}, 0, 0,
			"0s 1, 1.5ms 0, 33ms 1, 35ms 0"},
		{"servos come one after the other", outputs{testServoPulse, testServoPulse}, []set{{0, []float64{.075, .1}}, {25 * ms, []float64{0, 0}}}, 0, 0,
			"0s 10, 1.5ms 00, 3ms 01, 5ms 00, 20ms 10, 21.5ms 00, 23ms 01, 25ms 00"},
		{"a servo joins another", outputs{testServoPulse, testServoPulse},
			[]set{{0, []float64{0, .1}}, {5 * ms, []float64{.075, .1}}, {25 * ms, []float64{0, 0}}}, 0, 0,
			"0s 01, 2ms 00, 17ms 10, 18.5ms 00, 20ms 01, 22ms 00"},
		{"a late servo keeps its period", outputs{testServoPulse}, []set{{0, []float64{.075}}}, 1 * ms, 0,
			"0s 1, 2.5ms 0, 21ms 1, 23.5ms 0, 41ms 1, 43.5ms 0"},
		{"a pulse is due while the thread oversleeps", outputs{testServoPulse}, []set{{0, []float64{.075}}}, 19 * ms, 0,
			"0s 1, 20.5ms 0"},
		{"a pulse is whole though the call that begins it takes long", outputs{testServoPulse}, []set{{0, []float64{.075}}}, 0, ms / 2,
			"0s 1, 2ms 0, 20ms 1, 22ms 0, 40ms 1, 42ms 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{call: tt.call}
				p := newTestPulser(t, r, tt.outputs...)
				defer p.Close()
				start := time.Now()
				var wake time.Time
				for end := start.Add(50 * ms); ; {
					at := end
					if len(tt.sets) > 0 {
						at = start.Add(tt.sets[0].at)
					}
					if at = earliest(at, wake); !at.Before(end) {
						break
					}
					time.Sleep(time.Until(at))
					if len(tt.sets) > 0 && !at.Before(start.Add(tt.sets[0].at)) {
						p.want(tt.sets[0].values, time.Now())
						tt.sets = tt.sets[1:]
					}
					next, err := p.turn(time.Now())
					if err != nil {
						t.Fatal(err)
					}
					if wake = next; !next.IsZero() {
						wake = next.Add(tt.late)
					}
				}
				var got []string
				for _, s := range r.steps {
					got = append(got, fmt.Sprint(s.at.Sub(start), " ", strings.Trim(strings.ReplaceAll(fmt.Sprint(s.levels), " ", ""), "[]")))
				}
				if got := strings.Join(got, ", "); got != tt.want {
					t.Errorf("the edges are\n%s, want\n%s", got, tt.want)
				}
			})
		})
	}
}

// The thread, while another keeps changing what it is to do: every servo's pulse has its width at least.
func TestPulserThread(t *testing.T) {
	r := &recorder{seen: make(chan struct{}, 1e6)}
	p := newTestPulser(t, r, testSwitch, testMotor, testMotor, testServoPulse, testServoPulse)
	for range 500 {
		if err := p.Set([]float64{rand.Float64(), rand.Float64(), 1 - rand.Float64(), .025 + .1*rand.Float64(), .05}); err != nil {
			t.Fatal(err)
		}
		<-r.seen // so that this lasts for some pulses
	}
	for len(r.pulses(4)) < 5 {
		<-r.seen
	}
	p.Close()
	for line, least := range map[int]time.Duration{3: servoPeriod / 40, 4: servoPeriod / 20} {
		for i, width := range r.pulses(line) {
			if width < least {
				t.Errorf("pulse %d of line %d has %v, want at least %v", i, line, width, least)
			}
		}
	}
	if got := r.last().levels[1:]; slices.Contains(got, 1) {
		t.Errorf("after Close the levels of the lines with pulses are %v", got)
	}
}

func TestPulserCloseWithinPulses(t *testing.T) {
	r := &recorder{}
	p := newTestPulser(t, r, testSwitch, testMotor, testServoPulse)
	if err := p.Set([]float64{1, .5, .1}); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if got := r.last().levels; !slices.Equal(got, []int{1, 0, 0}) {
		t.Errorf("after Close the levels are %v: it ends pulses and nothing else", got)
	}
	if got := r.pulses(2); len(got) == 0 || slices.Min(got) < 2*time.Millisecond {
		t.Errorf("the servo's pulses are %v, want 2 ms", got)
	}
}

// switchesOf returns how often a thread was switched to.
func switchesOf(t *testing.T, thread int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/status", thread))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(regexp.MustCompile(`ctxt_switches:\t([0-9]+)`).FindAllString(string(status), -1), " ")
}

// The thread sleeps while nothing pulses, whatever is switched on and off, and wakes for the next pulse.
func TestPulserSleeps(t *testing.T) {
	r := &recorder{seen: make(chan struct{}, 1e6)}
	p := newTestPulser(t, r, testSwitch, testMotor, testServoPulse)
	defer p.Close()
	runtime.LockOSThread() // to tell the threads apart
	defer runtime.UnlockOSThread()
	for range 3 {
		if err := p.Set([]float64{0, .5, .075}); err != nil {
			t.Fatal(err)
		}
		for <-r.seen; r.last().thread == unix.Gettid(); <-r.seen {
		}
		thread := r.last().thread
		if err := p.Set([]float64{0, 1, 0}); err != nil {
			t.Fatal(err)
		}
		before := ""
		for now := switchesOf(t, thread); now != before; now = switchesOf(t, thread) { // the edge that it still awaits
			before = now
			time.Sleep(5 * servoPeriod)
		}
		for i := range 20 {
			if err := p.Set([]float64{float64(i % 2), 1, 0}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if now := switchesOf(t, thread); now != before {
			t.Errorf("with no pulse wanted the thread went from %s to %s", before, now)
		}
	}
}

// A call that failed may have moved some of the lines. So they are switched off by another, though by the last that
// succeeded they are off.
func TestPulserSwitchesOffAfterAFailure(t *testing.T) {
	r := &recorder{}
	p := newTestPulser(t, r, testSwitch, testSwitch)
	defer p.Close()
	off := []float64{0, 0}
	if err := p.Set(off); err != nil {
		t.Fatal(err)
	}
	r.fail(unix.EIO)
	if err := p.Set([]float64{1, 0}); !errors.Is(err, unix.EIO) {
		t.Errorf("Set: %v, want EIO", err)
	}
	if err := p.Set(off); !errors.Is(err, unix.EIO) {
		t.Errorf("while it still fails, switching off: %v, want EIO", err)
	}
	r.fail(nil)
	if err := p.Set(off); err != nil || len(r.steps) != 2 {
		t.Errorf("%v, the lines were set %d times, want 2", err, len(r.steps))
	}
}

func TestPulserFails(t *testing.T) {
	r := &recorder{seen: make(chan struct{}, 1e6)}
	p := newTestPulser(t, r, testMotor, testServoPulse)
	defer p.Close()
	r.fail(unix.EIO)
	if err := p.Set([]float64{.5, .075}); !errors.Is(err, unix.EIO) {
		t.Errorf("Set: %v, want EIO", err)
	}
	for range 2 {
		r.fail(nil)
		if err := p.Set([]float64{.5, .075}); err != nil {
			t.Fatal(err)
		}
		<-r.seen
		r.fail(unix.EIO)
		p.done.Wait() // for the thread
	}
	if err := <-p.failed; !errors.Is(err, unix.EIO) {
		t.Errorf("the thread failed with %v, want EIO", err)
	}
	r.fail(nil)
	if err := p.Set([]float64{0, 0}); err != nil {
		t.Fatal(err)
	}
	for slices.Contains(r.last().levels, 1) { // a servo's pulse that had begun is ended after all
		<-r.seen
	}
}

func cpuTime() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The pulses of two servos beside two motors, with so many goroutines that are always busy: how much too long they are.
func BenchmarkServoPulses(b *testing.B) {
	for busy := range runtime.NumCPU() + 1 {
		b.Run(fmt.Sprint("busy=", busy), func(b *testing.B) {
			r := &recorder{steps: make([]step, 0, 20*b.N+100)}
			p := newTestPulser(b, r, testServoPulse, testServoPulse, testMotor, testMotor)
			var stop atomic.Bool
			var others sync.WaitGroup
			for range busy {
				others.Go(func() {
					for !stop.Load() {
					}
				})
			}
			cpu := cpuTime()
			if err := p.Set([]float64{.075, .075, .6, .4}); err != nil {
				b.Fatal(err)
			}
			time.Sleep(time.Duration(b.N) * servoPeriod)
			cpu = cpuTime() - cpu
			stop.Store(true)
			others.Wait()
			p.Close()
			late := slices.Concat(r.pulses(0), r.pulses(1))
			for i := range late {
				late[i] -= 1500 * time.Microsecond
			}
			slices.Sort(late)
			for _, share := range []float64{.5, .9, .99, 1} {
				b.ReportMetric(float64(late[int(share*float64(len(late)-1))].Nanoseconds())/1e3, fmt.Sprintf("us/p%v", share*100))
			}
			b.ReportMetric(100*cpu.Seconds()/b.Elapsed().Seconds(), "%cpu")
			b.ReportMetric(0, "ns/op")
		})
	}
}
