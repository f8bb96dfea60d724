package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

// However clients come, drive, claim, answer, fall silent and go: there is one driver at most, who keeps the helm until it
// gives it up, leaves, is silent for helmIdle, or leaves a claim unanswered for claimTime; and a free helm is anyone's.
func TestHelm(t *testing.T) {
	const nobody, clients = 0, 5
	rnd := rand.New(rand.NewPCG(1, 2))
	handovers, refusals, timeouts := 0, 0, 0
	for range 2000 {
		var h helm[int]
		now := time.Now()
		driver, used := nobody, now // what must be so
		claimant, until := nobody, now
		refused, refusedUntil := nobody, now
		settle := func() {
			if claimant != nobody && !now.Before(until) || driver != nobody && now.Sub(used) >= helmIdle {
				if claimant != nobody {
					timeouts++
				}
				driver, claimant, used, refused = claimant, nobody, now, nobody
			}
		}
		for range 100 {
			who := rnd.IntN(clients) + 1
			now = now.Add(time.Duration(rnd.Int64N(int64(helmIdle) / 3)))
			if next := h.next(); (driver == nobody) != next.IsZero() || driver != nobody && next.After(used.Add(helmIdle)) {
				t.Fatalf("the helm of %d has to settle at %v", driver, next)
			}
			settle()
			switch rnd.IntN(6) {
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
				want := driver == who && claimant != nobody
				if got := h.grant(who, now); got != want {
					t.Fatalf("%d grants the helm of %d to %d: %v", who, driver, claimant, got)
				}
				if want {
					handovers++
					driver, claimant, used, refused = claimant, nobody, now, nobody
				}
			case 4:
				want := driver == who && claimant != nobody
				if got := h.refuse(who, now); got != want {
					t.Fatalf("%d refuses the helm of %d to %d: %v", who, driver, claimant, got)
				}
				if want {
					refusals++
					refused, refusedUntil, claimant = claimant, now.Add(refusalTime), nobody
				}
			case 5:
				want := driver == who || claimant == who
				if got := h.release(who, now); got != want {
					t.Fatalf("%d releases the helm of %d, which %d claims: %v", who, driver, claimant, got)
				}
				if driver == who {
					driver, claimant, used, refused = claimant, nobody, now, nobody
				} else if claimant == who {
					claimant = nobody
				}
			}
			if h.driver != driver || h.claimant != claimant {
				t.Fatalf("%d drives and %d claims, want %d and %d", h.driver, h.claimant, driver, claimant)
			}
		}
	}
	if handovers < 100 || refusals < 100 || timeouts < 100 {
		t.Errorf("%d handovers, %d refusals, %d timeouts: the schedule is too dull", handovers, refusals, timeouts)
	}
}

// FuzzHelm has any schedule of two clients, and looks for a command of one that comes through while the other drives.
func FuzzHelm(f *testing.F) {
	f.Add([]byte{0x10, 0x21, 0x13, 0xf0, 0x20})
	f.Add([]byte("1$1A00"))                           // a claim goes through while its driver drives
	f.Add([]byte{0x30, 0x25, 0x30, 0x30, 0x64, 0x31}) // and is not used before the next claim
	f.Fuzz(func(t *testing.T, schedule []byte) {
		var h helm[int]
		now := time.Now()
		lastDrive, mayPass := 0, true // who drove last, and whether something has happened that lets another drive
		asker := 0                    // who asks for the helm
		var lastAt, askedAt time.Time
		for _, b := range schedule {
			who := int(b&1) + 1
			step := time.Duration(b>>4) * time.Second
			now = now.Add(step)
			unanswered := asker != 0 && now.Sub(askedAt) >= claimTime
			switch b >> 1 & 7 {
			case 0, 1:
				if !h.take(who, now) {
					continue
				}
				if who != lastDrive && lastDrive != 0 && !mayPass && now.Sub(lastAt) < helmIdle && !(unanswered && asker == who) {
					t.Fatalf("%d drives while %d does", who, lastDrive)
				}
				if who == asker || unanswered {
					asker = 0
				}
				lastDrive, lastAt, mayPass = who, now, false
			case 2:
				if h.claim(who, now) == asked && asker != who {
					mayPass = mayPass || unanswered // the claim before this one has gone through
					asker, askedAt = who, now
				}
			case 3:
				mayPass = h.grant(who, now) || mayPass
			case 4:
				if h.refuse(who, now) {
					asker = 0
				}
			case 5:
				mayPass = h.release(who, now) && h.driver != lastDrive || mayPass
				if asker == who {
					asker = 0
				}
			default:
				h.settle(now)
			}
		}
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
