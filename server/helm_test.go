package main

import (
	"iter"
	"math/rand/v2"
	"testing"
	"time"
)

// helmStep is what a client does to the helm, so long after the last did something.
type helmStep struct {
	after    time.Duration
	who, act int
}

const helmActs = 6 // see checkHelm

// checkHelm takes a helm through steps beside a model of what must be so: there is one driver at most, who keeps the helm
// until it gives it up, leaves, is silent for helmIdle, or leaves a claim unanswered for claimTime; and a free helm is
// anyone's.
func checkHelm(t *testing.T, steps iter.Seq[helmStep]) (handovers, refusals, timeouts int) {
	const nobody = 0
	var h helm[int]
	now := time.Now()
	driver, used := nobody, now
	claimant, until := nobody, now
	refused, refusedUntil := nobody, now
	pass := func() { driver, claimant, used, refused = claimant, nobody, now, nobody }
	for step := range steps {
		who := step.who
		now = now.Add(step.after)
		if next := h.next(); (driver == nobody) != next.IsZero() || driver != nobody && next.After(used.Add(helmIdle)) {
			t.Fatalf("the helm of %d has to settle at %v", driver, next)
		}
		if claimant != nobody && !now.Before(until) || driver != nobody && now.Sub(used) >= helmIdle {
			if claimant != nobody {
				timeouts++
			}
			pass()
		}
		mayAnswer := driver == who && claimant != nobody
		switch step.act {
		case 0:
			h.settle(now)
		case 1:
			want := driver == nobody || driver == who
			if got := h.take(who, now); got != want {
				t.Fatalf("%d takes the helm of %d: %v", who, driver, got)
			}
			if want {
				driver, used = who, now
			}
		case 2:
			want := asked
			switch {
			case driver == nobody, driver == who:
				driver, used, want = who, now, taken
			case claimant == who:
			case claimant != nobody:
				want = othersClaim
			case refused == who && now.Before(refusedUntil):
				want = stillRefused
			default:
				claimant, until = who, now.Add(claimTime)
			}
			if got := h.claim(who, now); got != want {
				t.Fatalf("%d claims the helm of %d: %d, want %d", who, driver, got, want)
			}
		case 3:
			if got := h.grant(who, now); got != mayAnswer {
				t.Fatalf("%d grants the helm of %d to %d: %v", who, driver, claimant, got)
			}
			if mayAnswer {
				handovers++
				pass()
			}
		case 4:
			if got := h.refuse(who, now); got != mayAnswer {
				t.Fatalf("%d refuses the helm of %d to %d: %v", who, driver, claimant, got)
			}
			if mayAnswer {
				refusals++
				refused, refusedUntil, claimant = claimant, now.Add(refusalTime), nobody
			}
		case 5:
			want := driver == who || claimant == who
			if got := h.release(who, now); got != want {
				t.Fatalf("%d releases the helm of %d, which %d claims: %v", who, driver, claimant, got)
			}
			if driver == who {
				pass()
			} else if claimant == who {
				claimant = nobody
			}
		}
		if h.driver != driver || h.claimant != claimant {
			t.Fatalf("%d drives and %d claims, want %d and %d", h.driver, h.claimant, driver, claimant)
		}
	}
	return handovers, refusals, timeouts
}

// However clients come, drive, claim, answer, fall silent and go, the helm is as it should be.
func TestHelm(t *testing.T) {
	const clients = 5
	rnd := rand.New(rand.NewPCG(1, 2))
	var sum [3]int
	for range 2000 {
		a, b, c := checkHelm(t, func(yield func(helmStep) bool) {
			for range 100 {
				if !yield(helmStep{time.Duration(rnd.Int64N(int64(helmIdle) / 3)), rnd.IntN(clients) + 1, rnd.IntN(helmActs)}) {
					return
				}
			}
		})
		sum[0], sum[1], sum[2] = sum[0]+a, sum[1]+b, sum[2]+c
	}
	if min(sum[0], sum[1], sum[2]) < 100 {
		t.Errorf("%d handovers, %d refusals, %d timeouts: the schedule is too dull", sum[0], sum[1], sum[2])
	}
}

// FuzzHelm looks for a schedule that TestHelm does not come upon: each byte is a step of one of two clients.
func FuzzHelm(f *testing.F) {
	f.Add([]byte{0x10, 0x21, 0x13, 0xf0, 0x20})
	f.Add([]byte("0%Z\xb4%\x00\x801"))
	f.Fuzz(func(t *testing.T, schedule []byte) {
		checkHelm(t, func(yield func(helmStep) bool) {
			for _, b := range schedule {
				if !yield(helmStep{time.Duration(b>>4) * time.Second, int(b&1) + 1, int(b>>1&7) % helmActs}) {
					return
				}
			}
		})
	})
}

// In a shared helm whoever drives is the driver, and there are no claims.
func TestHelmShared(t *testing.T) {
	h := helm[int]{shared: true}
	now := time.Now()
	for _, who := range []int{1, 2, 1, 3} {
		if !h.take(who, now) || h.driver != who {
			t.Errorf("%d may not drive: %+v", who, h)
		}
	}
	if got := h.claim(2, now); got != taken || h.driver != 3 {
		t.Errorf("a claim of a shared helm is %d", got)
	}
}
