package hardware

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// answer is a Sender that hands on when it heard.
type answer chan time.Time

func (a answer) Done(Command, Result) { a <- time.Now() }

// percentiles sorts durations and returns their median, 99th percentile and maximum.
func percentiles(all []time.Duration) (p50, p99, most time.Duration) {
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
}

// stopUnderLoad has 100 controllers send 10,000 motions a second, and returns how long stops among them took from Do until
// the lines had fallen.
func stopUnderLoad(t *testing.T, car *Car) []time.Duration {
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var controllers sync.WaitGroup
	for range 100 {
		controllers.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				car.Do(Command{Kind: Drive, Left: rand.Float64(), Right: rand.Float64(), At: time.Now()})
				<-tick.C
			}
		})
	}
	var took []time.Duration
	done := make(answer, 1)
	for range 300 {
		begin := time.Now()
		car.Do(Command{Kind: Stop, At: begin, From: done})
		took = append(took, (<-done).Sub(begin))
		time.Sleep(5 * time.Millisecond) // the motions go on, and so does the car
	}
	end()
	controllers.Wait()
	return took
}

// On real lines, with software PWM, a stop takes hold at once however many motions pour in. (The bound is generous: it is
// there for a stop that waits behind motion, which would take as long as the motions do.)
func TestGPIOStopUnderLoad(t *testing.T) {
	simulate(t, pi("pinctrl-bcm2711", true))
	cfg := l298n
	cfg.Motors.Frequency = 100
	lines, _, err := OpenLines(cfg.Outputs())
	if err != nil {
		t.Fatal(err)
	}
	car := New(cfg, lines, nil, func(State) {})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- car.Run(ctx) }()
	p50, p99, most := percentiles(stopUnderLoad(t, car))
	t.Logf("10,000 motions a second from 100 controllers: a stop took p50 %s, p99 %s, max %s", p50, p99, most)
	if p99 > 200*time.Millisecond {
		t.Errorf("the p99 is %s", p99)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
