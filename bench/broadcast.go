package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"roverd/netpoll"
)

// patience is how long nobody may get anything before a broadcast that has not reached everybody is given up. (The first
// may miss some: over plain TCP a connection is open before the server has accepted it.)
const patience = time.Second

// broadcastFigures is what broadcast found. Its messages are deliveries: to one viewer each.
type broadcastFigures struct {
	Rate          float64  `json:"broadcasts_per_s"`
	Size          int      `json:"message_bytes,omitempty"`
	Words         []string `json:"words,omitempty"`
	WarmupSeconds float64  `json:"warmup_s"`
	Sent          int      `json:"broadcasts"`
	Skipped       int      `json:"skipped"`    // due while the one before had not reached everybody: the server is too slow
	Incomplete    int      `json:"incomplete"` // did not reach everybody
	cost
	FanOut  percentiles  `json:"fan_out"` // from the sending to the last viewer's getting it
	Viewers crowdFigures `json:"viewers"`
}

// broadcast has the server send what one client says to all.
func broadcast(ctx context.Context, o *options, t *target, r *report) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	if err := checkPID(o.pid); err != nil {
		return err
	}
	loop, err := newLoop(fail)
	if err != nil {
		return err
	}
	defer loop.Close()
	r.Server = t.health(ctx)
	b := newBroadcaster(loop, t, o, fail)

	b.connect(ctx, t) // first: that is whom a server without WebSocket takes for the sender
	b.crowd.gather(ctx)
	b.run(ctx, o.rate, o.warmup, o.length)
	loop.Close()

	f := &b.broadcastFigures
	f.Rate, f.Words, f.WarmupSeconds = o.rate, o.words, o.warmup.Seconds()
	if len(o.words) == 0 {
		f.Size = o.size
	}
	f.cost, f.FanOut, f.Viewers = b.meter.cost(b.deliveries), b.fanOut.percentiles(), b.crowd.figures()
	if b.Sent > 0 && b.deliveries > 0 {
		r.Broadcast = f
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return cmp.Or(f.Viewers.err(), f.err())
}

func (f *broadcastFigures) err() error {
	switch {
	case f.Sent == 0 || f.Messages == 0:
		return errors.New("no broadcast arrived")
	case f.Incomplete > 0:
		return fmt.Errorf("%d of %d broadcasts did not reach everybody", f.Incomplete, f.Sent)
	}
	return nil
}

// broadcaster is the sender, and what the viewers' deliveries come to.
type broadcaster struct {
	// Fixed by newBroadcaster.
	loop   *netpoll.Loop
	crowd  *crowd
	frames [][]byte // sent in turn
	states bool     // only states count as deliveries
	fail   context.CancelCauseFunc
	ready  chan struct{} // closed when the sender is connected
	done   chan struct{} // closed when the last broadcast has arrived

	// Owned by the loop's goroutine, and by everybody once the loop is closed.
	client     *client
	turn       int // in frames
	phase      phase
	counted    bool      // the broadcast under way is of the measurement
	sent       time.Time // the broadcast under way
	missing    int       // how many have not got it; 0: none is under way
	heard      time.Time // when somebody got it last
	meter      meter
	deliveries int64 // while counting
	fanOut     histogram
	broadcastFigures
}

func newBroadcaster(loop *netpoll.Loop, t *target, o *options, fail context.CancelCauseFunc) *broadcaster {
	b := &broadcaster{loop: loop, states: len(o.words) > 0, fail: fail, ready: make(chan struct{}), done: make(chan struct{}),
		meter: meter{pid: o.pid}}
	for _, word := range o.words {
		b.frames = append(b.frames, t.frame([]byte(word)))
	}
	if !b.states {
		b.frames = [][]byte{t.frame(filler(o.size))}
	}
	b.crowd = newCrowd(loop, t, o.n, o.openRate, fail)
	viewers := &broadcastViewers{b}
	b.crowd.member = func() role { return viewers }
	return b
}

// connect returns when the sender is connected, or ctx has ended.
func (b *broadcaster) connect(ctx context.Context, t *target) {
	b.loop.Post(func() { dial(b.loop, t, netip.Addr{}, b) })
	select {
	case <-b.ready:
	case <-ctx.Done():
	}
}

// run returns when all is measured and the last broadcast has arrived, or enough time for that has passed, or ctx has
// ended.
func (b *broadcaster) run(ctx context.Context, rate float64, warmup, length time.Duration) {
	start, step := time.Now(), every(rate)
	for at := time.Duration(0); at < warmup+length; at += step {
		if !sleepUntil(ctx, start.Add(at)) {
			return
		}
		b.loop.Post(func() { b.send(at >= warmup) })
	}
	if !sleepUntil(ctx, start.Add(warmup+length)) { // let the last one have its interval
		return
	}
	b.loop.Post(func() {
		b.phase = ending
		b.checkDone()
	})
	tick := time.NewTicker(patience / 10)
	defer tick.Stop()
	for {
		select {
		case <-b.done:
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

func (b *broadcaster) begin() {
	var err error
	if b.meter.begun, err = b.meter.read(); err != nil {
		b.fail(err)
		return
	}
	b.phase = counting
}

// send sends the next broadcast, once the one before has arrived. The measurement begins with the first that counts, so
// that it is whole ones.
func (b *broadcaster) send(counted bool) {
	if b.missing > 0 && !b.stale() {
		if counted {
			b.Skipped++
		}
		return
	}
	b.giveUp()
	if counted {
		if b.Sent == 0 {
			b.begin()
		}
		b.Sent++
	}
	b.counted, b.sent = counted, time.Now()
	b.heard, b.missing = b.sent, len(b.crowd.handshakes)-b.crowd.lost
	b.client.conn.Write(b.frames[b.turn%len(b.frames)])
	b.turn++
}

// stale tells that the rest of the broadcast under way won't arrive.
func (b *broadcaster) stale() bool { return time.Since(b.heard) >= patience }

// giveUp ends the broadcast under way, if there is one.
func (b *broadcaster) giveUp() {
	if b.missing > 0 && b.counted {
		b.Incomplete++
	}
	b.missing = 0
}

// checkDone ends the measurement with the last broadcast.
func (b *broadcaster) checkDone() {
	if b.phase != ending || b.missing > 0 {
		return
	}
	b.phase = over
	var err error
	if b.meter.end, err = b.meter.read(); err != nil {
		b.fail(err)
	}
	close(b.done)
}

func (b *broadcaster) opened(c *client, _ time.Duration) {
	b.client = c
	close(b.ready)
}

// message gets what the sender is sent; its own broadcasts are no deliveries.
func (b *broadcaster) message(_ *client, p []byte) {
	if b.states && bytes.Contains(p, []byte(`"op":"error"`)) {
		b.fail(fmt.Errorf("the server does not take the sender's word: %.200s", p))
	}
}

func (b *broadcaster) ended(_ *client, err error) {
	b.fail(fmt.Errorf("the sender's connection: %w", b.crowd.target.explain(err)))
}

// broadcastViewers is the role of all viewers.
type broadcastViewers struct{ *broadcaster }

func (v *broadcastViewers) opened(c *client, took time.Duration) { v.crowd.opened(c, took) }

func (v *broadcastViewers) message(c *client, p []byte) {
	if v.states && !isState(p) {
		return
	}
	if v.phase == counting || v.phase == ending {
		v.deliveries++
	}
	if v.missing == 0 {
		return
	}
	v.heard = c.arrived
	if v.missing--; v.missing == 0 {
		if v.counted {
			v.fanOut.add(c.arrived.Sub(v.sent))
		}
		v.checkDone()
	}
}

func (v *broadcastViewers) ended(c *client, err error) { v.crowd.ended(c, err) }
