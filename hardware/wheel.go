package hardware

import (
	"math"
	"time"
)

// What the motors and wheels of the simulated car are like: the yellow gear motors of the kits (TT, 1:48) at 2 cells.
// Makers state some 0.15 A without load, 0.6 A stalled and 200 turns a minute at 6 V; what is not stated is chosen.
const (
	topSpeed      = 0.8   // metres per second of a wheel, with a full battery; chosen: 235 turns a minute
	wheelDiameter = 0.065 // metres
	encoderCounts = 20    // pulses per turn: the slots of the disc that comes with the kits
	humDuty       = 0.2   // below it the motor only hums, which friction in the gears does; chosen

	// Time constants of a wheel's way to its speed; chosen, for a car of about a kilogram.
	driveLag = 150 * time.Millisecond
	coastLag = 250 * time.Millisecond // no current flows: friction alone
	brakeLag = 50 * time.Millisecond  // the motor is a generator that is short-circuited

	runAmps   = 0.15
	stallAmps = 0.6

	stillSpeed = 0.001 // metres per second, below which a wheel that nobody drives stands
)

// wheel is one wheel and its motor.
type wheel struct {
	motor  motor
	shares shares
	speed  float64 // metres per second
	rolled float64 // metres, both ways added up
}

// moving tells whether the wheel turns, or draws a current.
func (w *wheel) moving() bool { return w.speed != 0 || w.shares.duty() != 0 }

// roll turns the wheel for a while and returns how far, and the current that its motor draws.
func (w *wheel) roll(volts float64, d time.Duration) (distance, amps float64) {
	duty := w.shares.duty()
	target, rate := 0.0, 1/driveLag.Seconds()
	if pull := math.Abs(duty) - humDuty; pull > 0 {
		target = math.Copysign(topSpeed*pull/(1-humDuty)*volts/fullVolts, duty)
	} else {
		rate = w.shares.brake/brakeLag.Seconds() + (1-w.shares.brake)/coastLag.Seconds()
	}
	// The share of the stall that the speed leaves of it; a motor that is reversed draws no more than a stalled one.
	stall := min(max(1-w.speed*math.Copysign(1, duty)/topSpeed, 0), 1)
	amps = math.Abs(duty) * (runAmps + (stallAmps-runAmps)*stall)

	// What is left of the difference to the target falls exponentially; the distance is its integral.
	t := d.Seconds()
	rest := math.Exp(-t * rate)
	distance = target*t + (w.speed-target)*(1-rest)/rate
	w.speed = target + (w.speed-target)*rest
	if target == 0 && math.Abs(w.speed) < stillSpeed {
		w.speed = 0
	}
	w.rolled += math.Abs(distance)
	return distance, amps
}

// counts returns the pulses of the wheel's encoder, which does not tell the two ways apart.
func (w *wheel) counts() float64 {
	return math.Floor(w.rolled / (math.Pi * wheelDiameter) * encoderCounts)
}

// Of the motors' battery, two cells of lithium ions (18650) in series; the board has one of its own. It is not charged:
// when it is empty, after some eight hours of driving, the car goes on at the speed that is left.
const (
	fullVolts  = 8.4
	emptyVolts = 6.4
	capacity   = 2.6 * 3600 // ampere seconds
	resistance = 0.2        // ohms, with the wires; chosen
)

// battery is the motors' battery.
type battery struct {
	used float64 // ampere seconds
	amps float64 // that are drawn now
}

func (b *battery) draw(amps float64, d time.Duration) {
	b.amps = amps
	b.used = min(b.used+amps*d.Seconds(), capacity)
}

// volts returns the voltage between its poles, which falls with the charge and under load.
func (b *battery) volts() float64 {
	return fullVolts - (fullVolts-emptyVolts)*b.used/capacity - resistance*b.amps
}
