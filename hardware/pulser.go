package hardware

import (
	"os"
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// spinTime is the last stretch before the end of a servo's pulse, for which the pulser watches the clock instead of
// sleeping: the kernel wakes it up to this much late.
const spinTime = 100 * time.Microsecond

// stagger keeps the pulses of several servos apart, and with them their peaks of current and the moments at which two
// edges would be due at once.
const stagger = 3 * time.Millisecond

// setter sets lines that were requested together, as request does.
type setter interface {
	SetValues(values []int) error
}

// pulser sets lines, in one step, and makes pulses on those that have a period: by software, on an OS thread of its
// own, which starts with the first pulse and sleeps while there are none.
type pulser struct {
	// Fixed by newPulser.
	lines  setter
	wake   int // eventfd, on which the thread waits
	failed chan error

	mu       sync.Mutex
	channels []channel
	levels   []int // as the lines were last set; -1 where that is not known
	next     []int // scratch
	running  bool  // the thread does
	closing  bool
	done     sync.WaitGroup
}

func newPulser(lines setter, outputs []Output) (*pulser, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	p := &pulser{
		lines: lines, wake: fd, failed: make(chan error, 1), channels: make([]channel, len(outputs)),
		levels: slices.Repeat([]int{-1}, len(outputs)), next: make([]int, len(outputs)),
	}
	offset := time.Duration(0)
	for i, o := range outputs {
		p.channels[i] = channel{period: o.Period, whole: o.Whole}
		if o.Whole {
			p.channels[i].offset = offset
			offset += stagger
		}
	}
	return p, nil
}

// Set gives every line its value: see Lines.
func (p *pulser) Set(values []float64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.want(values, now)
	next, err := p.turn(now)
	if err != nil || next.IsZero() {
		return err
	}
	if !p.running {
		p.running = true
		p.done.Go(p.run)
	}
	p.kick()
	return nil
}

// Close ends the pulses, those that have begun and must be whole in their time, and the thread.
func (p *pulser) Close() {
	p.mu.Lock()
	p.closing = true
	for i := range p.channels {
		p.channels[i].high = 0
	}
	p.kick()
	p.mu.Unlock()
	p.done.Wait()
	unix.Close(p.wake)
}

func (p *pulser) kick() { kick(p.wake) }

// want sets what the channels are to do. Those that begin to pulse do so in step with others of their kind, so that
// motors share their edges and servos keep out of each other's way. The caller holds mu.
func (p *pulser) want(values []float64, now time.Time) {
	for i := range p.channels {
		c := &p.channels[i]
		if !c.want(values[i]) {
			continue
		}
		var other *channel
		for j := range p.channels {
			if o := &p.channels[j]; o != c && o.high > 0 && o.period == c.period && o.whole == c.whole {
				other = o
			}
		}
		c.begin(other, now)
	}
}

// turn sets the lines to what they are to be now, and returns when the next of them changes. The caller holds mu.
func (p *pulser) turn(now time.Time) (next time.Time, err error) {
	for i := range p.channels {
		p.channels[i].turn(now)
		p.next[i] = p.channels[i].level
	}
	if !slices.Equal(p.next, p.levels) {
		if err := p.lines.SetValues(p.next); err != nil {
			for i := range p.levels { // it may have moved some of them
				p.levels[i] = -1
			}
			return next, err
		}
		// A pulse counts from when its line has risen: so it is never shorter than it must be, though the call that raises
		// it, with the caches cold, takes longer than the one that lets it fall.
		now = time.Now()
		for i := range p.channels {
			if c := &p.channels[i]; c.pulsing() && p.levels[i] != 1 {
				c.edge = now.Add(c.high)
			}
		}
		copy(p.levels, p.next)
	}
	for i := range p.channels {
		next = earliest(next, p.channels[i].edge)
	}
	return next, nil
}

// pulseEnd returns when the next pulse ends that must have its width; zero for none. The caller holds mu.
func (p *pulser) pulseEnd() (end time.Time) {
	for i := range p.channels {
		if c := &p.channels[i]; c.pulsing() {
			end = earliest(end, c.edge)
		}
	}
	return end
}

// run is the thread: it waits in the kernel for the next edge, and only before one that must be exact it wakes early
// and watches the clock.
func (p *pulser) run() {
	runtime.LockOSThread() // and never unlocked: the thread, which differs from others, ends with this
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	priority, urgent := newPriority(), false
	for {
		p.mu.Lock()
		next, err := p.turn(time.Now())
		end := p.pulseEnd()
		ended := err != nil || p.closing && next.IsZero()
		if ended {
			p.running = false
		}
		p.mu.Unlock()
		if err != nil {
			select {
			case p.failed <- err:
			default: // one says it all
			}
		}
		if ended {
			return
		}
		if pulse := !end.IsZero(); pulse != urgent {
			urgent = pulse
			priority.set(urgent)
		}
		if next.IsZero() {
			p.wait(nil, false)
			continue
		}
		left := time.Until(next)
		if !end.IsZero() {
			left = min(left, time.Until(end)-spinTime)
		}
		if left > 0 {
			timeout := unix.NsecToTimespec(int64(left))
			p.wait(&timeout, urgent)
			continue
		}
		for time.Now().Before(next) {
		}
	}
}

// wait sleeps for so long, or for ever if timeout is nil, unless a kick or a signal ends it. Within a pulse, for a few
// milliseconds, it keeps the processor (Go's P): RawSyscall does not tell the scheduler of the sleep, which else gives
// the processor to another goroutine, for whose time slice the end of the pulse would wait.
func (p *pulser) wait(timeout *unix.Timespec, pulse bool) {
	poll := [1]unix.PollFd{{Fd: int32(p.wake), Events: unix.POLLIN}}
	if pulse {
		unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
	} else {
		unix.Ppoll(poll[:], timeout, nil)
		runtime.Gosched() // begins a time slice (10 ms), which so does not end within the pulse that may come now
	}
	if poll[0].Revents != 0 {
		var count [8]byte
		unix.Read(p.wake, count[:])
	}
}
