package hardware

import "time"

// SimulatedCar describes a car with all that the simulation has.
func SimulatedCar(ttl, deadTime time.Duration) Config {
	const line = "simulated"
	motor := Motor{Forward: line, Backward: line, Enable: line}
	servo := Servo{Line: line, MinPulse: 500 * time.Microsecond, MaxPulse: 2500 * time.Microsecond, MinAngle: -90, MaxAngle: 90}
	return Config{
		Motors: Motors{Driver: L298N, Left: motor, Right: motor, Frequency: 100, DeadTime: deadTime},
		Pan:    servo, Tilt: servo, TTL: ttl,
		Sensors: []Sensor{
			{Name: "distance_m", Kind: Distance}, {Name: "x_m", Kind: Truth}, {Name: "y_m", Kind: Truth},
			{Name: "heading_deg", Kind: Truth}, {Name: "battery_v", Kind: Truth},
		},
	}
}

// World is a simulated car: outputs that are not there, and what would come of them.
type World struct{}

// NewWorld makes the world of a car with those outputs.
func NewWorld(cfg *Config, report func(sensor int, value float64)) *World { return &World{} }

func (*World) Set([]float64) error  { return nil }
func (*World) Failed() <-chan error { return nil }
func (*World) Close() error         { return nil }
