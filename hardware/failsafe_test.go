package hardware

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// The failsafe holds for any sequence of commands and readings, on any driver: a motor runs only while a drive command
// younger than the time to live has come after the last stop, none runs while the emergency stop holds, the car does not
// go ahead against a sensor, no bridge is driven both ways nor reversed without the dead time (tape sees to that), and
// every command is answered once.
func TestFailsafeProperty(t *testing.T) {
	for seed := range uint64(400) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			cfg := pwmMotors(func(m *Motors) {
				m.Driver = []Driver{L298N, TB6612FNG, TwoPin, Relay}[rnd.IntN(4)]
				m.Frequency, m.Slew, m.Brake = float64(rnd.IntN(2)*100), float64(rnd.IntN(2)*4), rnd.IntN(2) == 0
				for _, side := range []*Motor{&m.Left, &m.Right} {
					if m.Driver == TwoPin || m.Driver == Relay {
						side.Enable = ""
					}
					if m.Driver == Relay {
						side.Backward = ""
					}
				}
			})
			cfg.Pan, cfg.Tilt = testServo, testServo
			cfg.Sensors = []Sensor{{Name: "bumper", Kind: Contact, Stop: 1}}
			_, left, right, standby, _, _ := cfg.layout()
			r := start(t, cfg)
			defer r.end()
			var allowed time.Time // until when a motor may run
			latched, pressed := false, false
			sent := 0
			for range 100 {
				now := time.Now()
				if rnd.IntN(5) == 0 {
					pressed = !pressed
					value := 0.0
					if pressed {
						value = 1
					}
					r.Report(0, value)
					synctest.Wait()
				}
				cmd := Command{At: now.Add(-time.Duration(rnd.IntN(700)) * time.Millisecond), From: &r.sender} // most are to drive
				if rnd.IntN(3) == 0 {
					cmd.Kind = Kind(rnd.IntN(int(Centre) + 1))
				}
				switch cmd.Kind {
				case Drive:
					cmd.Left, cmd.Right = rnd.Float64()*2-1, float64(rnd.IntN(3)-1)
					cmd.TTL = time.Duration(rnd.IntN(3)) * 200 * time.Millisecond
					ttl := cmd.TTL
					if ttl == 0 {
						ttl = DefaultTTL
					}
					ahead := cmd.Left+cmd.Right > 0
					if cfg.Motors.Driver == Relay {
						ahead = cmd.Left > 0 || cmd.Right > 0
					}
					if lease := cmd.At.Add(ttl); lease.After(now) && !latched && !(pressed && ahead) {
						allowed = lease
					}
				case Stop:
					allowed = time.Time{}
				case EStop:
					allowed, latched = time.Time{}, true
				case Reset:
					latched = false
				}
				r.Do(cmd)
				sent++
				for range 1 + rnd.IntN(4) {
					s := r.state()
					left, right := left.shares(r.lines.now(), standby).duty(), right.shares(r.lines.now(), standby).duty()
					moves := left != 0 || right != 0
					if moves && !time.Now().Before(allowed) {
						t.Fatalf("seed %d: lines are %v, but no lease holds", seed, r.lines.now())
					}
					if s.EStop != latched || moves && latched || pressed && left+right > 1e-9 {
						t.Fatalf("seed %d: latched %v, pressed %v, the state is %+v", seed, latched, pressed, s)
					}
					time.Sleep(time.Duration(rnd.IntN(2)*rnd.IntN(300)) * time.Millisecond)
				}
			}
			if len(r.sender.results) != sent {
				t.Errorf("seed %d: %d commands, %d answers", seed, sent, len(r.sender.results))
			}
		})
	}
}
