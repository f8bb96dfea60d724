package main

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// sleepUntil sleeps until t, or until ctx ends, and reports whether it was t. The timers of the Go runtime have a
// grain of a millisecond when nothing else goes on, which is more than most of the latencies measured; the kernel's
// own sleep is good to some 50 us, so the last stretch is its.
func sleepUntil(ctx context.Context, t time.Time) bool {
	const lastStretch = 2 * time.Millisecond
	if d := time.Until(t) - lastStretch; d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		}
	}
	for d := time.Until(t); d > 0; d = time.Until(t) { // a signal may end it early
		left := unix.NsecToTimespec(d.Nanoseconds())
		unix.Nanosleep(&left, nil)
	}
	return ctx.Err() == nil
}

// nth returns when event number i is, from 0, at rate events per second. (To add up every(rate) would add up what it
// is rounded by.)
func nth(i int, rate float64) time.Duration {
	return time.Duration(float64(i) / rate * float64(time.Second))
}

// every returns the time from one event to the next at rate events per second.
func every(rate float64) time.Duration { return time.Duration(float64(time.Second) / rate) }
