package main

import (
	"context"
	"fmt"
	"time"

	"roverd/netpoll"
)

// maxInFlight is how many handshakes are under way at a time: well below what a listener's backlog takes.
const maxInFlight = 256

// crowd is a number of viewers, or of whatever members there are.
type crowd struct {
	// Fixed by newCrowd.
	loop   *netpoll.Loop
	target *target
	n      int
	rate   float64
	fail   context.CancelCauseFunc // ends the run
	slots  chan struct{}           // holds an element for each handshake under way
	member func() role             // makes the role of each; it passes on to the crowd what opens and ends. The crowd itself when nil

	// Owned by gather's goroutine.
	took time.Duration // to open them all

	// Owned by the loop's goroutine, and by everybody once the loop is closed.
	failed     int // never opened
	lost       int // ended after they had opened
	reasons    map[string]int
	handshakes samples
	got        received
}

// received counts what a crowd was sent.
type received struct {
	Messages int64 `json:"messages"`
	States   int64 `json:"states"` // the messages that tell a state of the car
	Bytes    int64 `json:"bytes"`  // of payload
}

func newCrowd(loop *netpoll.Loop, t *target, n int, rate float64, fail context.CancelCauseFunc) *crowd {
	return &crowd{loop: loop, target: t, n: n, rate: rate, fail: fail,
		slots: make(chan struct{}, maxInFlight), reasons: map[string]int{}}
}

// gather opens the crowd and returns when each viewer has opened or failed, or ctx has ended.
func (cr *crowd) gather(ctx context.Context) {
	sources := cr.target.sources(cr.n)
	start := time.Now()
	defer func() { cr.took = time.Since(start) }()
	for i := range cr.n {
		if !sleepUntil(ctx, start.Add(time.Duration(i)*every(cr.rate))) || !cr.reserve(ctx) {
			return
		}
		cr.loop.Post(func() { dial(cr.loop, cr.target, sources[i%len(sources)], cr.role()) })
	}
	for range maxInFlight { // who holds all the slots has seen the last handshake end
		if !cr.reserve(ctx) {
			return
		}
	}
}

func (cr *crowd) role() role {
	if cr.member == nil {
		return cr
	}
	return cr.member()
}

// reserve waits for a slot.
func (cr *crowd) reserve(ctx context.Context) bool {
	select {
	case cr.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// recount has what is received counted from now on.
func (cr *crowd) recount() { cr.loop.Post(func() { cr.got = received{} }) }

func (cr *crowd) opened(_ *client, took time.Duration) {
	cr.handshakes = append(cr.handshakes, took)
	<-cr.slots
}

func (cr *crowd) message(_ *client, p []byte) {
	cr.got.Messages++
	cr.got.Bytes += int64(len(p))
	if isState(p) {
		cr.got.States++
	}
}

func (cr *crowd) ended(c *client, err error) {
	err = cr.target.explain(err)
	cr.reasons[err.Error()]++
	if c.open {
		cr.lost++
		return
	}
	cr.failed++
	<-cr.slots
	if len(cr.handshakes) == 0 {
		cr.fail(err) // none has got in: no use in sending thousands more
	}
}

// crowdFigures is what is reported of a crowd.
type crowdFigures struct {
	Wanted      int            `json:"wanted"`
	Opened      int            `json:"opened"`
	Failed      int            `json:"failed"` // never opened
	Lost        int            `json:"lost"`   // ended before the run did
	Reasons     map[string]int `json:"reasons,omitempty"`
	OpenSeconds float64        `json:"open_s"`
	OpenRate    float64        `json:"open_per_s"`
	Handshake   percentiles    `json:"handshake"`
	Received    received       `json:"received"`
}

// figures may be called once the loop is closed.
func (cr *crowd) figures() crowdFigures {
	f := crowdFigures{Wanted: cr.n, Opened: len(cr.handshakes), Failed: cr.failed, Lost: cr.lost, Reasons: cr.reasons,
		OpenSeconds: cr.took.Seconds(), Handshake: cr.handshakes.percentiles(), Received: cr.got}
	f.OpenRate = float64(f.Opened) / f.OpenSeconds
	return f
}

// err tells of viewers that were not there to the end.
func (f *crowdFigures) err() error {
	if f.Failed+f.Lost == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d viewers did not get in, %d were lost", f.Failed, f.Wanted, f.Lost)
}
