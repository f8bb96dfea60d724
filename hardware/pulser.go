package hardware

import (
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// spinTime is the last stretch before the end of a servo's pulse, for which the pulser watches the clock instead of
// sleeping: the kernel wakes it up to this much late.
const spinTime = 100 * time.Microsecond

// stagger keeps the pulses of several servos apart, and with them their peaks of current and the moments at which two
// edges would be due at once.
const stagger = 3 * time.Millisecond

// setter sets lines that were requested together, as *gpiocdev.Lines does.
type setter interface {
	SetValues(values []int) error
}

// pulser sets lines, in one step, and makes pulses on those that have a period: by software, on an OS thread of its own,
// which starts with the first pulse and sleeps while there are none.
type pulser struct {
	// Fixed by newPulser.
	lines  setter
	wake   int // eventfd, on which the thread waits
	failed chan error

	mu       sync.Mutex
	channels []channel
	levels   []int // as the lines were last set; nil before the first time
	next     []int // scratch
	running  bool  // the thread does
	closing  bool
	done     sync.WaitGroup
}

// channel is one line and its pulses.
type channel struct {
	period time.Duration
	whole  bool          // see Output
	offset time.Duration // of its first pulse

	on    bool          // what is wanted: on all the time,
	high  time.Duration // or for so long in each period, or, when neither, off
	level int
	start time.Time // of the period at hand
	edge  time.Time // when level changes next; zero for never
}

func newPulser(lines setter, outputs []Output) (*pulser, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	p := &pulser{
		lines: lines, wake: fd, failed: make(chan error, 1),
		channels: make([]channel, len(outputs)), next: make([]int, len(outputs)),
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
	for i := range p.channels {
		p.channels[i].want(values[i])
	}
	edge, err := p.turn(time.Now())
	if err != nil || edge.IsZero() {
		return err
	}
	if !p.running {
		p.running = true
		p.done.Go(p.run)
	}
	p.kick()
	return nil
}

// Close ends the thread, after the pulses that must be whole.
func (p *pulser) Close() {
	p.mu.Lock()
	p.closing = true
	p.kick()
	p.mu.Unlock()
	p.done.Wait()
	unix.Close(p.wake)
}

func (p *pulser) kick() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(p.wake, one[:])
}

// turn sets the lines to what they are to be now, and returns when the next of them changes. The caller holds mu.
func (p *pulser) turn(now time.Time) (next time.Time, err error) {
	for i := range p.channels {
		c := &p.channels[i]
		c.turn(now)
		p.next[i] = c.level
		next = earliest(next, c.edge)
	}
	if slices.Equal(p.next, p.levels) {
		return next, nil
	}
	if err := p.lines.SetValues(p.next); err != nil {
		return next, err
	}
	p.levels = append(p.levels[:0], p.next...)
	return next, nil
}

// exact tells whether at is when a pulse ends whose width matters. The caller holds mu.
func (p *pulser) exact(at time.Time) bool {
	return slices.ContainsFunc(p.channels, func(c channel) bool { return c.whole && c.level == 1 && c.edge.Equal(at) })
}

// run is the thread: it waits in the kernel for the next edge, and only before one that must be exact it wakes early and
// watches the clock.
func (p *pulser) run() {
	runtime.LockOSThread() // and never unlocked: the thread, whose timer slack differs, ends with this
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	poll := []unix.PollFd{{Fd: int32(p.wake), Events: unix.POLLIN}}
	var count [8]byte
	for {
		p.mu.Lock()
		next, err := p.turn(time.Now())
		end := p.closing && next.IsZero()
		exact := p.exact(next)
		p.mu.Unlock()
		if err != nil {
			p.failed <- err
			return
		}
		if end {
			return
		}
		var timeout *unix.Timespec
		if !next.IsZero() {
			if exact {
				next = next.Add(-spinTime)
			}
			left := unix.NsecToTimespec(max(int64(time.Until(next)), 0))
			timeout = &left
		}
		if timeout == nil || timeout.Nano() > 0 {
			poll[0].Revents = 0
			unix.Ppoll(poll, timeout, nil)
			if poll[0].Revents != 0 {
				unix.Read(p.wake, count[:])
				continue
			}
		}
		if exact {
			for end := next.Add(spinTime); time.Now().Before(end); {
			}
		}
	}
}

// want sets what the channel is to do: value is the share of its period for which it is on.
func (c *channel) want(value float64) {
	c.on = value >= 1 || value > 0 && c.period == 0
	c.high = 0
	if !c.on && value > 0 {
		c.high = time.Duration(value * float64(c.period))
	}
}

// turn brings the channel to now.
func (c *channel) turn(now time.Time) {
	switch {
	case now.Before(c.edge) && (c.whole && c.level == 1 || c.high > 0): // a pulse, or the pause behind it
	case c.high == 0:
		c.level, c.edge = 0, time.Time{}
		if c.on {
			c.level = 1
		}
	case c.edge.IsZero(): // the first pulse
		c.start = now.Add(c.offset)
		c.rise(now)
	case c.level == 1:
		c.start = c.start.Add(c.period)
		c.rise(now)
	default:
		c.rise(now)
	}
}

// rise begins a pulse if its time has come. How late that is matters little, how long it is does: it counts from now.
func (c *channel) rise(now time.Time) {
	if now.Before(c.start) {
		c.level, c.edge = 0, c.start
		return
	}
	if now.Sub(c.start) >= c.period {
		c.start = now // a whole one was missed
	}
	c.level, c.edge = 1, now.Add(c.high)
}
