package hardware

import (
	"math"
	"time"
)

// SensorKind is what a sensor tells.
type SensorKind string

const (
	Contact  SensorKind = "contact"  // a bumper or line sensor: 1 while it is active, else 0
	Distance SensorKind = "distance" // an HC-SR04: metres to what is ahead, or NoEcho, Unknown, Silent
	Encoder  SensorKind = "encoder"  // pulses of a wheel encoder, counted since the start
	Truth    SensorKind = "truth"    // what only the simulation knows, by its name
)

// Readings of a distance sensor that are no distance.
var (
	NoEcho  = math.Inf(1)  // nothing is ahead
	Unknown = math.Inf(-1) // it does not look now
)

// Silent is the reading of a distance sensor that does not answer. It forbids to drive ahead, as something near does.
const Silent = -1.0

// MaxSensors is how many sensors a car may have.
const MaxSensors = 16

// Sensor is one sensor and its lines. What a name may be is told at [OpenLines].
type Sensor struct {
	Name      string
	Kind      SensorKind
	Line      string        // the echo of a distance sensor
	Trigger   string        // of a distance sensor
	ActiveLow bool          // a low level means active, as with a switch to ground
	Pull      string        // up, down, off; empty leaves it as it is
	Debounce  time.Duration // of a contact or an encoder
	Stop      float64       // the car does not drive ahead while a contact is active, or something is nearer than this, in metres; zero is no stop
}

// blocks tells whether a reading forbids to drive ahead.
func (s *Sensor) blocks(value float64) bool {
	switch {
	case s.Stop <= 0:
		return false
	case s.Kind == Distance:
		return value < s.Stop && value != Unknown
	}
	return value != 0
}

// wanted tells whether the car may not drive ahead before it has another reading.
func (s *Sensor) wanted(value float64) bool {
	return s.Stop > 0 && s.Kind == Distance && value == Unknown
}
