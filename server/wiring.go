package main

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"roverd/hardware"
)

// wiring is the car in the config file: what hangs on which line.
type wiring struct {
	Motors struct {
		Preset    string          `toml:"preset"`
		Driver    hardware.Driver `toml:"driver"`
		Standby   string          `toml:"standby"`
		ActiveLow bool            `toml:"active_low"`
		Brake     bool            `toml:"brake"`
		Swap      bool            `toml:"swap"`
		Frequency float64         `toml:"frequency"`
		Slew      float64         `toml:"slew"`
		Left      motorConfig     `toml:"left"`
		Right     motorConfig     `toml:"right"`
	} `toml:"motors"`
	Pan     servoConfig    `toml:"pan"`
	Tilt    servoConfig    `toml:"tilt"`
	Sensors []sensorConfig `toml:"sensors"`
}

type motorConfig struct {
	Forward  string  `toml:"forward"`
	Backward string  `toml:"backward"`
	Enable   string  `toml:"enable"`
	Invert   bool    `toml:"invert"`
	Trim     float64 `toml:"trim"`
	MinDuty  float64 `toml:"min_duty"`
	MaxDuty  float64 `toml:"max_duty"`
}

type servoConfig struct {
	Line     string   `toml:"line"`
	MinPulse duration `toml:"min_pulse"`
	MaxPulse duration `toml:"max_pulse"`
	MinAngle float64  `toml:"min_angle"`
	MaxAngle float64  `toml:"max_angle"`
	Home     float64  `toml:"home"`
	Speed    float64  `toml:"speed"`
	Invert   bool     `toml:"invert"`
}

type sensorConfig struct {
	Name      string              `toml:"name"`
	Kind      hardware.SensorKind `toml:"kind"`
	Line      string              `toml:"line"`
	Trigger   string              `toml:"trigger"`
	ActiveLow bool                `toml:"active_low"`
	Pull      string              `toml:"pull"`
	Debounce  duration            `toml:"debounce"`
	Stop      bool                `toml:"stop"`
	StopBelow float64             `toml:"stop_below"`
}

// A motor and a servo of which the file says nothing. The servo's limits are what every one can do (SG90 datasheet, and
// hobby servos at large); calibration may widen them.
var (
	plainMotor = motorConfig{Trim: 1, MaxDuty: 1}
	plainServo = servoConfig{MinPulse: duration(time.Millisecond), MaxPulse: duration(2 * time.Millisecond), MinAngle: -45, MaxAngle: 45}
)

// kit is how the motors of a robot kit are wired, in BCM numbers.
type kit struct {
	driver      hardware.Driver
	left, right motorConfig
}

// kits are the presets. (SunFounder's and Freenove's are not here: their motors hang on a PCA9685, not on lines.)
var kits = map[string]kit{
	// Waveshare AlphaBot2-Pi, schematic: TB6612FNG, AIN1/AIN2/PWMA and BIN1/BIN2/PWMB.
	"alphabot2": {hardware.TB6612FNG, pins("GPIO13", "GPIO12", "GPIO6"), pins("GPIO21", "GPIO20", "GPIO26")},
	// Adeept RaspTank. GPIO4 is pulled up at boot.
	"rasptank": {hardware.L298N, pins("GPIO14", "GPIO15", "GPIO4"), pins("GPIO27", "GPIO18", "GPIO17")},
	// DonkeyCar's parts for an L298N.
	"donkeycar": {hardware.L298N, pins("GPIO23", "GPIO24", "GPIO25"), pins("GPIO22", "GPIO27", "GPIO17")},
	// Remo.tv's l298n, whose jumpers on EN stay on.
	"remotv": {hardware.L298N, pins("GPIO18", "GPIO23", ""), pins("GPIO17", "GPIO22", "")},
	// CamJam EduKit 3: a DRV8833 on the board.
	"camjam3": {hardware.TwoPin, pins("GPIO9", "GPIO10", ""), pins("GPIO7", "GPIO8", "")},
}

func pins(forward, backward, enable string) motorConfig {
	return motorConfig{Forward: forward, Backward: backward, Enable: enable}
}

// or fills what m leaves open from a kit's.
func (m motorConfig) or(kit motorConfig) motorConfig {
	m.Forward, m.Backward, m.Enable = cmp.Or(m.Forward, kit.Forward), cmp.Or(m.Backward, kit.Backward), cmp.Or(m.Enable, kit.Enable)
	return m
}

// wired tells whether the file says anything of the car: then it has to say all that a real one needs.
func (w *wiring) wired() bool {
	var plain wiring
	plain.setDefaults()
	return !reflect.DeepEqual(*w, plain)
}

// setDefaults fills in what the file may leave out.
func (w *wiring) setDefaults() {
	w.Motors.Frequency, w.Motors.Left, w.Motors.Right = 100, plainMotor, plainMotor
	w.Pan, w.Tilt = plainServo, plainServo
}

// resolve applies the preset.
func (w *wiring) resolve() error {
	m := &w.Motors
	if m.Preset == "" {
		m.Driver = cmp.Or(m.Driver, hardware.L298N)
		return nil
	}
	k, ok := kits[m.Preset]
	if !ok {
		return fmt.Errorf("motors.preset = %q: want one of %s", m.Preset, strings.Join(slices.Sorted(maps.Keys(kits)), ", "))
	}
	if m.Driver != "" && m.Driver != k.driver {
		return fmt.Errorf("motors.driver = %q: the preset %s has %s; leave it out", m.Driver, m.Preset, k.driver)
	}
	m.Driver, m.Left, m.Right = k.driver, m.Left.or(k.left), m.Right.or(k.right)
	return nil
}

// check finds what is wrong beyond the form, and names the key. Its conditions are for what is right: TOML has nan, of
// which no comparison is true.
func (w *wiring) check() error {
	m := &w.Motors
	switch m.Driver {
	case hardware.L298N, hardware.TB6612FNG, hardware.TwoPin, hardware.Relay:
	default:
		return fmt.Errorf("motors.driver = %q: want %s, %s, %s or %s", m.Driver, hardware.L298N, hardware.TB6612FNG, hardware.TwoPin, hardware.Relay)
	}
	if !(m.Frequency == 0 || 1 <= m.Frequency && m.Frequency <= 100_000) {
		return fmt.Errorf("motors.frequency = %v: want 1 Hz or more, up to 1000 for lines and 100000 for PWM channels; 0 switches only on and off", m.Frequency)
	}
	if !(m.Slew >= 0) {
		return fmt.Errorf("motors.slew = %v: want full speeds per second, as in 4, or 0 for no limit", m.Slew)
	}
	for _, side := range []struct {
		key string
		*motorConfig
	}{{"left", &m.Left}, {"right", &m.Right}} {
		key := "motors." + side.key
		switch {
		case side.Forward == "":
			return fmt.Errorf("%s.forward is missing: each motor needs its line", key)
		case m.Driver == hardware.Relay && (side.Backward != "" || side.Enable != "" || side.Invert):
			return fmt.Errorf("%s: a relay has only the line \"forward\"", key)
		case m.Driver != hardware.Relay && side.Backward == "":
			return fmt.Errorf("%s.backward is missing: the driver %s needs the lines \"forward\" and \"backward\"", key, m.Driver)
		case m.Driver == hardware.TwoPin && side.Enable != "":
			return fmt.Errorf("%s.enable = %q: a bridge with two pins has none", key, side.Enable)
		case !(0 < side.Trim && side.Trim <= 1):
			return fmt.Errorf("%s.trim = %v: want more than 0, up to 1: slow down the stronger motor", key, side.Trim)
		case !(0 <= side.MinDuty && side.MinDuty < 1):
			return fmt.Errorf("%s.min_duty = %v: want 0 to 1", key, side.MinDuty)
		case !(side.MinDuty < side.MaxDuty && side.MaxDuty <= 1):
			return fmt.Errorf("%s.max_duty = %v: want more than min_duty, up to 1", key, side.MaxDuty)
		}
		for name, line := range map[string]string{"forward": side.Forward, "backward": side.Backward, "enable": side.Enable} {
			if m.Frequency > 1000 && line != "" && !strings.HasPrefix(line, "pwm:") && (name == "enable") == (side.Enable != "") {
				return fmt.Errorf("motors.frequency = %v: more than 1000 Hz needs a PWM channel, but %s.%s is the line %q", m.Frequency, key, name, line)
			}
		}
	}
	if m.Brake && m.Driver == hardware.Relay {
		return fmt.Errorf("motors.brake = true: a relay can't brake; leave it out")
	}
	if m.Standby != "" && m.Driver != hardware.TB6612FNG {
		return fmt.Errorf("motors.standby = %q: only a %s has it", m.Standby, hardware.TB6612FNG)
	}
	for key, s := range map[string]*servoConfig{"pan": &w.Pan, "tilt": &w.Tilt} {
		const least, most = 500 * time.Microsecond, 2500 * time.Microsecond
		switch {
		case *s == plainServo: // there is none
		case s.Line == "":
			return fmt.Errorf("%s.line is missing: the servo needs it", key)
		case time.Duration(s.MinPulse) < least || time.Duration(s.MaxPulse) > most || s.MinPulse >= s.MaxPulse:
			return fmt.Errorf("%s: min_pulse = %s, max_pulse = %s: want %s to %s, the lesser first: beyond that servos break",
				key, time.Duration(s.MinPulse), time.Duration(s.MaxPulse), least, most)
		case !(-180 <= s.MinAngle && s.MinAngle < s.MaxAngle && s.MaxAngle <= 180):
			return fmt.Errorf("%s: min_angle = %v, max_angle = %v: want -180 to 180 degrees, the lesser first", key, s.MinAngle, s.MaxAngle)
		case !(s.MinAngle <= s.Home && s.Home <= s.MaxAngle):
			return fmt.Errorf("%s.home = %v: want %v to %v degrees", key, s.Home, s.MinAngle, s.MaxAngle)
		case !(s.Speed >= 0):
			return fmt.Errorf("%s.speed = %v: want degrees per second, or 0 for as fast as it can", key, s.Speed)
		}
	}
	if err := w.checkSensors(); err != nil {
		return err
	}
	return w.checkLines()
}

// checkLines finds a line that is to be two things.
func (w *wiring) checkLines() error {
	car := w.hardware(0, 0)
	all := car.Outputs()
	for _, s := range car.Sensors {
		all = append(all, hardware.Output{Role: "sensor " + s.Name, Line: s.Line})
		if s.Trigger != "" {
			all = append(all, hardware.Output{Role: "sensor " + s.Name + ": trigger", Line: s.Trigger})
		}
	}
	taken := map[string]string{}
	for _, l := range all {
		if other, ok := taken[l.Line]; ok {
			return fmt.Errorf("%s: the line %q is already %s", l.Role, l.Line, other)
		}
		taken[l.Line] = l.Role
	}
	return nil
}

func (w *wiring) checkSensors() error {
	if len(w.Sensors) > hardware.MaxSensors {
		return fmt.Errorf("sensors: there are %d, and may be %d", len(w.Sensors), hardware.MaxSensors)
	}
	names := map[string]bool{}
	for i, s := range w.Sensors {
		key := fmt.Sprintf("sensors[%d]", i)
		if s.Name == "" || names[s.Name] {
			return fmt.Errorf("%s.name = %q: each sensor needs a name of its own", key, s.Name)
		}
		names[s.Name] = true
		key = fmt.Sprintf("sensor %q", s.Name)
		switch {
		case s.Kind != hardware.Contact && s.Kind != hardware.Distance && s.Kind != hardware.Encoder:
			return fmt.Errorf("%s: kind = %q: want %s, %s or %s", key, s.Kind, hardware.Contact, hardware.Distance, hardware.Encoder)
		case s.Line == "":
			return fmt.Errorf("%s: line is missing", key)
		case (s.Trigger != "") != (s.Kind == hardware.Distance):
			return fmt.Errorf("%s: trigger = %q: a sensor of distance needs that line, and no other has it", key, s.Trigger)
		case s.Pull != "" && s.Pull != "up" && s.Pull != "down" && s.Pull != "off":
			return fmt.Errorf("%s: pull = %q: want up, down or off", key, s.Pull)
		case s.Debounce < 0 || time.Duration(s.Debounce) > time.Second:
			return fmt.Errorf("%s: debounce = %s: want 0s to 1s", key, time.Duration(s.Debounce))
		case s.Debounce != 0 && s.Kind == hardware.Distance:
			return fmt.Errorf("%s: debounce = %s: it would spoil the time of the echo", key, time.Duration(s.Debounce))
		case s.Stop && s.Kind != hardware.Contact:
			return fmt.Errorf("%s: stop = true: only a contact can say so; a sensor of distance has stop_below", key)
		case s.StopBelow != 0 && s.Kind != hardware.Distance || !(0 <= s.StopBelow && s.StopBelow <= 4):
			return fmt.Errorf("%s: stop_below = %v: want metres, up to 4, for a sensor of distance", key, s.StopBelow)
		}
	}
	return nil
}

// hardware returns the car as the hardware wants it.
func (w *wiring) hardware(ttl, deadTime time.Duration) hardware.Config {
	m := &w.Motors
	left, right := m.Left, m.Right
	if m.Swap {
		left, right = right, left
	}
	cfg := hardware.Config{
		Motors: hardware.Motors{
			Driver: m.Driver, Left: left.hardware(), Right: right.hardware(), Standby: m.Standby, ActiveLow: m.ActiveLow,
			Brake: m.Brake, Frequency: m.Frequency, DeadTime: deadTime, Slew: m.Slew,
		},
		Pan: w.Pan.hardware(), Tilt: w.Tilt.hardware(), TTL: ttl,
	}
	for _, s := range w.Sensors {
		stop := s.StopBelow
		if s.Stop {
			stop = 1
		}
		cfg.Sensors = append(cfg.Sensors, hardware.Sensor{
			Name: s.Name, Kind: s.Kind, Line: s.Line, Trigger: s.Trigger, ActiveLow: s.ActiveLow, Pull: s.Pull,
			Debounce: time.Duration(s.Debounce), Stop: stop,
		})
	}
	return cfg
}

func (m motorConfig) hardware() hardware.Motor {
	return hardware.Motor{
		Forward: m.Forward, Backward: m.Backward, Enable: m.Enable, Invert: m.Invert, Trim: m.Trim, Min: m.MinDuty, Max: m.MaxDuty,
	}
}

func (s servoConfig) hardware() hardware.Servo {
	if s.Invert {
		s.MinPulse, s.MaxPulse = s.MaxPulse, s.MinPulse
	}
	return hardware.Servo{
		Line: s.Line, MinPulse: time.Duration(s.MinPulse), MaxPulse: time.Duration(s.MaxPulse),
		MinAngle: s.MinAngle, MaxAngle: s.MaxAngle, Home: s.Home, Speed: s.Speed,
	}
}
