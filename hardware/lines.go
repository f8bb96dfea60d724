package hardware

import "time"

// Lines is a set of outputs that move together.
type Lines interface {
	// Set gives every output its value, in one step as far as the kernel has one: the share of its period for which it is
	// active, so 0 is off and 1 is on.
	Set(values []float64) error
	// Failed has an error when the outputs have failed between two calls of Set; nil if they never do.
	Failed() <-chan error
	// Close gives the outputs back. What a released line does is the board's affair: set it safe first.
	Close() error
}

// Output is a line, or a channel of a PWM chip.
type Output struct {
	Role      string        // its part in the car, as in "left.forward"
	Line      string        // what a name may be is told at [OpenLines]
	ActiveLow bool          // a low level means on, as with most relay boards
	Period    time.Duration // of its pulses; zero is an output that is on or off, and on for any value above 0
	Whole     bool          // a pulse that has begun is finished, whatever Set says: a servo kicks when one is cut short
}
