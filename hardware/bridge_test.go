package hardware

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// The truth tables of the datasheets, as seen from the motor.
func TestEffects(t *testing.T) {
	const ____, yes = false, true
	for _, tt := range []struct {
		driver                    Driver
		in1, in2, enable, standby bool
		want                      effect
	}{
		{L298N, ____, ____, ____, yes, coast},
		{L298N, yes, ____, ____, yes, coast},
		{L298N, ____, yes, ____, yes, coast},
		{L298N, yes, yes, ____, yes, coast},
		{L298N, ____, ____, yes, yes, brake},
		{L298N, yes, ____, yes, yes, driveOn},
		{L298N, ____, yes, yes, yes, driveBack},
		{L298N, yes, yes, yes, yes, brake},

		{TB6612FNG, ____, ____, ____, yes, coast},
		{TB6612FNG, yes, ____, ____, yes, brake},
		{TB6612FNG, ____, yes, ____, yes, brake},
		{TB6612FNG, yes, yes, ____, yes, brake},
		{TB6612FNG, ____, ____, yes, yes, coast},
		{TB6612FNG, yes, ____, yes, yes, driveOn},
		{TB6612FNG, ____, yes, yes, yes, driveBack},
		{TB6612FNG, yes, yes, yes, yes, brake},
		{TB6612FNG, yes, ____, yes, ____, coast},
		{TB6612FNG, ____, yes, yes, ____, coast},
		{TB6612FNG, yes, yes, yes, ____, coast},

		{TwoPin, ____, ____, yes, yes, coast},
		{TwoPin, yes, ____, yes, yes, driveOn},
		{TwoPin, ____, yes, yes, yes, driveBack},
		{TwoPin, yes, yes, yes, yes, brake},

		{Relay, ____, ____, yes, yes, coast},
		{Relay, yes, ____, yes, yes, driveOn},
	} {
		if got := tt.driver.effect(tt.in1, tt.in2, tt.enable, tt.standby); got != tt.want {
			t.Errorf("%s, IN1 %v, IN2 %v, enable %v, standby %v: %d, want %d", tt.driver, tt.in1, tt.in2, tt.enable, tt.standby, got, tt.want)
		}
	}
}

// Pulses overlap from the beginning of their period on.
func TestSharesOfOverlappingPulses(t *testing.T) {
	m := motor{driver: TwoPin, forward: 0, backward: 1, enable: -1}
	for _, tt := range []struct {
		values [2]float64
		want   shares
	}{
		{[2]float64{0, 0}, shares{}},
		{[2]float64{1, 0}, shares{ahead: 1}},
		{[2]float64{0.25, 0}, shares{ahead: 0.25}},
		{[2]float64{0, 0.25}, shares{back: 0.25}},
		{[2]float64{0.25, 0.75}, shares{brake: 0.25, back: 0.5}},
		{[2]float64{1, 0.75}, shares{brake: 0.75, ahead: 0.25}},
		{[2]float64{1, 1}, shares{brake: 1}},
	} {
		if got := m.shares(tt.values[:], -1); got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.values, got, tt.want)
		}
	}
}

// drivers are all ways to wire motors, and whether they brake when they are to stand.
var drivers = map[string]struct {
	motors Motors
	brakes bool
}{
	"L298N":             {threeLines(L298N), false},
	"L298N, braked":     {braked(threeLines(L298N)), true},
	"L298N, jumpers":    {twoLines(L298N), true}, // it can't coast
	"TB6612FNG":         {threeLines(TB6612FNG), false},
	"TB6612FNG, braked": {braked(threeLines(TB6612FNG)), true},
	"TB6612FNG, standby": {func() Motors {
		m := threeLines(TB6612FNG)
		m.Standby = "S"
		return m
	}(), false},
	"TB6612FNG, standby, braked": {func() Motors {
		m := braked(threeLines(TB6612FNG))
		m.Standby = "S"
		return m
	}(), true},
	"two pins":         {twoLines(TwoPin), false},
	"two pins, braked": {braked(twoLines(TwoPin)), true},
	"two pins, inverted": {func() Motors {
		m := twoLines(TwoPin)
		m.Left.Invert, m.Right.Invert = true, true
		return m
	}(), false},
	"relay": {Motors{Driver: Relay, Left: Motor{Forward: "1"}, Right: Motor{Forward: "2"}}, false},
}

func threeLines(d Driver) Motors {
	return Motors{Driver: d, Left: Motor{Forward: "1", Backward: "2", Enable: "E"}, Right: Motor{Forward: "3", Backward: "4", Enable: "F"}}
}

func twoLines(d Driver) Motors {
	return Motors{Driver: d, Left: Motor{Forward: "1", Backward: "2"}, Right: Motor{Forward: "3", Backward: "4"}}
}

func braked(m Motors) Motors {
	m.Brake = true
	return m
}

// Whatever the driver is, the car goes where it is told, and rolls out only if its driver lets it coast.
func TestEveryDriverDrivesTheWorld(t *testing.T) {
	for name, tt := range drivers {
		for _, frequency := range []float64{0, 100} {
			for _, activeLow := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %v Hz, active low: %v", name, frequency, activeLow), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						tt.motors.Frequency, tt.motors.ActiveLow, tt.motors.DeadTime = frequency, activeLow, DefaultDeadTime
						p := depart(t, Config{Motors: tt.motors})
						defer p.stop()
						start := p.look()
						p.drive(1, 1, time.Second)
						ahead := p.look()
						p.wantNear("ahead", ahead.X-start.X, topSpeed*(1-driveLag.Seconds()), 0.02)
						p.wantNear("aside", ahead.Y-start.Y, 0, 1e-9)
						rolls := topSpeed * coastLag.Seconds()
						if tt.brakes {
							rolls = topSpeed * brakeLag.Seconds()
						}
						p.wantNear("rolls out", p.halt(), rolls, 0.01)
						if tt.motors.Driver == Relay {
							at := p.look()
							p.drive(-1, -1, time.Second)
							if p.look() != at {
								t.Errorf("a relay drove back to %+v", p.look())
							}
							return
						}
						at := p.look()
						p.drive(-1, -1, time.Second)
						p.halt()
						p.wantNear("back", p.look().X-at.X, -topSpeed*(1-driveLag.Seconds())-rolls, 0.02)
						p.drive(-1, 1, 200*time.Millisecond)
						if h := p.look().Heading; h < 10 || h > 90 {
							t.Errorf("turned left, the heading is %v", h)
						}
						p.halt()
						was := p.look().Heading
						p.drive(1, -1, 200*time.Millisecond)
						if h := p.look().Heading - was; h > -10 || h < -90 {
							t.Errorf("turned right, the heading has changed by %v", h)
						}
					})
				})
			}
		}
	}
}
