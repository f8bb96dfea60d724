package hardware

import (
	"math"
	"time"
)

// Driver is the kind of a motor driver: what its inputs mean.
type Driver string

const (
	// L298N: IN1 and IN2 choose the direction, EN carries the PWM; EN low coasts, EN high with IN1 = IN2 brakes. With the
	// jumper on EN (no line for it) the PWM is on IN1 and IN2, and the motor can only brake (L298N datasheet, page 6).
	L298N Driver = "l298n"
	// TB6612FNG: IN1 and IN2 choose the direction, PWM carries it, STBY low is off; both high is a short brake, both low a
	// stop that coasts (TB6612FNG datasheet, "H-SW control function").
	TB6612FNG Driver = "tb6612fng"
	// TwoPin is a bridge with two inputs and no other, as the DRV8833 or the L9110S: one of them carries the PWM, both low
	// coasts, both high brakes.
	TwoPin Driver = "twopin"
	// Relay is one output that switches the motor on, ahead; there is no way back and no speed.
	Relay Driver = "relay"
)

// Motors are the two motors of the car, or of its two sides.
type Motors struct {
	Driver      Driver
	Left, Right Motor
	Standby     string        // STBY of a TB6612FNG for both motors; empty when it is wired to high
	ActiveLow   bool          // all lines of the motors are on when they are low
	Brake       bool          // the motors are braked when they stand, instead of coasting
	Frequency   float64       // of the PWM in Hz; zero switches the motors only on and off
	DeadTime    time.Duration // how long a motor is off before it reverses
	Slew        float64       // full speeds per second that a motor's speed may change by; zero is no limit. A stop has none
}

// Motor is one motor and its lines. What a name may be is told at [OpenLines].
type Motor struct {
	Forward  string // IN1: on drives ahead
	Backward string // IN2: on drives back; empty for a relay
	Enable   string // EN of an L298N, PWM of a TB6612FNG; empty when it is wired to high
	Invert   bool   // the motor is mounted or wired the other way round: Forward drives back

	Trim float64 // what its speed is multiplied by, to make the car run straight; 1 when zero
	Min  float64 // duty below which the motor only hums: the slowest speed has this
	Max  float64 // duty at full speed, for motors of less volts than the battery; 1 when zero
}

// direction of a motor: back, off or ahead.
type direction int8

func directionOf(speed float64) direction {
	switch {
	case speed > 0:
		return 1
	case speed < 0:
		return -1
	}
	return 0
}

// slewStep is how often the speed of a motor changes on its way to another.
const slewStep = 10 * time.Millisecond

// motor is what drives one motor: where it stands, and which values its outputs have for that.
type motor struct {
	cfg                       Motor
	driver                    Driver
	brake                     bool
	slew                      float64
	dead                      time.Duration
	switched                  bool // on and off only
	forward, backward, enable int  // index among the car's outputs; -1 where there is none

	now     direction // what the outputs say
	speed   float64   // at which it runs, 0 to 1
	last    direction // what the outputs last said other than off
	since   time.Time // when they were switched off
	changed time.Time // when speed last changed by slewing
}

// able returns what of a speed the motor can do: a relay has no way back.
func (m *motor) able(speed float64) float64 {
	if m.backward < 0 {
		return max(speed, 0)
	}
	return speed
}

// next returns the direction and the speed that the motor may take now on its way to want, and when it must wait for
// more, until when. A motor that ran the other way is first switched off for the dead time: that spares bridge and
// gears, and no order in which the kernel moves the two inputs can meet a state that drives both ways.
func (m *motor) next(want float64, now time.Time) (direction, float64, time.Time) {
	to, speed := directionOf(want), math.Abs(want)
	if m.switched {
		speed = 1
	}
	switch {
	case to == 0:
		return 0, 0, time.Time{}
	case m.now == -to:
		return 0, 0, now.Add(m.dead)
	case m.now == 0 && m.last == -to:
		if free := m.since.Add(m.dead); now.Before(free) {
			return 0, 0, free
		}
	}
	if m.slew == 0 || m.switched || m.now != 0 && m.speed == speed {
		return to, speed, time.Time{}
	}
	from, last := m.speed, m.changed
	if m.now == 0 {
		from, last = 0, now.Add(-slewStep)
	}
	most := m.slew * min(now.Sub(last), slewStep).Seconds()
	if d := speed - from; math.Abs(d) <= most {
		return to, speed, time.Time{}
	} else if now.Sub(last) < slewStep {
		return to, from, last.Add(slewStep) // woken for something else
	} else {
		return to, from + math.Copysign(most, d), now.Add(slewStep)
	}
}

// set notes what the outputs now say.
func (m *motor) set(d direction, speed float64, now time.Time) {
	if d == 0 && m.now != 0 {
		m.since = now
	}
	if speed != m.speed || d != m.now {
		m.changed = now
	}
	if m.now, m.speed = d, speed; d != 0 {
		m.last = d
	}
}

// duty returns the share of time for which the motor is to be powered at a speed above 0.
func (m *motor) duty(speed float64) float64 {
	trim, most := m.cfg.Trim, m.cfg.Max
	if trim == 0 {
		trim = 1
	}
	if most == 0 {
		most = 1
	}
	return m.cfg.Min + (most-m.cfg.Min)*min(speed*trim, 1)
}

// write puts the motor's share of the outputs' values for a direction and a speed.
func (m *motor) write(values []float64, d direction, speed float64) {
	put := func(i int, v float64) {
		if i >= 0 {
			values[i] = v
		}
	}
	put(m.forward, 0)
	put(m.backward, 0)
	put(m.enable, 0)
	if d == 0 {
		if m.brake {
			put(m.enable, 1)
			if m.driver != L298N {
				put(m.forward, 1)
				put(m.backward, 1)
			}
		}
		return
	}
	active := m.forward
	if d < 0 {
		active = m.backward
	}
	if duty := m.duty(speed); m.enable >= 0 {
		put(active, 1)
		put(m.enable, duty)
	} else {
		put(active, duty)
	}
}
