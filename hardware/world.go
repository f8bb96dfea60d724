package hardware

import (
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"time"
)

// The simulated car's measures. Lengths are metres, angles degrees outside and radians inside of the World; a heading
// of 0 looks along x, 90 along y: a turn to the left is positive (ROS REP 103).
const (
	trackWidth = 0.15 // between the wheels; about what the kits have
	carRadius  = 0.12 // the car is a disc, so that it can always turn on the spot; chosen

	startX, startY = 1.0, 2.0

	// Of a HC-SR04 at the car's front edge: 4 m, and a measuring angle of 15 degrees (its datasheet).
	beamRange = 4.0
	beamAngle = 15.0

	servoSlew = 600.0 // degrees per second: 0.1 s per 60 degrees (SG90 datasheet)
)

const (
	// worldStep is how finely time is cut: within a step the car goes along one arc.
	worldStep = time.Millisecond
	// worldTick is how often the sensors are read while something moves: about as often as a HC-SR04 can be asked (60 ms,
	// its datasheet).
	worldTick = 50 * time.Millisecond
)

// rollOut is how far ahead the simulated car must see nothing to go on: at full speed it rolls 0.2 m when it is
// switched off, and the sensor may be a tick late.
const rollOut = 0.3

// SimulatedCar describes a car with all that the simulation has.
func SimulatedCar(ttl, deadTime time.Duration) Config {
	const line = "simulated"
	motor := Motor{Forward: line, Backward: line, Enable: line, Min: humDuty}
	servo := Servo{Line: line, MinPulse: 500 * time.Microsecond, MaxPulse: 2500 * time.Microsecond, MinAngle: -90, MaxAngle: 90}
	return Config{
		Motors: Motors{Driver: L298N, Left: motor, Right: motor, Frequency: 100, DeadTime: deadTime},
		Pan:    servo, Tilt: servo, TTL: ttl,
		Sensors: []Sensor{
			{Name: "distance_m", Kind: Distance, Stop: rollOut},
			{Name: "left_mps", Kind: Truth}, {Name: "right_mps", Kind: Truth},
			{Name: "x_m", Kind: Truth}, {Name: "y_m", Kind: Truth}, {Name: "heading_deg", Kind: Truth},
			{Name: "battery_v", Kind: Truth},
		},
	}
}

// World is a simulated car in a simulated room: outputs that are not there, and what would come of them. It makes no
// wake-ups while nothing moves. The same values at the same times lead to the same end, whenever somebody looks
// meanwhile.
type World struct {
	// Fixed by NewWorld.
	room    *Room
	standby int // index among the car's outputs; -1 where there is none
	gauges  []gauge
	report  func(sensor int, value float64)

	mu          sync.Mutex
	begun       bool        // Set was called
	at          time.Time   // up to when all is simulated
	ticker      *time.Timer // nil while nothing moves
	closed      bool
	left, right wheel
	battery     battery
	x, y        float64
	heading     float64 // radians
	pan, tilt   horn
}

// Pose is where the car is and where its camera looks.
type Pose struct {
	X, Y      float64 // metres
	Heading   float64 // degrees: 0 looks along x, 90 along y
	Pan, Tilt float64 // degrees; right and up are positive
}

// NewWorld makes a car of cfg's outputs and sensors, at rest in the middle of the room's left side. report is told what
// the sensors read, from the first Set on, whenever that has changed by what is worth telling. It may be called on any
// goroutine and must not call the World.
//
// A sensor of distance looks ahead, a contact is the front bumper, an encoder counts the right wheel if its name has
// "right" in it, else the left one.
func NewWorld(cfg *Config, report func(sensor int, value float64)) *World {
	w := &World{room: &theRoom, report: report, x: startX, y: startY}
	var pan, tilt servo
	_, w.left.motor, w.right.motor, w.standby, pan, tilt = cfg.layout()
	w.pan, w.tilt = newHorn(pan), newHorn(tilt)
	for i := range cfg.Sensors {
		w.gauges = append(w.gauges, w.gauge(i, &cfg.Sensors[i]))
	}
	return w
}

// Room returns where the car drives.
func (w *World) Room() *Room { return w.room }

// Pose returns where the car is now.
func (w *World) Pose() Pose {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance(time.Now())
	return Pose{w.x, w.y, w.degrees(), w.pan.at, w.tilt.at}
}

// Set gives every output its value: see Lines.
func (w *World) Set(values []float64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return fmt.Errorf("the simulated lines: %w", os.ErrClosed)
	}
	now := time.Now()
	w.step(w.advance(now))
	w.at = now
	w.left.shares, w.right.shares = w.left.motor.shares(values, w.standby), w.right.motor.shares(values, w.standby)
	w.pan.pull(values)
	w.tilt.pull(values)
	if !w.begun {
		w.begun = true
		w.read()
	}
	if w.ticker == nil && w.moving() {
		w.ticker = time.AfterFunc(worldTick, w.tick)
	}
	return nil
}

// Failed is nil: the simulated outputs don't fail.
func (w *World) Failed() <-chan error { return nil }

// Close ends the simulation.
func (w *World) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.ticker != nil {
		w.ticker.Stop()
	}
	return nil
}

func (w *World) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.advance(time.Now())
	w.read()
	if w.moving() {
		w.ticker.Reset(worldTick)
	} else {
		w.ticker = nil
	}
}

func (w *World) moving() bool {
	return w.left.moving() || w.right.moving() || w.pan.moving() || w.tilt.moving()
}

// advance simulates up to now in whole steps, and returns what is left of one. Steps are counted from the last Set, so
// that it makes no difference how often this is called before the next.
func (w *World) advance(now time.Time) (rest time.Duration) {
	for ; w.moving() && now.Sub(w.at) >= worldStep; w.at = w.at.Add(worldStep) {
		w.step(worldStep)
	}
	if !w.moving() {
		w.at, w.battery.amps = now, 0
	}
	return now.Sub(w.at)
}

// step simulates a while, in which the values of the outputs are the same.
func (w *World) step(d time.Duration) {
	volts := w.battery.volts()
	left, leftAmps := w.left.roll(volts, d)
	right, rightAmps := w.right.roll(volts, d)
	w.battery.draw(leftAmps+rightAmps, d)

	// Two wheels that roll so far take the car along an arc, whose chord points half of the turn aside.
	turn := (right - left) / trackWidth
	chord := (left + right) / 2
	if turn != 0 {
		chord *= math.Sin(turn/2) / (turn / 2)
	}
	sin, cos := math.Sincos(w.heading + turn/2)
	w.heading = math.Remainder(w.heading+turn, 2*math.Pi)
	// Where something is in the way the wheels slip.
	w.x, w.y = w.room.push(w.x+chord*cos, w.y+chord*sin, carRadius)

	w.pan.turn(d)
	w.tilt.turn(d)
}

func (w *World) degrees() float64 { return w.heading * 180 / math.Pi }

// distance returns what the sensor of distance reads: the nearest thing in its beam.
func (w *World) distance() float64 {
	sin, cos := math.Sincos(w.heading)
	x, y := w.x+carRadius*cos, w.y+carRadius*sin
	nearest := math.Inf(1)
	for _, aside := range [...]float64{-beamAngle / 2, 0, beamAngle / 2} {
		nearest = min(nearest, w.room.ray(x, y, w.heading+aside*math.Pi/180))
	}
	if nearest > beamRange {
		return NoEcho
	}
	return nearest
}

func (w *World) bumper() float64 {
	if w.room.touches(w.x, w.y, carRadius, w.heading) {
		return 1
	}
	return 0
}

// gauge is a sensor of the simulated car.
type gauge struct {
	sensor int
	value  func() float64
	steps  float64 // of a unit: a smaller difference is not told
	told   float64 // NaN before the first time
}

func (w *World) gauge(i int, s *Sensor) gauge {
	var value func() float64
	steps := 1.0
	switch {
	case s.Kind == Distance:
		value, steps = w.distance, 1000
	case s.Kind == Contact:
		value = w.bumper
	case s.Kind == Encoder && strings.Contains(s.Name, "right"):
		value = w.right.counts
	case s.Kind == Encoder:
		value = w.left.counts
	case s.Name == "x_m":
		value, steps = func() float64 { return w.x }, 1000
	case s.Name == "y_m":
		value, steps = func() float64 { return w.y }, 1000
	case s.Name == "heading_deg":
		value, steps = w.degrees, 10
	case s.Name == "left_mps":
		value, steps = func() float64 { return w.left.speed }, 100
	case s.Name == "right_mps":
		value, steps = func() float64 { return w.right.speed }, 100
	case s.Name == "battery_v":
		value, steps = w.battery.volts, 100
	default:
		panic(fmt.Sprintf("the simulation knows no %q", s.Name)) // a config file can't name it
	}
	return gauge{i, value, steps, math.NaN()}
}

// read reports what the sensors read, as far as it has changed.
func (w *World) read() {
	for i := range w.gauges {
		g := &w.gauges[i]
		if v := math.Round(g.value()*g.steps) / g.steps; v != g.told {
			g.told = v
			w.report(g.sensor, v)
		}
	}
}

// horn is what a servo turns: it follows the pulses as fast as a servo can, and stays when there are none.
type horn struct {
	servo    servo
	at, want float64 // degrees
}

func newHorn(s servo) horn { return horn{s, s.at, s.at} }

// pull takes in the value of the servo's output.
func (h *horn) pull(values []float64) {
	if h.servo.output < 0 || values[h.servo.output] == 0 {
		return
	}
	c := &h.servo.cfg
	pulse := values[h.servo.output] * servoPeriod.Seconds()
	share := (pulse - c.MinPulse.Seconds()) / (c.MaxPulse - c.MinPulse).Seconds()
	h.want = c.MinAngle + share*(c.MaxAngle-c.MinAngle)
}

func (h *horn) moving() bool { return h.at != h.want }

func (h *horn) turn(d time.Duration) {
	if most, way := servoSlew*d.Seconds(), h.want-h.at; math.Abs(way) > most {
		h.at += math.Copysign(most, way)
	} else {
		h.at = h.want
	}
}
