package hardware

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// One wheel after its time constants, as by the formula; half a speed is half the top speed, and no less than the motor
// can do.
func TestWheelSpeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, brakes := range []bool{false, true} {
			m := SimulatedCar(0, DefaultDeadTime).Motors
			m.Brake = brakes
			p := depart(t, Config{Motors: m})
			left := func() float64 { p.look(); return p.wheels[0].speed }
			p.drive(1, 1, driveLag)
			p.wantNear("a time constant after the start", left(), topSpeed*(1-1/math.E), 0.02)
			p.drive(1, 1, time.Second)
			top := left()
			p.wantNear("at full speed", top, topSpeed, 0.01)
			p.drive(0.5, 0.5, time.Second)
			p.wantNear("at half speed", left(), topSpeed/2, 0.01)
			p.drive(0.01, 0.01, time.Second)
			p.wantNear("at the slowest", left(), topSpeed/100, 0.001)
			p.drive(-1, -1, 2*time.Second)
			p.wantNear("at full speed back", left(), -topSpeed, 0.01)
			lag := coastLag
			if brakes {
				lag = brakeLag
			}
			top = left()
			p.Do(Command{Kind: Stop, At: time.Now()})
			synctest.Wait()
			time.Sleep(lag)
			p.wantNear("a time constant after the stop", left(), top/math.E, 0.001)
			p.halt()
			if left() != 0 {
				t.Errorf("it still rolls: %v", left())
			}
			p.stop()
		}
	})
}

// A motor that gets too little hums: it draws a current and stands.
func TestHum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := SimulatedCar(0, 0).Motors
		m.Left.Min, m.Right.Min = 0, 0
		p := depart(t, Config{Motors: m, Sensors: []Sensor{{Name: "battery_v", Kind: Truth}}})
		defer p.stop()
		start := p.look()
		p.drive(0.19, 0.19, time.Second)
		if p.look() != start || p.told[0] >= fullVolts {
			t.Errorf("it is at %+v, the battery has %v V", p.look(), p.told[0])
		}
		p.halt()
		p.wantNear("the battery's voltage afterwards", p.told[0], fullVolts, 0.005)
		p.drive(0.21, 0.21, time.Second)
		if x := p.look().X; x <= start.X || x > start.X+0.02 {
			t.Errorf("hardly powered it went from %v to %v", start.X, x)
		}
	})
}

// With two speeds the car goes around in a circle, which comes back to where it began.
func TestCircle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := depart(t, Config{})
		defer p.stop()
		p.put(&Room{Width: 100, Depth: 100}, 50, 50, 0)
		p.drive(0.4, 0.6, 2*time.Second)
		at := p.look()
		left, right := p.wheels[0].speed, p.wheels[1].speed
		radius, heading := trackWidth/2*(right+left)/(right-left), at.Heading*math.Pi/180
		cx, cy := at.X-radius*math.Sin(heading), at.Y+radius*math.Cos(heading)
		for range 50 {
			p.drive(0.4, 0.6, 100*time.Millisecond)
			at := p.look()
			p.wantNear("radius", math.Hypot(at.X-cx, at.Y-cy), radius, 0.001)
			if outward := at.Heading*math.Pi/180 - math.Pi/2; math.Abs(math.Remainder(math.Atan2(at.Y-cy, at.X-cx)-outward, 2*math.Pi)) > 0.01 {
				t.Errorf("at %+v it does not look along the circle around %v, %v", at, cx, cy)
			}
		}
	})
}

// It drives for hours, and its voltage stays within what two cells have.
func TestBatteryLastsForHours(t *testing.T) {
	var b battery
	left := wheel{shares: shares{ahead: 1}}
	seconds, speed := 0, 0.0
	for ; b.used < capacity; seconds++ {
		_, amps := left.roll(b.volts(), time.Second)
		b.draw(2*amps, time.Second)
		if v := b.volts(); v < 6 || v > fullVolts || v < emptyVolts-0.5 {
			t.Fatalf("%v V after %d s", v, seconds)
		}
		if seconds == 10 {
			speed = left.speed
		}
	}
	if hours := float64(seconds) / 3600; hours < 5 || hours > 10 {
		t.Errorf("it lasts for %v hours", hours)
	}
	if left.speed > speed*0.8 || left.speed < speed*0.6 {
		t.Errorf("at first it drives at %v m/s, at last at %v", speed, left.speed)
	}
}
