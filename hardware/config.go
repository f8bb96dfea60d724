package hardware

import "time"

// Config describes a car. [Config.Outputs] are what it needs of the board.
type Config struct {
	Motors    Motors
	Pan, Tilt Servo // of the camera; without a line there is none
	Sensors   []Sensor
	TTL       time.Duration // how long the motors run on one drive command; DefaultTTL when zero
}

const (
	DefaultTTL = 500 * time.Millisecond
	MaxTTL     = 5 * time.Second
	// DefaultDeadTime is what the maker of an L298N board asks for (wiki.dfrobot.com/dri0041).
	DefaultDeadTime = 100 * time.Millisecond
	// MaxOutputs is how many outputs a car may have.
	MaxOutputs = 9
)

// Servos tells whether the camera can be turned.
func (c *Config) Servos() bool { return c.Pan.Line != "" || c.Tilt.Line != "" }

// Outputs lists what the car drives, in the order of the values that its Lines are given.
func (c *Config) Outputs() []Output {
	all, _, _, _, _, _ := c.layout()
	return all
}

// layout gives every output its place, and each part of the car the places of its outputs.
func (c *Config) layout() (all []Output, left, right motor, standby int, pan, tilt servo) {
	m := &c.Motors
	var period time.Duration
	if m.Frequency > 0 {
		period = time.Duration(float64(time.Second) / m.Frequency)
	}
	add := func(role, line string, period time.Duration) int {
		if line == "" {
			return -1
		}
		all = append(all, Output{Role: role, Line: line, ActiveLow: m.ActiveLow, Period: period})
		return len(all) - 1
	}
	addMotor := func(side string, cfg Motor) motor {
		if cfg.Invert {
			cfg.Forward, cfg.Backward = cfg.Backward, cfg.Forward
		}
		direction := period
		if cfg.Enable != "" || m.Driver == Relay {
			direction = 0
		}
		return motor{
			cfg: cfg, driver: m.Driver, slew: m.Slew, dead: m.DeadTime,
			brake:    m.Brake && m.Driver != Relay, // whose one line would switch it on
			switched: period == 0 || m.Driver == Relay,
			forward:  add(side+".forward", cfg.Forward, direction),
			backward: add(side+".backward", cfg.Backward, direction),
			enable:   add(side+".enable", cfg.Enable, period),
		}
	}
	addServo := func(role string, cfg Servo) servo {
		if cfg.Line == "" {
			return newServo(cfg, -1)
		}
		all = append(all, Output{Role: role, Line: cfg.Line, Period: servoPeriod, Whole: true})
		return newServo(cfg, len(all)-1)
	}
	left, right = addMotor("left", m.Left), addMotor("right", m.Right)
	standby = add("standby", m.Standby, 0)
	pan, tilt = addServo("camera.pan", c.Pan), addServo("camera.tilt", c.Tilt)
	return all, left, right, standby, pan, tilt
}
