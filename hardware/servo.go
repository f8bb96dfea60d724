package hardware

import (
	"math"
	"time"
)

// Servo is a servo motor for models, as the SG90: the width of its pulses is where it turns to.
type Servo struct {
	Line               string
	MinPulse, MaxPulse time.Duration // at MinAngle and MaxAngle, either may be the longer; beyond what it is made for it may break
	MinAngle, MaxAngle float64       // degrees; right and up are positive
	Home               float64       // degrees
	Speed              float64       // degrees per second at most; zero is as fast as it can
}

const (
	servoPeriod = 20 * time.Millisecond // SG90 datasheet
	// settleTime is for how long the pulses go on when the last has named the place: what the slowest servo needs for its
	// whole way (0.1 s per 60 degrees). Without pulses it neither hums nor draws power.
	settleTime = 500 * time.Millisecond
)

// servo is what turns one servo.
type servo struct {
	cfg    Servo
	output int // index among the car's outputs; -1 where there is none

	want, at float64   // degrees
	moved    time.Time // when at last changed; zero when it rests and has no pulses
}

func newServo(cfg Servo, output int) servo {
	return servo{cfg: cfg, output: output, want: cfg.Home, at: cfg.Home}
}

// turn makes an angle the aim, as far as it goes.
func (s *servo) turn(angle float64, now time.Time) {
	s.want = min(max(angle, s.cfg.MinAngle), s.cfg.MaxAngle)
	if s.moved.IsZero() {
		s.moved = now.Add(-servoPeriod)
	}
}

// step moves the servo towards its aim as far as the time allows, and returns when it is to be called again; zero is never.
func (s *servo) step(now time.Time) time.Time {
	if s.moved.IsZero() {
		return time.Time{}
	}
	d := s.want - s.at
	if d == 0 {
		if rest := s.moved.Add(settleTime); now.Before(rest) {
			return rest
		}
		s.moved = time.Time{}
		return time.Time{}
	}
	if s.cfg.Speed == 0 {
		s.at, s.moved = s.want, now
		return now.Add(settleTime)
	}
	passed := now.Sub(s.moved)
	if passed < servoPeriod {
		return s.moved.Add(servoPeriod)
	}
	s.moved = now
	if most := s.cfg.Speed * min(passed, 2*servoPeriod).Seconds(); math.Abs(d) > most {
		s.at += math.Copysign(most, d)
		return now.Add(servoPeriod)
	}
	s.at = s.want
	return now.Add(settleTime)
}

// write puts the value of the servo's output.
func (s *servo) write(values []float64) {
	if s.output < 0 {
		return
	}
	values[s.output] = 0
	if !s.moved.IsZero() {
		values[s.output] = s.pulse().Seconds() / servoPeriod.Seconds()
	}
}

// pulse returns the width that names the angle at which the servo is to be.
func (s *servo) pulse() time.Duration {
	c := &s.cfg
	share := (s.at - c.MinAngle) / (c.MaxAngle - c.MinAngle)
	return c.MinPulse + time.Duration(math.Round(share*float64(c.MaxPulse-c.MinPulse)))
}
