package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"sync/atomic"
	"time"
)

// echo has the server send back whatever it is sent.
var echo = scenario{
	name: "echo", help: "have a server send back what it is sent", counts: "messages",
	flags: func(o *options, f *flag.FlagSet) {
		f.IntVar(&o.n, "n", 1000, "connections to open")
		f.IntVar(&o.depth, "depth", 1, "messages in flight per connection, in a closed loop")
		f.Float64Var(&o.rate, "rate", 0, "open loop: messages per second, over all connections in turn; 0 is a closed loop")
		f.IntVar(&o.size, "size", 64, "bytes of a message")
		o.lengthFlags(f, 5*time.Second)
		o.rawFlag(f)
		f.BoolVar(&o.get, "get", false, "GET the URL over plain HTTP instead, on connections that are kept, as wrk does: to hold bench against it")
	},
	check: func(o *options) error {
		if err := cmp.Or(o.checkOpening(), o.checkSize(), o.checkLength()); err != nil {
			return err
		}
		if o.depth < 1 || o.depth > mostInFlight/o.n {
			return fmt.Errorf("-n %d -depth %d: want 1 to %d messages in flight", o.n, o.depth, mostInFlight)
		}
		if o.raw && o.get {
			return fmt.Errorf("-raw is without HTTP, -get is with it: want one of them")
		}
		if o.rate != 0 && o.depth != 1 {
			return fmt.Errorf("-depth is of a closed loop, -rate makes an open one: want one of them")
		}
		if o.rate == 0 {
			return nil
		}
		return o.checkTraffic(1_000_000, "messages")
	},
	play: playEcho,
}

func playEcho(ctx context.Context, g *rig) error {
	e := newEchoer(g)
	g.gather(ctx, e.crowd)
	g.phase("warmup")
	e.run(ctx, g.o.warmup, g.o.length)
	g.look(ctx, &g.probe.End)
	g.close()

	e.crowd.figures()
	missing := e.unanswered + e.inFlight
	if g.meter.begun.at.IsZero() {
		return errors.Join(errors.New("the measurement did not begin"), e.crowd.err())
	}
	g.cost(e.messages, "message", "messages")
	g.figure("messages", float64(e.messages), "", "")
	g.figure("unanswered", float64(missing), "", "less")
	if e.step > 0 {
		g.times(e.latency.times("latency", "open loop: from when the schedule said to send the message until its echo was read"))
		g.times(e.late.times(scheduleLateness, "from when the schedule said to send until it was sent: the part that is bench's own"))
	} else {
		g.times(e.latency.times("latency", "closed loop: from the reading of the echo before, which sends the next message, until its echo was read"))
	}
	g.times(e.crowd.handshake())
	switch {
	case missing > 0:
		return errors.Join(fmt.Errorf("%d messages were not answered", missing), e.crowd.err())
	case e.messages == 0:
		return errors.Join(errors.New("no message came back while that was measured: measure for longer (-d)"), e.crowd.err())
	}
	return e.crowd.err()
}

// echoer is all that send and get back.
type echoer struct {
	*rig
	// Fixed by newEchoer.
	crowd *crowd
	text  []byte
	frame []byte
	depth int           // messages in flight per connection
	step  time.Duration // from one message to the next, of all connections; 0 is a closed loop
	over  chan struct{} // closed when the last message is answered

	rung atomic.Bool // sendDue is posted and has not run

	// Owned by the loop's goroutine, and by everybody once the loop is closed.
	members    []*echoMember // that opened
	turn       int           // open loop: whose turn it is
	due        time.Time     // open loop: when the next message is
	from, to   time.Time     // the measurement's messages are those that were to be sent then
	at         phase
	messages   int64 // came back while counting
	latency    histogram
	late       histogram
	inFlight   int
	unanswered int // of connections that were lost
}

func newEchoer(g *rig) *echoer {
	e := &echoer{rig: g, text: filler(g.o.size), depth: g.o.depth, over: make(chan struct{}), latency: newHistogram(), late: newHistogram()}
	e.frame = g.target.frame(e.text)
	if g.o.rate > 0 {
		e.step = every(g.o.rate)
	}
	e.crowd = g.newCrowd("connection", g.o.n)
	e.crowd.member = func() role { return &echoMember{echoer: e} }
	return e
}

// phase is where a run stands.
type phase uint8

const (
	warming  phase = iota
	counting       // the measurement runs
	ending         // nothing more is sent
	ended
)

// run returns when all is measured and the last message answered, or enough time for that has passed, or ctx has
// ended.
func (e *echoer) run(ctx context.Context, warmup, length time.Duration) {
	start := time.Now()
	from, to := start.Add(warmup), start.Add(warmup+length)
	e.loop.Post(func() { e.start(start, from, to) })
	at := start
	if !e.ring(ctx, &at, from) {
		return
	}
	begun := make(chan struct{})
	e.loop.Post(func() {
		e.begin()
		e.at = counting
		close(begun)
	})
	if e.step == 0 { // no schedule: it lasts as long from when it has begun, however late the loop got to that
		select {
		case <-begun:
		case <-ctx.Done():
			return
		}
		to = time.Now().Add(length)
	}
	if !e.ring(ctx, &at, to) {
		return
	}
	e.loop.Post(func() {
		e.end()
		e.at = ending
		e.checkDone()
	})
	await(ctx, e.over)
}

// ring has the loop send what is due, from *at on whenever a message is, and returns at the time to. It reports whether
// ctx goes on.
func (e *echoer) ring(ctx context.Context, at *time.Time, to time.Time) bool {
	for e.step > 0 && at.Before(to) {
		if !sleepUntil(ctx, *at) {
			return false
		}
		if e.rung.CompareAndSwap(false, true) { // else many would queue up while the loop is busy
			e.loop.Post(e.sendDue)
		}
		*at = at.Add(e.step)
	}
	return sleepUntil(ctx, to)
}

// start fills the pipes of a closed loop.
func (e *echoer) start(at, from, to time.Time) {
	e.due, e.from, e.to = at, from, to
	if e.step > 0 {
		return
	}
	batch := bytes.Repeat(e.frame, e.depth)
	for _, m := range e.members {
		for range e.depth {
			m.sends(at)
		}
		m.client.conn.Write(batch)
	}
}

// sendDue sends what an open loop's schedule says.
func (e *echoer) sendDue() {
	e.rung.Store(false)
	now := time.Now()
	for ; len(e.members) > 0 && !e.due.After(now) && e.due.Before(e.to); e.due = e.due.Add(e.step) {
		m := e.members[e.turn%len(e.members)]
		e.turn++
		m.sends(e.due)
		if !e.due.Before(e.from) {
			e.late.add(time.Since(e.due))
		}
		m.client.conn.Write(e.frame)
	}
}

func (e *echoer) checkDone() {
	if e.at == ending && e.inFlight == 0 {
		e.at = ended
		close(e.over)
	}
}

// echoMember is one connection.
type echoMember struct {
	*echoer
	client  *client
	waiting queue // when the messages that are not answered were to be sent
	lost    bool
}

// sends counts a message that is about to be sent.
func (m *echoMember) sends(at time.Time) {
	if m.lost {
		return
	}
	m.inFlight++
	m.waiting.push(at)
}

func (m *echoMember) opened(c *client, took time.Duration) {
	m.client = c
	m.members = append(m.members, m)
	m.crowd.opened(c, took)
}

func (m *echoMember) message(c *client, p []byte, now time.Time) {
	if c.size == 0 && !bytes.Equal(p, m.text) {
		m.fail(fmt.Errorf("the server does not echo: it sent %.60q", p))
		return
	}
	if m.waiting.n == 0 {
		m.fail(errors.New("the server sent more than it was sent"))
		return
	}
	at := m.waiting.pop()
	m.inFlight--
	took := now.Sub(at)
	m.note("messages", took)
	if m.at == counting {
		m.messages++
	}
	if !at.Before(m.from) {
		m.latency.add(took)
	}
	if m.at < ending && m.step == 0 {
		m.sends(now)
		c.conn.Write(m.frame)
	}
	m.checkDone()
}

func (m *echoMember) ended(c *client, err error) {
	m.crowd.ended(c, err)
	m.lost = true
	m.inFlight -= m.waiting.n
	m.unanswered += m.waiting.n
	m.checkDone()
}

// queue is a ring of times, which grows as it must.
type queue struct {
	ring    []time.Time // its length is a power of two
	head, n int
}

func (q *queue) push(t time.Time) {
	if q.n == len(q.ring) {
		larger := make([]time.Time, max(2*len(q.ring), 1))
		for i := range q.n {
			larger[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
		}
		q.ring, q.head = larger, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = t
	q.n++
}

func (q *queue) pop() time.Time {
	t := q.ring[q.head]
	q.head = (q.head + 1) & (len(q.ring) - 1)
	q.n--
	return t
}
