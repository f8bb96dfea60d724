package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// The number of viewers alone is shown once a second at most, and not at all when something else has shown it meanwhile.
func TestCrowdIsShownSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublisher()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); p.run(ctx) }()
		published := uint32(0)
		want := func(what string, n uint32) {
			t.Helper()
			synctest.Wait()
			if p.version-published != n {
				t.Errorf("%s: %d states were shown, want %d", what, p.version-published, n)
			}
			published = p.version
		}
		for range 10 {
			p.crowd(1)
			p.change(func(*stateMessage) {})
			time.Sleep(100 * time.Millisecond)
		}
		want("with ten changes", 10)
		time.Sleep(5 * time.Second)
		want("after them", 0)
		for range 10 {
			p.crowd(1)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		want("ten who come within a second", 1)
		cancel()
		<-ended
	})
}
