package hardware

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// recorder is a set of lines that notes when it was set to what.
type recorder struct {
	mu    sync.Mutex
	steps []step
}

type step struct {
	at     time.Time
	levels []int
	thread int
}

func (r *recorder) SetValues(levels []int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, step{time.Now(), slices.Clone(levels), unix.Gettid()})
	return nil
}

// pulses returns the widths of the lines' pulses.
func (r *recorder) pulses(lines ...int) (widths []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range lines {
		var rose time.Time
		for _, s := range r.steps {
			if s.levels[line] == 1 && rose.IsZero() {
				rose = s.at
			} else if s.levels[line] == 0 && !rose.IsZero() {
				widths = append(widths, s.at.Sub(rose))
				rose = time.Time{}
			}
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
			p := newTestPulser(b, r, Output{Period: servoPeriod, Whole: true}, Output{Period: servoPeriod, Whole: true},
				Output{Period: 10 * time.Millisecond}, Output{Period: 10 * time.Millisecond})
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
			late := r.pulses(0, 1)
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
