package hardware

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// trip is a car that drives in a simulated world, in a bubble of fake time.
type trip struct {
	*Car
	t     *testing.T
	world *World
	stop  func()

	mu     sync.Mutex
	latest view

	view // as of the last look
}

// view is what is to be seen of a trip.
type view struct {
	Pose
	wheels  [2]wheel
	battery battery
	ticking bool
	told    []float64 // what each sensor last reported
	reports int
	last    State
}

// depart starts a car. Where its motors are not described they are those of the simulated car.
func depart(t *testing.T, cfg Config) *trip {
	t.Helper()
	if cfg.Motors.Driver == "" {
		cfg.Motors = SimulatedCar(0, DefaultDeadTime).Motors
	}
	p := &trip{t: t}
	p.latest.told = make([]float64, len(cfg.Sensors))
	p.world = NewWorld(&cfg, func(sensor int, value float64) {
		p.mu.Lock()
		p.latest.told[sensor] = value
		p.latest.reports++
		p.mu.Unlock()
		p.Report(sensor, value)
	})
	p.Car = New(cfg, p.world, nil, func(s State) {
		p.mu.Lock()
		p.latest.last = s
		p.mu.Unlock()
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	p.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	p.look()
	return p
}

// look takes in what is so now, when all has settled.
func (p *trip) look() Pose {
	synctest.Wait()
	pose := p.world.Pose()
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.view = p.latest
	p.view.told = slices.Clone(p.latest.told)
	p.view.Pose, p.view.wheels, p.view.battery = pose, [...]wheel{p.world.left, p.world.right}, p.world.battery
	p.view.ticking = p.world.ticker != nil
	return pose
}

// put puts the car somewhere else, heading in radians.
func (p *trip) put(room *Room, x, y, heading float64) {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	p.world.room, p.world.x, p.world.y, p.world.heading = room, x, y, heading
}

// drive has the car drive for a while, as a held button does.
func (p *trip) drive(left, right float64, d time.Duration) {
	for end := time.Now().Add(d); ; time.Sleep(min(100*time.Millisecond, time.Until(end))) {
		if !time.Now().Before(end) {
			return
		}
		p.Do(Command{Kind: Drive, Left: left, Right: right, At: time.Now()})
		synctest.Wait()
	}
}

// halt stops the motors and waits until the car stands. It returns how far it has gone meanwhile.
func (p *trip) halt() float64 {
	before := p.look()
	p.Do(Command{Kind: Stop, At: time.Now()})
	time.Sleep(5 * time.Second)
	after := p.look()
	return math.Hypot(after.X-before.X, after.Y-before.Y)
}

func (p *trip) wantNear(what string, got, want, off float64) {
	p.t.Helper()
	if !(math.Abs(got-want) <= off) {
		p.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// The end depends on what is set and when, not on when anybody looks meanwhile; nor, but for rounding, on how often it
// is set.
func TestLookingChangesNothing(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			cfg := SimulatedCar(0, 0)
			type end struct {
				x, y, heading, left, right, used, pan float64
			}
			run := func(meanwhile func(*World, []float64)) end {
				w := NewWorld(&cfg, func(int, float64) {})
				defer w.Close()
				rnd, eyes := rand.New(rand.NewPCG(seed, 0)), rand.New(rand.NewPCG(seed, 1))
				for range 30 {
					values := []float64{float64(rnd.IntN(2)), float64(rnd.IntN(2)), rnd.Float64(),
						float64(rnd.IntN(2)), float64(rnd.IntN(2)), rnd.Float64(), 0.025 + 0.1*rnd.Float64(), 0}
					if err := w.Set(values); err != nil {
						t.Fatal(err)
					}
					for end := time.Now().Add(time.Duration(rnd.IntN(1e9))); time.Now().Before(end); {
						time.Sleep(min(time.Duration(eyes.IntN(1e7)), time.Until(end)))
						meanwhile(w, values)
					}
				}
				w.Set(make([]float64, 8))
				return end{w.x, w.y, w.heading, w.left.rolled, w.right.rolled, w.battery.used, w.pan.at}
			}
			alone := run(func(*World, []float64) {})
			if watched := run(func(w *World, _ []float64) { w.Pose() }); watched != alone {
				t.Errorf("seed %d: the end is %+v, watched it is %+v", seed, alone, watched)
			}
			again := run(func(w *World, values []float64) { w.Set(values) })
			if math.Hypot(again.x-alone.x, again.y-alone.y) > 0.001 || math.Abs(again.left-alone.left) > 0.001 || math.Abs(again.used-alone.used) > 0.01 {
				t.Errorf("seed %d: the end is %+v, set more often it is %+v", seed, alone, again)
			}
		})
	}
}

// A car that stands makes no wake-ups; one that drives tells each sensor at most once a tick.
func TestStandingCarMakesNoWakeUps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := depart(t, SimulatedCar(0, DefaultDeadTime))
		defer p.stop()
		if p.ticking || p.reports != len(p.told) {
			t.Errorf("at the start it ticks: %v; %d reports of %d sensors", p.ticking, p.reports, len(p.told))
		}
		for _, move := range []Command{{Kind: Drive, Left: 1, Right: 0.8}, {Kind: Turn, Pan: 30}} {
			before := p.reports
			move.At = time.Now()
			p.Do(move)
			if p.look(); !p.ticking {
				t.Error("it moves and does not tick")
			}
			time.Sleep(5 * time.Second)
			p.look()
			if move.Kind == Turn && p.reports != before {
				t.Errorf("%d reports of sensors whose readings are the same", p.reports-before)
			}
			if most := len(p.told) * int(5*time.Second/worldTick); p.reports-before > most {
				t.Errorf("%d reports, want at most %d", p.reports-before, most)
			}
			if p.ticking {
				t.Error("it stands and ticks")
			}
			before = p.reports
			seq := p.last.Seq
			time.Sleep(time.Hour)
			p.look()
			if p.reports != before || p.last.Seq != seq {
				t.Errorf("in an hour of standing %d reports, and the state goes from %d to %d", p.reports-before, seq, p.last.Seq)
			}
		}
	})
}

// What the sensors tell is what is so when the car stands again, each with its unit.
func TestSensorsOfTheWorld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Sensors: []Sensor{
			{Name: "sonar", Kind: Distance}, {Name: "bumper", Kind: Contact}, {Name: "left wheel", Kind: Encoder}, {Name: "right wheel", Kind: Encoder},
			{Name: "x_m", Kind: Truth}, {Name: "y_m", Kind: Truth}, {Name: "heading_deg", Kind: Truth}, {Name: "battery_v", Kind: Truth},
			{Name: "left_mps", Kind: Truth}, {Name: "right_mps", Kind: Truth},
		}}
		const sonar, bumper, left, right, x, y, heading, volts, leftSpeed, rightSpeed = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
		p := depart(t, cfg)
		defer p.stop()
		p.wantNear("distance at the start", p.told[sonar], theRoom.Width-startX-carRadius, 0.0005)
		p.wantNear("voltage at the start", p.told[volts], fullVolts, 0)
		for i, v := range p.last.Sensors[:len(p.told)] {
			if v != p.told[i] {
				t.Errorf("the car takes %s for %v, not %v", cfg.Sensors[i].Name, v, p.told[i])
			}
		}

		p.drive(1, 1, time.Second)
		time.Sleep(worldTick)
		p.look()
		p.wantNear("speed", p.told[leftSpeed], topSpeed, 0.02)
		if p.told[volts] >= fullVolts || p.told[volts] < fullVolts-0.5 {
			t.Errorf("driving, the battery has %v V", p.told[volts])
		}
		p.halt()
		at := p.look()
		p.wantNear("x", p.told[x], at.X, 0.0005)
		p.wantNear("y", p.told[y], at.Y, 0.0005)
		p.wantNear("distance", p.told[sonar], theRoom.Width-at.X-carRadius, 0.0005)
		p.wantNear("speed at the end", p.told[leftSpeed]+p.told[rightSpeed], 0, 0)
		p.wantNear("counts", p.told[left], (at.X-startX)/(math.Pi*0.065)*20, 1)
		p.wantNear("counts, right", p.told[right], p.told[left], 0)

		p.drive(-1, 1, 200*time.Millisecond)
		p.halt()
		at = p.look()
		p.wantNear("heading", p.told[heading], at.Heading, 0.05)
		if at.Heading < 20 {
			t.Errorf("the heading is %v", at.Heading)
		}
		before := p.told[left]
		p.drive(-1, 0, 500*time.Millisecond)
		p.halt()
		if p.told[left] <= before {
			t.Errorf("a wheel that rolls back has %v counts after %v", p.told[left], before)
		}

		// Into a wall, and out of it.
		p.put(&Room{Width: 3, Depth: 20}, 2, 2, 0)
		counts := p.told[right]
		p.drive(1, 1, 4*time.Second)
		p.halt()
		at = p.look()
		p.wantNear("at the wall", at.X, 3-carRadius, 1e-9)
		p.wantNear("distance at the wall", p.told[sonar], 0, 0)
		p.wantNear("bumper at the wall", p.told[bumper], 1, 0)
		p.wantNear("metres of the wheels, which slip", (p.told[right]-counts)/20*math.Pi*0.065, 4*topSpeed, 0.2)
		p.drive(-1, -1, 500*time.Millisecond)
		p.halt()
		p.wantNear("bumper behind", p.told[bumper], 0, 0)
		if p.told[sonar] < 0.2 {
			t.Errorf("driven back, the wall is %v m ahead", p.told[sonar])
		}

		// Along the room there is nothing within the sensor's range.
		p.drive(-0.2, 0.2, 10*time.Millisecond)
		p.put(&Room{Width: 20, Depth: 20}, 10, 10, 0)
		p.halt()
		if p.told[sonar] != NoEcho {
			t.Errorf("far from everything the distance is %v", p.told[sonar])
		}
	})
}

// At a slant the car glides along the wall.
func TestGlide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := depart(t, Config{})
		defer p.stop()
		p.put(&Room{Width: 3, Depth: 20}, 2.8, startY, math.Pi/4)
		p.drive(1, 1, 2*time.Second)
		p.halt()
		at := p.look()
		p.wantNear("x", at.X, 3-carRadius, 1e-9)
		p.wantNear("y", at.Y, startY+topSpeed*(2-driveLag.Seconds()+coastLag.Seconds())/math.Sqrt2, 0.03)
	})
}

// The simulated car does not drive into a wall, says why, and can be driven out of there.
func TestSimulatedCarStopsBeforeTheWall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := depart(t, SimulatedCar(0, DefaultDeadTime))
		defer p.stop()
		p.drive(1, 1, 10*time.Second)
		p.look()
		if d := p.told[0]; d < 0.02 || d > rollOut || p.last.Cause != CauseSensor || p.last.Left != 0 {
			t.Errorf("%v m before the wall the state is %+v", d, p.last)
		}
		var sender inbox
		try := func(left, right float64) error {
			p.Do(Command{Kind: Drive, Left: left, Right: right, At: time.Now(), From: &sender})
			synctest.Wait()
			return sender.take(t).Err
		}
		if err := try(1, 1); !errors.Is(err, ErrBlocked) {
			t.Errorf("driving on was answered with %v", err)
		}
		if err := try(1, -1); err != nil {
			t.Error(err)
		}
		p.drive(-1, -1, time.Second)
		p.halt()
		if err := try(1, 1); err != nil {
			t.Error(err)
		}
	})
}

// The camera follows its servos as fast as they turn, and stays when they get no more pulses.
func TestCameraOfTheWorld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := SimulatedCar(0, 0)
		cfg.Pan.Home, cfg.Pan.MinPulse, cfg.Pan.MaxPulse = 10, 2*time.Millisecond, time.Millisecond // mounted upside down
		p := depart(t, cfg)
		defer p.stop()
		if at := p.look(); at.Pan != 10 || at.Tilt != 0 {
			t.Errorf("at the start %+v", at)
		}
		p.Do(Command{Kind: Look, Pan: 70, Tilt: -30, At: time.Now()})
		synctest.Wait()
		time.Sleep(50 * time.Millisecond)
		at := p.look()
		p.wantNear("pan on its way", at.Pan, 40, 0.01)
		p.wantNear("tilt", at.Tilt, -30, 0.01)
		for range 2 {
			time.Sleep(10 * time.Second)
			at = p.look()
			p.wantNear("pan", at.Pan, 70, 0.01)
			p.wantNear("tilt", at.Tilt, -30, 0.01)
		}
	})
}

func TestWorldBeginsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := SimulatedCar(0, 0)
		reports := 0
		w := NewWorld(&cfg, func(int, float64) { reports++ })
		if w.Pose(); reports != 0 {
			t.Errorf("%d reports before the first values", reports)
		}
		if err := w.Set([]float64{1, 0, 1, 1, 0, 1, 0, 0}); err != nil || reports != len(cfg.Sensors) {
			t.Fatalf("%v, %d reports", err, reports)
		}
		before := reports
		w.Close()
		time.Sleep(time.Second)
		w.tick() // one that was on its way
		synctest.Wait()
		if err := w.Set(make([]float64, 8)); !errors.Is(err, os.ErrClosed) || reports != before {
			t.Errorf("after the end: %v, %d reports", err, reports-before)
		}
	})
}

// Whatever is driven, with whatever driver: the car is somewhere in the room, in none of its things, its battery does
// not get fuller, and nothing is without number.
func TestWorldProperty(t *testing.T) {
	var names []string
	for name := range drivers {
		names = append(names, name)
	}
	touched := 0
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			cfg := SimulatedCar(0, DefaultDeadTime)
			cfg.Motors = drivers[names[rnd.IntN(len(names))]].motors
			cfg.Motors.Frequency = 100
			cfg.Sensors[0].Stop = 0 // so that it meets walls
			cfg.Sensors = append(cfg.Sensors, Sensor{Name: "bumper", Kind: Contact})
			p := depart(t, cfg)
			defer p.stop()
			used := 0.0
			for range 100 {
				cmd := Command{Kind: Drive, Left: 1.2 - 2*rnd.Float64(), Right: 1.2 - 2*rnd.Float64(), At: time.Now(), TTL: MaxTTL}
				switch rnd.IntN(6) {
				case 0:
					cmd.Kind = Stop
				case 1:
					cmd.Kind, cmd.Pan = Turn, 100*rnd.NormFloat64()
				case 2, 3:
					cmd.Left, cmd.Right = 1, 1
				}
				p.Do(cmd)
				synctest.Wait()
				time.Sleep(time.Duration(rnd.IntN(800)) * time.Millisecond)
				at := p.look()
				if gap := free(&theRoom, at.X, at.Y); !(gap > carRadius-1e-9) {
					t.Fatalf("seed %d: at %+v there are %v m of room", seed, at, gap)
				}
				if v := p.battery.volts(); !(p.battery.used >= used) || !(v > 6 && v <= fullVolts) {
					t.Fatalf("seed %d: %v ampere seconds used, %v before, %v V", seed, p.battery.used, used, v)
				}
				if !(math.Abs(p.wheels[0].speed) <= topSpeed && math.Abs(p.wheels[1].speed) <= topSpeed && math.Abs(at.Heading) <= 180 && math.Abs(at.Pan) <= 90.01) {
					t.Fatalf("seed %d: %+v, %v and %v m/s", seed, at, p.wheels[0].speed, p.wheels[1].speed)
				}
				used = p.battery.used
				touched += int(p.told[len(p.told)-1])
			}
		})
	}
	if touched < 50 {
		t.Errorf("the car was at a wall %d times: that shows nothing", touched)
	}
}

// free returns how far a point is from the nearest thing.
func free(r *Room, x, y float64) float64 {
	gap := min(x, r.Width-x, y, r.Depth-y)
	for _, p := range r.Posts {
		gap = min(gap, math.Hypot(x-p.X, y-p.Y)-p.Radius)
	}
	for _, b := range r.Boxes {
		gap = min(gap, math.Hypot(max(b.X0-x, 0, x-b.X1), max(b.Y0-y, 0, y-b.Y1)))
	}
	return gap
}

// Simulating makes no garbage, and takes next to no time.
func BenchmarkWorldStep(b *testing.B) {
	cfg := SimulatedCar(0, 0)
	w := NewWorld(&cfg, func(int, float64) {})
	w.Set([]float64{1, 0, 1, 1, 0, 0.8, 0, 0})
	defer w.Close()
	b.ReportAllocs()
	for b.Loop() {
		w.step(worldStep)
		w.distance()
	}
}
