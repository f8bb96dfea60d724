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

// Causes of a stop that nobody asked for.
const (
	CauseTTL        = "ttl"        // no drive command was young enough
	CauseDisconnect = "disconnect" // the driver's connection ended
	CauseEStop      = "estop"      // somebody pressed the emergency stop
	CauseSensor     = "sensor"     // a sensor forbids to drive ahead
	CauseFault      = "fault"      // the lines failed
)

// State is what the car does now.
type State struct {
	Seq         uint64  // counts the changes
	Left, Right float64 // what the motors do, -1 to 1; not what was asked of them
	Pan, Tilt   float64 // degrees
	EStop       bool    // the car does not drive until it is reset
	Cause       string  // why the motors stand, if nobody asked for it; empty while they are driven, or when a stop was asked for
	Fault       string  // what is wrong with the lines; the car is off
	Outputs     [MaxOutputs]float64
	Sensors     [MaxSensors]float64
}

// Watch sees to it that the motors stand when they should even if this process can't.
type Watch interface {
	// Until is told until when the motors may run, before they do; the zero time is that they stand. It returns false when
	// the watch has taken the outputs, and switched them off, since nobody did in time. Told that the motors stand it
	// first gives them back.
	Until(time.Time) bool
	// Failed has an error when nobody watches any more.
	Failed() <-chan error
	// Close ends the watch. If the outputs are not known to be off, that is left to it.
	Close(off bool)
}

// Car is the actor. Do and Report may be called from any goroutine; all else belongs to the one that runs Run.
type Car struct {
	// Fixed by New.
	cfg      Config
	roles    []string
	sensors  []string
	onChange func(State)
	watch    Watch
	mail     *mailbox

	// Owned by Run.
	lines       Lines
	inputs      *Sensors // nil if there are none
	left, right motor
	standby     int // index among the outputs; -1 where there is none
	pan, tilt   servo
	wantLeft    float64 // what the motors are to do until the lease ends
	wantRight   float64
	lease       time.Time
	watched     time.Time // what watch was last told
	wait        time.Time // when something that is under way goes on; zero when nothing is
	values      []float64 // what the lines were last set to
	next        []float64 // scratch
	inbox       []Command // taken from mail and not answered yet
	scratch     []Command // backs inbox
	state       State
	shown       State // what onChange last heard
}

// New makes a car that drives on lines, which were opened for cfg.Outputs. onChange is called on the car's goroutine with
// every new state and must not block. watch may be nil. Nothing moves before Run.
func New(cfg Config, lines Lines, watch Watch, onChange func(State)) *Car {
	if cfg.TTL == 0 {
		cfg.TTL = DefaultTTL
	}
	c := &Car{cfg: cfg, onChange: onChange, watch: watch, mail: newMailbox(), lines: lines}
	var all []Output
	all, c.left, c.right, c.standby, c.pan, c.tilt = cfg.layout()
	c.values, c.next = make([]float64, len(all)), make([]float64, len(all))
	for _, o := range all {
		c.roles = append(c.roles, o.Role)
	}
	for i, s := range cfg.Sensors {
		c.sensors = append(c.sensors, s.Name)
		if s.Kind == Distance {
			c.mail.readings[i] = NoEcho
		}
	}
	c.state.Pan, c.state.Tilt, c.state.Sensors = c.pan.at, c.tilt.at, c.mail.readings
	c.shown = c.state
	return c
}

// Sense has the car drive by sensors, which report to it, and close them when it ends. It is to be called before Run.
func (c *Car) Sense(inputs *Sensors) { c.inputs = inputs }

// Roles returns the parts that the car's outputs play, as in "left.forward".
func (c *Car) Roles() []string { return c.roles }

// Sensors returns the names of the car's sensors.
func (c *Car) Sensors() []string { return c.sensors }

// TTL returns how long the motors run on one drive command that does not say so itself.
func (c *Car) TTL() time.Duration { return c.cfg.TTL }

// State returns what the car is before Run; later onChange tells it.
func (c *Car) State() State { return c.state }

// Config returns what the car is made of.
func (c *Car) Config() *Config { return &c.cfg }

// Do hands a command to the car. It never blocks.
func (c *Car) Do(cmd Command) { c.mail.put(cmd) }

// Report tells the car what one of its sensors reads. It never blocks.
func (c *Car) Report(sensor int, value float64) {
	c.mail.report(sensor, value, c.cfg.Sensors[sensor].blocks(value))
}

// Run drives the car until ctx ends, or until the lines fail. However it ends, the lines are first set safe and given
// back, and every command that was taken gets its answer.
func (c *Car) Run(ctx context.Context) (err error) {
	defer func() {
		err = errors.Join(err, c.halt())
		c.mail.close()
		c.inbox, _, _ = c.mail.take(c.inbox)
		for _, cmd := range c.inbox {
			cmd.tell(Result{Err: ErrOff})
		}
	}()
	if err := c.lines.Set(c.values); err != nil { // all off, whatever they were when we got them
		return c.fault(err)
	}
	var senseless <-chan error // nil, and never ready, without inputs
	if c.inputs != nil {
		senseless = c.inputs.Failed()
	}
	var unwatched <-chan error
	if c.watch != nil {
		unwatched = c.watch.Failed()
	}
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.mail.ready:
		case err := <-c.lines.Failed():
			return c.fault(err)
		case err := <-senseless:
			return c.fault(err)
		case err := <-unwatched:
			return c.fault(err)
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

// turn does what the waiting commands, the sensors and the time ask for.
func (c *Car) turn() error {
	var tripped bool
	c.scratch, c.state.Sensors, tripped = c.mail.take(c.scratch[:0])
	if tripped && c.ahead() {
		c.stop(CauseSensor)
	}
	for c.inbox = c.scratch; len(c.inbox) > 0; {
		cmd := c.inbox[0]
		now := time.Now()
		err := c.apply(cmd, now)
		fault := c.move(now)
		if fault != nil {
			err = fault
		}
		took := time.Since(cmd.At)
		if fault == nil {
			c.publish() // before the answer: who has that may ask for the state at once
		}
		c.inbox = c.inbox[1:]
		cmd.tell(Result{Applied: err == nil, Err: err, Seq: c.state.Seq, Took: took})
		if fault != nil {
			return c.fault(fault)
		}
	}
	if err := c.move(time.Now()); err != nil {
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
	case EStop:
		c.stop(CauseEStop)
		c.state.EStop, c.state.Cause = true, CauseEStop
	case Reset:
		c.state.EStop = false
	case Drive:
		return c.drive(cmd, now)
	case Centre:
		return c.look(c.pan.cfg.Home, c.tilt.cfg.Home, now)
	case Look:
		return c.look(cmd.Pan, cmd.Tilt, now)
	case Turn:
		return c.look(c.pan.want+cmd.Pan, c.tilt.want+cmd.Tilt, now)
	}
	return nil
}

func (c *Car) drive(cmd Command, now time.Time) error {
	ttl := cmd.TTL
	if ttl <= 0 || ttl > MaxTTL {
		ttl = c.cfg.TTL
	}
	// What was held up on its way must not be driven late: the one who sent it has seen the car stand since.
	lease := cmd.At.Add(ttl)
	if !now.Before(lease) {
		return ErrStale
	}
	if c.state.EStop {
		return ErrEStop
	}
	left, right := c.left.able(cmd.Left), c.right.able(cmd.Right)
	if left+right > 0 {
		if err := c.blocked(); err != nil {
			return err
		}
	}
	c.wantLeft, c.wantRight, c.lease = left, right, lease
	if c.driven() && !c.tellWatch(lease) {
		c.stop(CauseTTL)
		return ErrLate
	}
	c.state.Cause = ""
	return nil
}

func (c *Car) look(pan, tilt float64, now time.Time) error {
	if !c.cfg.Servos() {
		return ErrNoCamera
	}
	c.pan.turn(pan, now)
	c.tilt.turn(tilt, now)
	return nil
}

// blocked returns the reason why a sensor forbids to drive ahead, nil for none.
func (c *Car) blocked() error {
	for i := range c.cfg.Sensors {
		s, value := &c.cfg.Sensors[i], c.state.Sensors[i]
		if !s.blocks(value) {
			continue
		}
		if s.Kind == Distance && value == Silent {
			return fmt.Errorf("%w: %s does not answer; check its wires and its 5 V", ErrBlocked, s.Name)
		}
		return fmt.Errorf("%w: %s", ErrBlocked, s.Name)
	}
	return nil
}

// blind tells whether a sensor has yet to say if the car may drive ahead.
func (c *Car) blind() bool {
	for i := range c.cfg.Sensors {
		if c.cfg.Sensors[i].wanted(c.state.Sensors[i]) {
			return true
		}
	}
	return false
}

func (c *Car) driven() bool { return c.wantLeft != 0 || c.wantRight != 0 }
func (c *Car) ahead() bool  { return c.wantLeft+c.wantRight > 0 }

// stop makes standing still the car's aim. The cause counts only if there was something to stop: what stopped it before is
// still why it stands.
func (c *Car) stop(cause string) {
	if c.driven() {
		c.state.Cause = cause
	}
	c.wantLeft, c.wantRight, c.lease = 0, 0, time.Time{}
}

// move brings the outputs one step nearer to the aim: all that change, in one call. An aim whose lease has ended is
// none.
func (c *Car) move(now time.Time) error {
	if c.driven() && !now.Before(c.lease) {
		c.stop(CauseTTL)
	}
	wantLeft, wantRight := c.wantLeft, c.wantRight
	if c.ahead() && c.blind() {
		wantLeft, wantRight = 0, 0 // until the reading comes, which takes one ping
	}
	left, leftSpeed, waitLeft := c.left.next(wantLeft, now)
	right, rightSpeed, waitRight := c.right.next(wantRight, now)
	// On its way to the aim the car may have to go ahead, as on the spot while one motor rests: not against a sensor.
	const rounding = 1e-9
	if float64(left)*leftSpeed+float64(right)*rightSpeed > rounding && (c.blind() || c.blocked() != nil) {
		left, leftSpeed, right, rightSpeed = 0, 0, 0, 0 // so they begin together
	}
	c.wait = earliest(earliest(waitLeft, waitRight), earliest(c.pan.step(now), c.tilt.step(now)))
	c.left.write(c.next, left, leftSpeed)
	c.right.write(c.next, right, rightSpeed)
	if c.standby >= 0 {
		c.next[c.standby] = 0
		if left != 0 || right != 0 || c.cfg.Motors.Brake {
			c.next[c.standby] = 1
		}
	}
	c.pan.write(c.next)
	c.tilt.write(c.next)
	if c.inputs != nil {
		c.inputs.Watch(c.driven())
	}
	if !slices.Equal(c.next, c.values) {
		if err := c.lines.Set(c.next); err != nil {
			return err
		}
		now = time.Now() // the dead time begins when the lines have fallen, however long that took
		copy(c.values, c.next)
		copy(c.state.Outputs[:], c.values)
	}
	c.left.set(left, leftSpeed, now)
	c.right.set(right, rightSpeed, now)
	if !c.driven() && !c.tellWatch(time.Time{}) { // it may have had the last word, also on brakes and servos
		clear(c.values)
		if err := errors.Join(c.lines.Set(c.values), c.lines.Set(c.next)); err != nil {
			return err
		}
		copy(c.values, c.next)
	}
	c.state.Left, c.state.Right = float64(left)*leftSpeed, float64(right)*rightSpeed
	c.state.Pan, c.state.Tilt = c.pan.at, c.tilt.at
	return nil
}

func (c *Car) tellWatch(until time.Time) bool {
	if c.watch == nil || until.Equal(c.watched) {
		return true
	}
	c.watched = until
	return c.watch.Until(until)
}

// fault gives up driving: lines that can't be set can't be trusted.
func (c *Car) fault(err error) error {
	c.state.Cause, c.state.Fault = CauseFault, err.Error()
	return fmt.Errorf("the car's lines failed: %w", err)
}

// halt switches all outputs off, whatever they are believed to be, and gives them back.
func (c *Car) halt() error {
	clear(c.next)
	err := c.lines.Set(c.next)
	if err == nil {
		c.state.Left, c.state.Right, c.state.Outputs = 0, 0, [MaxOutputs]float64{}
		c.tellWatch(time.Time{})
	}
	c.publish()
	if c.watch != nil {
		c.watch.Close(err == nil)
	}
	if err = errors.Join(err, c.lines.Close()); c.inputs != nil {
		err = errors.Join(err, c.inputs.Close())
	}
	return err
}

// wakeAt returns when time itself will next ask for something; zero is never.
func (c *Car) wakeAt() time.Time {
	if !c.driven() {
		return c.wait
	}
	return earliest(c.lease, c.wait)
}

// publish tells every new state, which gets a number of its own.
func (c *Car) publish() {
	if c.state != c.shown {
		c.state.Seq++
		c.shown = c.state
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
