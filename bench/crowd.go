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
	slots   chan struct{} // holds an element for each handshake under way
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
	return &crowd{rig: g, name: name, n: n, sources: g.target.sources(n), slots: make(chan struct{}, maxInFlight),
		reasons: map[string]int{}, handshakes: newHistogram()}
}

// gather opens the crowd and returns when each member has opened or failed, or ctx has ended.
func (cr *crowd) gather(ctx context.Context) {
	start := time.Now()
	defer func() { cr.took = time.Since(start) }()
	dial := cr.dial
	for i := range cr.n {
		if !sleepUntil(ctx, start.Add(nth(i, cr.rig.o.openRate))) || !cr.reserve(ctx) {
			return
		}
		cr.rig.loop.Post(dial)
	}
	cr.settle(ctx)
}

// settle returns when no handshake is under way, or ctx has ended.
func (cr *crowd) settle(ctx context.Context) {
	for range maxInFlight { // who holds all the slots has seen the last one end
		if !cr.reserve(ctx) {
			return
		}
	}
	for range maxInFlight {
		<-cr.slots
	}
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

// churn replaces the oldest members, so many a second, until the time to, or ctx ends.
func (cr *crowd) churn(ctx context.Context, rate float64, to time.Time) {
	start := time.Now()
	for i := 0; ; i++ {
		at := start.Add(nth(i, rate))
		if !at.Before(to) {
			break
		}
		if !sleepUntil(ctx, at) || !cr.reserve(ctx) {
			return
		}
		cr.rig.loop.Post(func() {
			for len(cr.members) > 0 {
				oldest := cr.members[0]
				cr.members = cr.members[1:]
				if oldest.role != nil {
					oldest.leave()
					break
				}
			}
			cr.dial()
		})
	}
	sleepUntil(ctx, to)
	cr.settle(ctx)
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
func (cr *crowd) recount() { cr.rig.loop.Post(func() { cr.received = received{} }) }

func (cr *crowd) opened(c *client, took time.Duration) {
	cr.handshakes.add(took)
	cr.opens++
	cr.rig.connections.Add(1)
	if cr.turns {
		cr.members = append(cr.members, c)
	}
	<-cr.slots
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
		cr.lost++
		return
	}
	cr.failed++
	<-cr.slots
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

// handshake is how long the members took to open.
func (cr *crowd) handshake() times {
	return cr.handshakes.times("handshake", "from dialing until the server has agreed, opening at most as many a second as asked")
}

// err tells of members that were not there to the end.
func (cr *crowd) err() error {
	if cr.failed+cr.lost == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d %ss did not get in, %d were lost", cr.failed, cr.n, cr.name, cr.lost)
}

// newLoop starts an event loop, which the rig closes; its end by a fault ends the run.
func (g *rig) newLoop() (*netpoll.Loop, error) {
	loop, err := netpoll.NewLoop(netpoll.Config{OnError: func(err error, _ bool) { g.fail(err) }})
	if err == nil {
		g.loops = append(g.loops, loop)
	}
	return loop, err
}
