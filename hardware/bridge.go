package hardware

import "time"

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

// bridge is one H-bridge with its motor. Two inputs choose the direction (L298N datasheet, table "IN1 IN2": H L runs
// one way, L H the other, equal levels stop); an enable input, where it is wired, is high only while the motor runs.
// Without an enable line the L298N brakes on L L, with it the motor coasts.
type bridge struct {
	forward, backward, enable int // index among the car's lines; enable is -1 where it is not wired

	now   direction // what the lines say
	last  direction // what they last said other than off
	since time.Time // when they were switched off
}

// next returns the direction the bridge may take now on its way to want, and, when it must wait for more, until when.
// A motor that ran the other way is first switched off for the dead time: that spares bridge and gears, and no order
// in which the kernel moves the two inputs can meet a state that drives both ways.
func (b *bridge) next(want direction, now time.Time, dead time.Duration) (direction, time.Time) {
	if want == 0 || want == b.now {
		return want, time.Time{}
	}
	if b.now != 0 {
		return 0, now.Add(dead)
	}
	if want == -b.last {
		if free := b.since.Add(dead); now.Before(free) {
			return 0, free
		}
	}
	return want, time.Time{}
}

// set notes that the lines now say d.
func (b *bridge) set(d direction, now time.Time) {
	if d == 0 && b.now != 0 {
		b.since = now
	}
	if b.now = d; d != 0 {
		b.last = d
	}
}

// levels writes the bridge's share of the line values for d.
func (b *bridge) levels(d direction, values []int) {
	values[b.forward], values[b.backward] = 0, 0
	switch d {
	case 1:
		values[b.forward] = 1
	case -1:
		values[b.backward] = 1
	}
	if b.enable >= 0 {
		values[b.enable] = int(d * d)
	}
}
