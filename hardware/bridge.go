package hardware

import "slices"

// effect is what a motor driver does with its motor.
type effect uint8

const (
	coast     effect = iota // the motor's wires hang loose
	brake                   // they are joined
	driveOn                 // the motor gets the battery's voltage, ahead
	driveBack               // and the other way round
)

// effect returns what the driver does at those levels of its inputs: its truth table, by the maker's datasheet. It is
// written down apart from motor.write, so that the simulated car shows when that gets it wrong.
func (d Driver) effect(in1, in2, enable, standby bool) effect {
	direction := coast
	switch {
	case in1 && in2:
		direction = brake
	case in1:
		direction = driveOn
	case in2:
		direction = driveBack
	}
	switch {
	case d == L298N && !enable: // "free running motor stop" (L298N datasheet, figure 6)
		return coast
	case d == L298N && in1 == in2: // "fast motor stop"
		return brake
	case d == TB6612FNG && !standby:
		return coast
	case d == TB6612FNG && in1 != in2 && !enable: // "short brake" (TB6612FNG datasheet, "H-SW control function")
		return brake
	}
	return direction
}

// shares are for which parts of the time a motor driver does what. The rest of the time the motor coasts.
type shares struct{ ahead, back, brake float64 }

// duty is the share of the battery's voltage that the motor gets on average; negative is back.
func (s shares) duty() float64 { return s.ahead - s.back }

// shares returns what the motor's driver makes of the values of the car's outputs. All pulses begin together, as those
// of the pulser do.
func (m *motor) shares(values []float64, standby int) shares {
	level := func(output int, otherwise float64) float64 {
		if output < 0 {
			return otherwise
		}
		return values[output]
	}
	in1, in2 := level(m.forward, 0), level(m.backward, 0)
	enable, stby := level(m.enable, 1), level(standby, 1) // high where they are not wired

	// Between two of these moments of the period no input changes.
	moments := [...]float64{in1, in2, enable, stby, 1}
	slices.Sort(moments[:])
	var s shares
	from := 0.0
	for _, to := range moments {
		length := to - from
		switch m.driver.effect(in1 >= to, in2 >= to, enable >= to, stby >= to) {
		case driveOn:
			s.ahead += length
		case driveBack:
			s.back += length
		case brake:
			s.brake += length
		}
		from = to
	}
	return s
}
