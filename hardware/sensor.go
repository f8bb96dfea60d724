package hardware

import (
	"math"
	"time"
)

// SensorKind is what a sensor tells.
type SensorKind string

const (
	Contact  SensorKind = "contact"  // a bumper or line sensor: 1 while it is active, else 0
	Distance SensorKind = "distance" // an HC-SR04: metres to what is ahead, NoEcho when there is nothing
	Encoder  SensorKind = "encoder"  // pulses of a wheel encoder, counted since the start
	Truth    SensorKind = "truth"    // what only the simulation knows, by its name
)

// NoEcho is the reading of a distance sensor that hears no echo.
var NoEcho = math.Inf(1)

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
	Debounce  time.Duration // of a contact
	Stop      float64       // the car does not drive ahead while a contact is active, or something is nearer than this, in metres; zero is no stop
}

// blocks tells whether a reading forbids to drive ahead.
func (s *Sensor) blocks(value float64) bool {
	switch {
	case s.Stop <= 0:
		return false
	case s.Kind == Distance:
		return value < s.Stop
	}
	return value != 0
}
