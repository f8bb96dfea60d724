// Package hardware is the car: one actor that owns every output line, takes commands from any number of goroutines,
// and stops the motors by itself when they cease. It knows nothing of networks or of who is connected.
package hardware

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Config describes a car.
type Config struct {
	Wiring   Wiring
	TTL      time.Duration // how long the motors run on one drive command; DefaultTTL when zero
	DeadTime time.Duration // how long a motor is off before it reverses; DefaultDeadTime when zero
	Servos   bool          // the camera can be turned
}

const (
	DefaultTTL = 500 * time.Millisecond
	MaxTTL     = 5 * time.Second
	// DefaultDeadTime is what the maker of an L298N board asks for (wiki.dfrobot.com/dri0041).
	DefaultDeadTime = 100 * time.Millisecond

	panLimit, tiltLimit = 90.0, 90.0 // degrees to either side
)

// Causes of a stop that nobody asked for.
const (
	CauseTTL        = "ttl"        // no drive command was young enough
	CauseDisconnect = "disconnect" // the driver's connection ended
	CauseFault      = "fault"      // the lines failed
)

// State is what the car does now.
type State struct {
	Seq         uint64  // counts the changes
	Left, Right float64 // what the motors do, -1 to 1; not what was asked of them
	Pan, Tilt   float64 // degrees
	Cause       string  // why the motors last stopped without anybody's wish; empty once they are driven again
	Levels      uint64  // of the lines, in the order of Car.Roles, the first in bit 0
}

// Car is the actor. Do may be called from any goroutine; all else belongs to the one that runs Run.
type Car struct {
	// Fixed by New.
	cfg      Config
	roles    []string
	onChange func(State)
	mail     *mailbox

	// Owned by Run.
	lines       Lines
	left, right bridge
	wantLeft    float64 // what the motors are to do until the lease ends
	wantRight   float64
	lease       time.Time
	free        time.Time // when a bridge in its dead time may go on; zero when none waits
	values      []int     // what the lines were last set to
	next        []int     // scratch
	inbox       []Command // taken from mail and not answered yet
	scratch     []Command // backs inbox
	state       State
	counted     State  // as it was when Seq was last raised
	shown       uint64 // Seq that onChange last heard
}

// New makes a car that drives on lines, which were opened for the same wiring. onChange is called on the car's
// goroutine with every new state and must not block. Nothing moves before Run.
func New(cfg Config, lines Lines, onChange func(State)) *Car {
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.DeadTime == 0 {
		cfg.DeadTime = DefaultDeadTime
	}
	all, left, right := cfg.Wiring.wires()
	c := &Car{
		cfg: cfg, onChange: onChange, mail: newMailbox(), lines: lines, left: left, right: right,
		values: make([]int, len(all)), next: make([]int, len(all)),
	}
	for _, w := range all {
		c.roles = append(c.roles, w.role)
	}
	return c
}

// Roles returns the parts that the car's lines play, as in "left.forward".
func (c *Car) Roles() []string { return c.roles }

// TTL returns how long the motors run on one drive command that does not say so itself.
func (c *Car) TTL() time.Duration { return c.cfg.TTL }

// Servos tells whether the camera can be turned.
func (c *Car) Servos() bool { return c.cfg.Servos }

// Do hands a command to the car. It never blocks.
func (c *Car) Do(cmd Command) { c.mail.put(cmd) }

// Run drives the car until ctx ends, or until the lines fail. However it ends, the lines are first set safe and given
// back, and every command that was taken gets its answer.
func (c *Car) Run(ctx context.Context) (err error) {
	defer func() {
		err = errors.Join(err, c.halt())
		c.mail.close()
		c.inbox = c.mail.take(c.inbox)
		for _, cmd := range c.inbox {
			cmd.tell(Result{Err: ErrOff})
		}
	}()
	if err := c.lines.Set(c.values); err != nil { // all low, whatever they were when we got them
		return c.fault(err)
	}
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.mail.ready:
		case <-alarm.C:
		}
		if err := c.turn(); err != nil {
			return err
		}
		alarm.Stop() // the actor makes no wake-ups while nothing moves
		if at := c.wakeAt(); !at.IsZero() {
			alarm.Reset(time.Until(at))
		}
	}
}

// turn does what the waiting commands and the time ask for.
func (c *Car) turn() error {
	c.scratch = c.mail.take(c.scratch[:0])
	for c.inbox = c.scratch; len(c.inbox) > 0; {
		cmd := c.inbox[0]
		now := time.Now()
		err := c.apply(cmd, now)
		fault := c.move(now)
		if fault != nil {
			err = fault
		}
		c.count()
		c.inbox = c.inbox[1:]
		cmd.tell(Result{Applied: err == nil, Err: err, Seq: c.state.Seq, Took: time.Since(cmd.At)})
		if fault != nil {
			return c.fault(fault)
		}
	}
	now := time.Now()
	if c.driven() && !now.Before(c.lease) {
		c.stop(CauseTTL)
	}
	if err := c.move(now); err != nil {
		return c.fault(err)
	}
	c.publish()
	return nil
}

// apply makes cmd the car's aim.
func (c *Car) apply(cmd Command, now time.Time) error {
	switch cmd.Kind {
	case Stop:
		c.stop(cmd.Cause)
	case Drive:
		ttl := cmd.TTL
		if ttl <= 0 || ttl > MaxTTL {
			ttl = c.cfg.TTL
		}
		// What was held up on its way must not be driven late: the one who sent it has seen the car stand since.
		lease := cmd.At.Add(ttl)
		if !now.Before(lease) {
			return ErrStale
		}
		c.wantLeft, c.wantRight, c.lease = cmd.Left, cmd.Right, lease
		c.state.Cause = ""
	default:
		if !c.cfg.Servos {
			return ErrNoCamera
		}
		pan, tilt := cmd.Pan, cmd.Tilt
		switch cmd.Kind {
		case Turn:
			pan, tilt = c.state.Pan+pan, c.state.Tilt+tilt
		case Centre:
			pan, tilt = 0, 0
		}
		c.state.Pan = min(max(pan, -panLimit), panLimit)
		c.state.Tilt = min(max(tilt, -tiltLimit), tiltLimit)
	}
	return nil
}

func (c *Car) driven() bool { return c.wantLeft != 0 || c.wantRight != 0 }

// stop makes standing still the car's aim. A cause is kept only if there was something to stop.
func (c *Car) stop(cause string) {
	if cause == "" || c.driven() {
		c.state.Cause = cause
	}
	c.wantLeft, c.wantRight, c.lease = 0, 0, time.Time{}
}

// move brings the lines one step nearer to the aim: all that change, in one call.
func (c *Car) move(now time.Time) error {
	left, waitLeft := c.left.next(directionOf(c.wantLeft), now, c.cfg.DeadTime)
	right, waitRight := c.right.next(directionOf(c.wantRight), now, c.cfg.DeadTime)
	c.free = earliest(waitLeft, waitRight)
	c.left.levels(left, c.next)
	c.right.levels(right, c.next)
	if slices.Equal(c.next, c.values) {
		return nil
	}
	if err := c.lines.Set(c.next); err != nil {
		return err
	}
	now = time.Now() // the dead time begins when the lines have fallen, however long that took
	copy(c.values, c.next)
	c.left.set(left, now)
	c.right.set(right, now)
	c.state.Left, c.state.Right, c.state.Levels = float64(left), float64(right), 0
	for i, v := range c.values {
		c.state.Levels |= uint64(v) << i
	}
	return nil
}

// fault gives up driving: lines that can't be set can't be trusted.
func (c *Car) fault(err error) error {
	c.state.Cause = CauseFault
	return fmt.Errorf("the car's lines failed: %w", err)
}

// halt sets all lines low, whatever they are believed to be, and gives them back.
func (c *Car) halt() error {
	clear(c.next)
	err := c.lines.Set(c.next)
	if err == nil {
		c.state.Left, c.state.Right, c.state.Levels = 0, 0, 0
	}
	c.publish()
	return errors.Join(err, c.lines.Close())
}

// wakeAt returns when time itself will next ask for something; zero is never.
func (c *Car) wakeAt() time.Time {
	if !c.driven() {
		return c.free
	}
	return earliest(c.lease, c.free)
}

// count gives every new state a number of its own.
func (c *Car) count() {
	if c.state != c.counted {
		c.state.Seq++
		c.counted = c.state
	}
}

func (c *Car) publish() {
	if c.count(); c.state.Seq != c.shown {
		c.shown = c.state.Seq
		c.onChange(c.state)
	}
}

// earliest returns the earlier of two times; the zero time is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
