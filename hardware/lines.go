package hardware

import "slices"

// Lines is a set of output lines that move together.
type Lines interface {
	// Set gives every line its value, 0 or 1, in one step.
	Set(values []int) error
	// Close gives the lines back. What a released line does is the board's affair: set it safe first.
	Close() error
}

// Simulated stands for lines that are not there: whatever they are set to, they are.
type Simulated struct{}

func (Simulated) Set([]int) error { return nil }
func (Simulated) Close() error    { return nil }

// Motor names the lines of one H-bridge. What a name may be is told at [OpenLines].
type Motor struct {
	Forward  string // IN1: high drives ahead
	Backward string // IN2: high drives back
	Enable   string // EN, high while the motor runs; empty when it is wired to high
}

// Wiring says which lines the motors hang on.
type Wiring struct {
	Left, Right Motor
}

// wire is one line and its part in the car.
type wire struct {
	role string // as in "left.forward"
	line string
}

// wires lists the lines in the order of their values, and the two bridges on them.
func (w Wiring) wires() (all []wire, left, right bridge) {
	add := func(side string, m Motor) bridge {
		b := bridge{forward: len(all), backward: len(all) + 1, enable: -1}
		all = append(all, wire{side + ".forward", m.Forward}, wire{side + ".backward", m.Backward})
		if m.Enable != "" {
			b.enable = len(all)
			all = append(all, wire{side + ".enable", m.Enable})
		}
		return b
	}
	left = add("left", w.Left)
	right = add("right", w.Right)
	return slices.Clip(all), left, right
}
