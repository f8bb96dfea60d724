package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"time"
)

// patience is how long nobody may get anything before a broadcast that has not reached everybody is given up. (The first
// may miss some: over plain TCP a connection is open before the server has accepted it.)
const patience = time.Second

// broadcast has the server send what one client says to all.
var broadcast = scenario{
	name: "broadcast", help: "have a server send on to many viewers what one client says", counts: "deliveries",
	flags: func(o *options, f *flag.FlagSet) {
		f.IntVar(&o.n, "n", 10_000, "viewers that watch")
		f.Float64Var(&o.rate, "rate", 10, "broadcasts per second")
		f.IntVar(&o.size, "size", 200, "bytes of a message")
		f.Var(&o.words, "words", "roverd: `commands` to send in turn, like up,stop; each changes the state, which goes to all")
		o.lengthFlags(f, 5*time.Second)
		o.rawFlag(f)
	},
	check: func(o *options) error {
		if o.raw && len(o.words) > 0 {
			return fmt.Errorf("-words are for roverd, which -raw is not")
		}
		return cmp.Or(o.checkOpening(), o.checkSize(), o.checkTraffic(1000, "broadcasts"))
	},
	play: playBroadcast,
}

func playBroadcast(ctx context.Context, g *rig) error {
	b := newBroadcaster(g)
	b.connect(ctx) // first: that is whom a server without WebSocket takes for the sender
	g.gather(ctx, b.crowd)
	g.phase("warmup")
	b.run(ctx, g.o.rate, g.o.warmup, g.o.length)
	g.look(ctx, &g.probe.End)
	g.close()

	b.crowd.figures()
	if b.sent == 0 || b.deliveries == 0 {
		return cmp.Or(b.crowd.err(), errors.New("no broadcast arrived"))
	}
	g.cost(b.deliveries, "delivery", "deliveries")
	g.figure("deliveries", float64(b.deliveries), "", "")
	g.figure("broadcasts", float64(b.sent), "", "")
	g.figure("skipped", float64(b.skipped), "", "less")       // due while the one before had not reached everybody
	g.figure("incomplete", float64(b.incomplete), "", "less") // did not reach everybody
	g.times(b.fanOut.times("fan_out", "from when the schedule said to send the broadcast until the last viewer got it"))
	g.times(b.late.times(scheduleLateness, "from when the schedule said to send until it was sent: the part that is bench's own"))
	g.times(b.crowd.handshake())
	if b.incomplete > 0 {
		return cmp.Or(b.crowd.err(), fmt.Errorf("%d of %d broadcasts did not reach everybody", b.incomplete, b.sent))
	}
	return b.crowd.err()
}

// broadcaster is the sender, and what the viewers' deliveries come to.
type broadcaster struct {
	*rig
	// Fixed by newBroadcaster.
	crowd  *crowd
	frames [][]byte      // sent in turn
	states bool          // only states count as deliveries
	ready  chan struct{} // closed when the sender is connected
	over   chan struct{} // closed when the last broadcast has arrived

	// Owned by the loop's goroutine, and by everybody once the loop is closed.
	client       *client
	turn         int // in frames
	at           phase
	counted      bool      // the broadcast under way is of the measurement
	due          time.Time // when the broadcast under way was to be sent
	missing      int       // how many have not got it; 0: none is under way
	heard        time.Time // when somebody got it last
	deliveries   int64     // while counting
	fanOut, late histogram
	sent         int // broadcasts of the measurement
	skipped      int // of it: due while the one before had not reached everybody: the server is too slow
	incomplete   int // did not reach everybody
}

func newBroadcaster(g *rig) *broadcaster {
	o, t := g.o, g.target
	b := &broadcaster{rig: g, states: len(o.words) > 0, ready: make(chan struct{}), over: make(chan struct{}),
		fanOut: newHistogram(), late: newHistogram()}
	for _, word := range o.words {
		b.frames = append(b.frames, t.frame([]byte(word)))
	}
	if !b.states {
		b.frames = [][]byte{t.frame(filler(o.size))}
	}
	b.crowd = g.newCrowd("viewer", o.n)
	viewers := &broadcastViewers{b}
	b.crowd.member = func() role { return viewers }
	return b
}

// connect returns when the sender is connected, or ctx has ended.
func (b *broadcaster) connect(ctx context.Context) {
	b.loop.Post(func() { dial(b.loop, b.target, netip.Addr{}, b, time.Now()) })
	select {
	case <-b.ready:
	case <-ctx.Done():
	}
}

// run returns when all is measured and the last broadcast has arrived, or enough time for that has passed, or ctx has
// ended.
func (b *broadcaster) run(ctx context.Context, rate float64, warmup, length time.Duration) {
	for at, due := range ticks(ctx, rate, warmup+length) {
		b.loop.Post(func() { b.send(due, at >= warmup) })
	}
	b.loop.Post(func() {
		b.at = ending
		b.checkDone()
	})
	tick := time.NewTicker(patience / 10)
	defer tick.Stop()
	for {
		select {
		case <-b.over:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
			b.loop.Post(func() {
				if b.stale() {
					b.giveUp()
					b.checkDone()
				}
			})
		}
	}
}

// send sends the next broadcast, once the one before has arrived. The measurement begins with the first that counts, so
// that it is whole ones.
func (b *broadcaster) send(due time.Time, counted bool) {
	if b.missing > 0 && !b.stale() {
		if counted {
			b.skipped++
		}
		return
	}
	b.giveUp()
	now := time.Now()
	if counted {
		if b.sent == 0 {
			b.begin()
			b.at = counting
		}
		b.sent++
		b.late.add(now.Sub(due))
	}
	b.counted, b.due = counted, due
	b.heard, b.missing = now, b.crowd.there()
	b.client.conn.Write(b.frames[b.turn%len(b.frames)])
	b.turn++
}

// stale tells that the rest of the broadcast under way won't arrive.
func (b *broadcaster) stale() bool { return time.Since(b.heard) >= patience }

// giveUp ends the broadcast under way, if there is one.
func (b *broadcaster) giveUp() {
	if b.missing > 0 && b.counted {
		b.incomplete++
	}
	b.missing = 0
}

// checkDone ends the measurement with the last broadcast.
func (b *broadcaster) checkDone() {
	if b.at != ending || b.missing > 0 {
		return
	}
	b.at = ended
	b.end()
	close(b.over)
}

func (b *broadcaster) opened(c *client, _ time.Duration) {
	b.client = c
	close(b.ready)
}

// message gets what the sender is sent; its own broadcasts are no deliveries.
func (b *broadcaster) message(_ *client, p []byte, _ time.Time) {
	if b.states && bytes.Contains(p, []byte(`"op":"error"`)) {
		b.fail(fmt.Errorf("the server does not take the sender's word: %.200s", p))
	}
}

func (b *broadcaster) ended(_ *client, err error) {
	b.fail(fmt.Errorf("the sender's connection: %w", b.target.explain(err)))
}

// broadcastViewers is the role of all viewers.
type broadcastViewers struct{ *broadcaster }

func (v *broadcastViewers) opened(c *client, took time.Duration) { v.crowd.opened(c, took) }

func (v *broadcastViewers) message(_ *client, p []byte, at time.Time) {
	if v.states && !isState(p) {
		return
	}
	if v.at == counting || v.at == ending {
		v.deliveries++
	}
	if v.missing == 0 {
		return
	}
	v.heard = at
	v.note("deliveries", at.Sub(v.due))
	if v.missing--; v.missing == 0 {
		if v.counted {
			v.fanOut.add(at.Sub(v.due))
		}
		v.checkDone()
	}
}

func (v *broadcastViewers) ended(c *client, err error) { v.crowd.ended(c, err) }
