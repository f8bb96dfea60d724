package hardware

import (
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestPulseWidths(t *testing.T) {
	for _, tt := range []struct {
		servo Servo
		angle float64
		want  time.Duration
	}{
		{testServo, 0, 1500 * time.Microsecond},
		{testServo, -90, time.Millisecond},
		{testServo, 45, 1750 * time.Microsecond},
		{testServo, 1000, 2 * time.Millisecond},  // its limits
		{testServo, -1000, 1 * time.Millisecond}, // hold
		{Servo{Line: "S", MinPulse: 600 * time.Microsecond, MaxPulse: 2400 * time.Microsecond, MinAngle: 0, MaxAngle: 180}, 60, 1200 * time.Microsecond},
		{Servo{Line: "S", MinPulse: 2400 * time.Microsecond, MaxPulse: 600 * time.Microsecond, MinAngle: 0, MaxAngle: 180}, 60, 1800 * time.Microsecond},
	} {
		s := newServo(tt.servo, 0)
		s.turn(tt.angle, time.Now())
		s.step(time.Now())
		values := make([]float64, 1)
		s.write(values)
		if got := time.Duration(math.Round(values[0] * float64(servoPeriod))); got != tt.want {
			t.Errorf("%+v at %v degrees has pulses of %s, want %s", tt.servo, tt.angle, got, tt.want)
		}
	}
}

const panOutput = rightEnable + 1

func TestCamera(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tilt := testServo
		tilt.Home = -20
		r := start(t, Config{Pan: testServo, Tilt: tilt})
		defer r.end()
		for _, tt := range []struct {
			cmd       Command
			pan, tilt float64
		}{
			{Command{Kind: Look, Pan: 20, Tilt: -10}, 20, -10},
			{Command{Kind: Turn, Pan: 5}, 25, -10},
			{Command{Kind: Turn, Tilt: -200}, 25, -90},
			{Command{Kind: Look, Pan: 1000}, 90, 0},
			{Command{Kind: Centre}, 0, -20},
		} {
			if res := r.do(tt.cmd); !res.Applied {
				t.Errorf("%+v was answered with %+v", tt.cmd, res)
			}
			if s := r.state(); s.Pan != tt.pan || s.Tilt != tt.tilt {
				t.Errorf("%+v led to %+v", tt.cmd, s)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		defer r.end()
		if res := r.do(Command{Kind: Turn, Pan: 5}); res.Applied || !errors.Is(res.Err, ErrNoCamera) {
			t.Errorf("without servos: %+v", res)
		}
	})
}

// A servo has pulses while it turns and until it has certainly arrived, and then none.
func TestServoRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{Pan: testServo, Tilt: testServo})
		defer r.end()
		if v := r.lines.now()[panOutput]; v != 0 {
			t.Errorf("before the first command the output is %v", v)
		}
		r.do(Command{Kind: Turn, Pan: 45})
		time.Sleep(settleTime - time.Millisecond)
		synctest.Wait()
		if v := r.lines.now()[panOutput]; v != 1.75/20 {
			t.Errorf("on its way the output is %v", v)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if v := r.lines.now()[panOutput]; v != 0 {
			t.Errorf("at rest the output is %v", v)
		}
	})
}

// A servo with a speed limit is led to its aim in small steps, one a period, also when the aim changes on the way.
func TestServoSpeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := testServo
		slow.Speed = 100 // degrees per second
		r := start(t, Config{Pan: slow, Tilt: testServo})
		defer r.end()
		r.do(Command{Kind: Look, Pan: 50})
		begin, last := time.Now(), 0.0
		for r.state().Pan < 50 {
			time.Sleep(3 * time.Millisecond)
			r.do(Command{Kind: Reset}) // wakes the car
			pan, passed := r.state().Pan, time.Since(begin)
			if pan < last || pan > 2+100*passed.Seconds()+1e-9 {
				t.Fatalf("after %s it is at %v, before at %v", passed, pan, last)
			}
			last = pan
		}
		if passed := time.Since(begin); passed < 480*time.Millisecond || passed > 600*time.Millisecond {
			t.Errorf("50 degrees took %s", passed)
		}
		r.do(Command{Kind: Centre})
		time.Sleep(250 * time.Millisecond)
		r.do(Command{Kind: Turn, Pan: 10}) // from its aim, 0
		time.Sleep(settleTime)
		synctest.Wait()
		if pan := r.state().Pan; pan != 10 {
			t.Errorf("in the end it is at %v", pan)
		}
	})
}
