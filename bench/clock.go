package main

import (
	"context"
	"iter"
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

// ticks has an event each time that one is due, at rate events per second from now on until length has passed: how far
// that is into it, and when it was to be. It ends with length, or early with ctx.
func ticks(ctx context.Context, rate float64, length time.Duration) iter.Seq2[time.Duration, time.Time] {
	return func(yield func(at time.Duration, due time.Time) bool) {
		start := time.Now()
		for i := 0; ; i++ { // counted, since adding up every(rate) would add up what it is rounded by
			at := min(perSecond(i, rate), length)
			if !sleepUntil(ctx, start.Add(at)) || at == length || !yield(at, start.Add(at)) {
				return
			}
		}
	}
}

// perSecond returns how long n events take at rate events per second.
func perSecond(n int, rate float64) time.Duration {
	return time.Duration(float64(n) / rate * float64(time.Second))
}

// every returns the time from one event to the next at rate events per second.
func every(rate float64) time.Duration { return time.Duration(float64(time.Second) / rate) }
