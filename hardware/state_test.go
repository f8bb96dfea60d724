package hardware

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// asker looks at the state when its command is answered.
type asker func(Result)

func (a asker) Done(_ Command, r Result) { a(r) }

// Who is told the outcome of a command may ask for the state at once: it is known by then, whatever waits behind.
func TestStateComesBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last State // on the car's goroutine, as the answers are
		car := New(Config{Motors: testMotors}, &tape{t: t}, nil, func(s State) { last = s })
		answered := 0
		for _, kind := range []Kind{EStop, Reset, EStop} { // all in one turn
			car.Do(Command{Kind: kind, At: time.Now(), From: asker(func(r Result) {
				answered++
				if last.Seq != r.Seq || last.EStop != (kind == EStop) {
					t.Errorf("command %d is answered with %+v, and the state is %+v", answered, r, last)
				}
			})})
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- car.Run(ctx) }()
		synctest.Wait()
		stop()
		if err := <-ended; err != nil || answered != 3 {
			t.Errorf("%d of 3 were answered, and it ended with %v", answered, err)
		}
	})
}
