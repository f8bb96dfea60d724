package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"roverd/netpoll"
)

// maxInFlight is how many handshakes are under way at a time: well below what a listener's backlog takes.
const maxInFlight = 256

// crowd is a number of viewers, or of whatever members there are.
type crowd struct {
	// Fixed by newCrowd.
	rig     *rig
	name    string // of a member
	n       int
	sources []netip.Addr
	slots   slots // one is taken by each handshake under way
	// member makes the role of each, which passes on to the crowd what opens and ends; the crowd itself when nil.
	member func() role
	turns  bool // members are to be replaced: remember who came first

	// Owned by the goroutine that gathers.
	took time.Duration // to open them all

	// Owned by the loop's goroutine, and by everybody once the loop is closed.
	dialed     int
	opens      int // so many opened
	gone       int // so many ended after that
	failed     int // never opened
	lost       int // ended after they had opened, and not by us
	reasons    map[string]int
	handshakes histogram
	members    []*client // with turns: the open ones, the oldest first, and ended ones in between
	received   received
}

// received counts what a crowd was sent.
type received struct{ messages, states, bytes int64 }

func (g *rig) newCrowd(name string, n int) *crowd {
	return &crowd{rig: g, name: name, n: n, sources: g.target.sources(n), slots: make(slots, maxInFlight),
		reasons: map[string]int{}, handshakes: newHistogram()}
}

// gather opens the crowd and returns when each member has opened or failed, or ctx has ended.
func (cr *crowd) gather(ctx context.Context) {
	start := time.Now()
	defer func() { cr.took = time.Since(start) }()
	dial := cr.dial
	for range ticks(ctx, cr.rig.o.openRate, perSecond(cr.n, cr.rig.o.openRate)) {
		if !cr.slots.take(ctx) {
			return
		}
		cr.rig.loop.Post(dial)
	}
	cr.slots.settle(ctx)
}

// dial opens one more, on the loop's goroutine.
func (cr *crowd) dial() {
	r := role(cr)
	if cr.member != nil {
		r = cr.member()
	}
	from := cr.sources[cr.dialed%len(cr.sources)]
	cr.dialed++
	dial(cr.rig.loop, cr.rig.target, from, r, time.Now())
}

// churn replaces the oldest members, so many a second.
func (cr *crowd) churn(ctx context.Context, rate float64, length time.Duration) {
	for range ticks(ctx, rate, length) {
		if !cr.slots.take(ctx) {
			return
		}
		cr.rig.loop.Post(cr.replace)
	}
	cr.slots.settle(ctx)
}

// replace has the oldest member leave and another come. When all are still coming there is nobody to replace.
func (cr *crowd) replace() {
	for len(cr.members) > 0 {
		oldest := cr.members[0]
		cr.members = cr.members[1:]
		if oldest.role != nil {
			oldest.leave()
			cr.dial()
			return
		}
	}
	cr.slots.free()
}

// recount has what is received counted from now on.
func (cr *crowd) recount() { cr.rig.loop.Post(func() { cr.received = received{} }) }

func (cr *crowd) opened(c *client, took time.Duration) {
	cr.handshakes.add(took)
	cr.opens++
	cr.rig.connections.Add(1)
	if cr.turns {
		cr.members = append(cr.members, c)
	}
	cr.slots.free()
}

func (cr *crowd) message(_ *client, p []byte, _ time.Time) {
	cr.received.messages++
	cr.received.bytes += int64(len(p))
	if isState(p) {
		cr.received.states++
	}
	cr.rig.note("messages", 0)
}

func (cr *crowd) ended(c *client, err error) {
	if c.open {
		cr.gone++
		cr.rig.connections.Add(-1)
	}
	if err == errLeft {
		return
	}
	err = cr.rig.target.explain(err)
	cr.reasons[err.Error()]++
	if c.open {
		if cr.lost++; cr.there() == 0 && cr.opens+cr.failed >= cr.n {
			cr.rig.fail(fmt.Errorf("%w: %w", cr.err(), err)) // nobody is left, and nobody comes: no use in waiting
		}
		return
	}
	cr.failed++
	cr.slots.free()
	if cr.opens == 0 {
		cr.rig.fail(err) // none has got in: no use in sending thousands more
	}
}

// there returns how many are open.
func (cr *crowd) there() int { return cr.opens - cr.gone }

// figures writes what became of the crowd into the run, once the loop is closed.
func (cr *crowd) figures() {
	cr.rig.run.Connections = &connections{Role: cr.name, Wanted: cr.n, Opened: min(cr.opens, cr.n), Failed: cr.failed, Lost: cr.lost,
		Reasons: cr.reasons, OpenSeconds: cr.took.Seconds()}
}

// handshake is the name of the times of opening.
const handshake = "handshake"

// handshake is how long the members took to open.
func (cr *crowd) handshake() times {
	return cr.handshakes.times(handshake, "from dialing until the server has agreed, opening at most as many a second as asked")
}

// err tells of members that were not there to the end.
func (cr *crowd) err() error {
	if cr.failed+cr.lost == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d %ss did not get in, %d were lost", cr.failed, cr.n, cr.name, cr.lost)
}

// slots bound how many of something there are at a time.
type slots chan struct{}

// take waits for a slot, and reports whether ctx goes on.
func (s slots) take(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s slots) free() { <-s }

// settle returns when all slots are free, or ctx has ended: who has taken all of them has seen the last one freed.
func (s slots) settle(ctx context.Context) {
	taken := 0
	for taken < cap(s) && s.take(ctx) {
		taken++
	}
	for range taken {
		s.free()
	}
}

// newLoop starts an event loop, which the rig closes; its end by a fault ends the run.
func (g *rig) newLoop() (*netpoll.Loop, error) {
	loop, err := netpoll.NewLoop(netpoll.Config{OnError: func(err error, _ bool) { g.fail(err) }})
	if err == nil {
		g.loops = append(g.loops, loop)
	}
	return loop, err
}
