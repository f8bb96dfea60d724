package hardware

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The outputs of each driver for each thing a motor can do, in the order IN1, IN2, EN (where it is wired): the makers'
// truth tables. A speed of 0.5 has a duty of 0.5.
func TestTruthTables(t *testing.T) {
	type row = []float64
	for _, tt := range []struct {
		name                     string
		driver                   Driver
		lines                    Motor
		brake                    bool
		ahead, half, back, stand row
	}{
		{"L298N", L298N, Motor{Forward: "1", Backward: "2", Enable: "E"}, false,
			row{1, 0, 1}, row{1, 0, 0.5}, row{0, 1, 1}, row{0, 0, 0}},
		{"L298N, braked", L298N, Motor{Forward: "1", Backward: "2", Enable: "E"}, true,
			row{1, 0, 1}, row{1, 0, 0.5}, row{0, 1, 1}, row{0, 0, 1}},
		{"L298N with its jumper", L298N, Motor{Forward: "1", Backward: "2"}, false,
			row{1, 0}, row{0.5, 0}, row{0, 1}, row{0, 0}},
		{"TB6612FNG", TB6612FNG, Motor{Forward: "1", Backward: "2", Enable: "E"}, false,
			row{1, 0, 1}, row{1, 0, 0.5}, row{0, 1, 1}, row{0, 0, 0}},
		{"TB6612FNG, braked", TB6612FNG, Motor{Forward: "1", Backward: "2", Enable: "E"}, true,
			row{1, 0, 1}, row{1, 0, 0.5}, row{0, 1, 1}, row{1, 1, 1}},
		{"two pins", TwoPin, Motor{Forward: "1", Backward: "2"}, false,
			row{1, 0}, row{0.5, 0}, row{0, 1}, row{0, 0}},
		{"two pins, braked", TwoPin, Motor{Forward: "1", Backward: "2"}, true,
			row{1, 0}, row{0.5, 0}, row{0, 1}, row{1, 1}},
		{"relay", Relay, Motor{Forward: "1"}, false,
			row{1}, row{1}, row{0}, row{0}},
		{"relay, which can't brake", Relay, Motor{Forward: "1"}, true,
			row{1}, row{1}, row{0}, row{0}},
		{"inverted", TwoPin, Motor{Forward: "1", Backward: "2", Invert: true}, false,
			row{1, 0}, row{0.5, 0}, row{0, 1}, row{0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := Config{Motors: Motors{Driver: tt.driver, Left: tt.lines, Brake: tt.brake, Frequency: 100}}
			outputs, m, _, _, _, _ := cfg.layout()
			first := "1"
			if tt.lines.Invert {
				first = "2" // the roles stay, the lines change
			}
			if outputs[0].Role != "left.forward" || outputs[0].Line != first {
				t.Errorf("the outputs are %+v", outputs)
			}
			for _, want := range []struct {
				speed float64
				row   row
			}{{1, tt.ahead}, {0.5, tt.half}, {-1, tt.back}, {0, tt.stand}} {
				d, speed, wait := m.next(m.able(want.speed), time.Now())
				values := make([]float64, len(outputs))
				m.write(values, d, speed)
				if !slices.Equal(values, want.row) || !wait.IsZero() {
					t.Errorf("at %v: %v until %v, want %v", want.speed, values, wait, want.row)
				}
			}
		})
	}
}

func TestDuty(t *testing.T) {
	for _, tt := range []struct {
		motor       Motor
		speed, want float64
	}{
		{Motor{}, 1, 1},
		{Motor{}, 0.3, 0.3},
		{Motor{Min: 0.4}, 0.5, 0.7},
		{Motor{Min: 0.4}, 0.001, 0.4006},
		{Motor{Max: 0.5}, 1, 0.5},
		{Motor{Min: 0.2, Max: 0.8}, 0.5, 0.5},
		{Motor{Trim: 0.9}, 1, 0.9},
		{Motor{Trim: 0.5, Min: 0.2}, 1, 0.6},
	} {
		if got := (&motor{cfg: tt.motor}).duty(tt.speed); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%+v at %v has a duty of %v, want %v", tt.motor, tt.speed, got, tt.want)
		}
	}
}

// pwmMotors are testMotors with speeds.
func pwmMotors(change func(*Motors)) Config {
	m := testMotors
	m.Frequency = 100
	change(&m)
	return Config{Motors: m}
}

func TestSpeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, pwmMotors(func(m *Motors) { m.Right.Trim = 0.5 }))
		defer r.end()
		r.drive(0.6, -0.6)
		r.wantLines("at 60 %", 1, 0, 0.6, 0, 1, 0.3)
		if s := r.state(); s.Left != 0.6 || s.Right != -0.6 || s.Outputs[leftEnable] != 0.6 {
			t.Errorf("the state is %+v", s)
		}
		r.drive(0.2, -0.6)
		r.wantLines("slower on the left", 1, 0, 0.2, 0, 1, 0.3)
	})
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{}) // on and off only
		defer r.end()
		r.drive(0.2, -0.2)
		if s := r.state(); s.Left != 1 || s.Right != -1 {
			t.Errorf("the state tells what was asked, not what is: %+v", s)
		}
	})
}

// The speed changes by no more than the slew rate, whatever wakes the car on the way; a stop is a stop.
func TestSlew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, pwmMotors(func(m *Motors) { m.Slew = 5 })) // 0 to 1 in 200 ms
		defer r.end()
		begin := time.Now()
		for range 40 {
			r.drive(1, 1)
			r.do(Command{Kind: Reset}) // changes nothing, but wakes the car
			passed := time.Since(begin)
			if most := 5*passed.Seconds() + 0.05; r.state().Left > most+1e-9 {
				t.Fatalf("after %s the speed is %v", passed, r.state().Left)
			}
			time.Sleep(7 * time.Millisecond)
		}
		r.wantLines("at last", 1, 0, 1, 1, 0, 1)
		r.drive(0.5, 1)
		r.wantLines("a first step down", 1, 0, 0.95, 1, 0, 1)
		time.Sleep(100 * time.Millisecond)
		r.wantLines("half", 1, 0, 0.5, 1, 0, 1)
		r.do(Command{Kind: Stop})
		r.wantLines("stopped at once", 0, 0, 0, 0, 0, 0)
		r.drive(1, 1)
		r.wantLines("and slow again", 1, 0, 0.05, 1, 0, 0.05)
		r.drive(-1, 1)
		time.Sleep(DefaultDeadTime)
		r.wantLines("after the dead time", 0, 1, 0.05, 1, 0, 0.55)
	})
}

func TestStandby(t *testing.T) {
	car := func(brake bool) Config {
		return pwmMotors(func(m *Motors) { m.Driver, m.Standby, m.Brake = TB6612FNG, "STBY", brake })
	}
	synctest.Test(t, func(t *testing.T) {
		r := start(t, car(false))
		defer r.end()
		r.wantLines("at the start", 0, 0, 0, 0, 0, 0, 0)
		r.drive(0, 1)
		r.wantLines("driven", 0, 0, 0, 1, 0, 1, 1)
		r.do(Command{Kind: Stop})
		r.wantLines("stopped", 0, 0, 0, 0, 0, 0, 0)
	})
	synctest.Test(t, func(t *testing.T) {
		r := start(t, car(true))
		defer r.end()
		r.drive(0, 1)
		r.wantLines("driven", 1, 1, 1, 1, 0, 1, 1)
		r.do(Command{Kind: Stop})
		r.wantLines("braked", 1, 1, 1, 1, 1, 1, 1)
	})
}

// On the way from any motion to any other no driver ever sees both ways at once, nor the other way within the dead time,
// but for a brake.
func TestEveryTransition(t *testing.T) {
	for _, driver := range []Driver{L298N, TB6612FNG, TwoPin, Relay} {
		for _, brake := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				cfg := pwmMotors(func(m *Motors) {
					m.Driver, m.Brake = driver, brake
					if driver == TwoPin || driver == Relay {
						m.Left.Enable, m.Right.Enable = "", ""
					}
					if driver == Relay {
						m.Left.Backward, m.Right.Backward = "", ""
					}
				})
				r := start(t, cfg)
				defer r.end()
				speeds := []float64{-1, -0.5, 0, 0.5, 1}
				for _, from := range speeds {
					for _, to := range speeds {
						r.drive(from, from)
						time.Sleep(DefaultDeadTime)
						synctest.Wait()
						first := len(r.lines.steps)
						r.drive(to, to)
						time.Sleep(DefaultDeadTime)
						synctest.Wait()
						if n := len(r.lines.steps) - first; n > 2 {
							t.Errorf("%s: from %v to %v takes %d steps", driver, from, to, n)
						}
						want := to
						if driver == Relay {
							want = math.Ceil(max(to, 0))
						}
						if s := r.state(); s.Left != want || s.Right != want {
							t.Errorf("%s: from %v to %v leads to %+v", driver, from, to, s)
						}
					}
				}
			})
		}
	}
}
