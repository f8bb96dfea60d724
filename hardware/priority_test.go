package hardware

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// policies is a line that tells by which scheduling policy the thread runs that sets it.
type policies chan struct {
	level  int
	policy uint32
}

func (p policies) SetValues(levels []int) error {
	is, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return err
	}
	p <- struct {
		level  int
		policy uint32
	}{levels[0], is.Policy}
	return nil
}

// The thread has real-time priority, where that is allowed, when it ends a pulse, and never when it begins one.
func TestPulserPriority(t *testing.T) {
	allowed := make(chan bool)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this
		newPriority().set(true)
		is, _ := unix.SchedGetAttr(0, 0)
		allowed <- is.Policy == unix.SCHED_FIFO
	}()
	want := uint32(unix.SCHED_NORMAL)
	if <-allowed {
		want = unix.SCHED_FIFO
	}
	seen := make(policies, 1000)
	p := newTestPulser(t, seen, testServoPulse)
	defer p.Close()
	if err := p.Set([]float64{.075}); err != nil {
		t.Fatal(err)
	}
	<-seen // the first was set by this test
	for falls := 0; ; {
		s := <-seen
		switch {
		case s.level == 1 && s.policy != unix.SCHED_NORMAL:
			t.Fatalf("the thread begins a pulse with policy %d", s.policy)
		case s.level == 0 && s.policy == want && falls > 1:
			return
		case s.level == 0: // a pulse whose end the thread has slept through ends otherwise
			if falls++; falls > 100 {
				t.Fatalf("the thread ends pulses with policy %d, want %d", s.policy, want)
			}
		}
	}
}
