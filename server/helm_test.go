package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

// However viewers come, command, fall silent and go: there is one driver at most, it keeps the helm while it uses it,
// and a free helm goes to whoever asks first.
func TestHelm(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var h helm
		now := time.Now()
		var driver uint64 // what must be so
		var used time.Time
		for range 200 {
			id := rnd.Uint64N(4) + 1
			now = now.Add(time.Duration(rnd.Int64N(int64(helmIdle) / 2)))
			if driver != 0 && now.Sub(used) >= helmIdle {
				driver = 0
			}
			if rnd.IntN(5) == 0 {
				if got := h.release(id); got && driver != 0 && driver != id {
					t.Fatalf("%d gave back the helm of %d", id, driver)
				}
				if driver == id {
					driver = 0
				}
				continue
			}
			got, want := h.take(id, now), driver == 0 || driver == id
			if got != want {
				t.Fatalf("%d takes the helm of %d: %v", id, driver, got)
			}
			if got {
				driver, used = id, now
			}
		}
	}
}
