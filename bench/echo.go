package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"roverd/netpoll"
)

// grace is how long the answers to the last messages are waited for.
const grace = 5 * time.Second

// echoFigures is what echo found.
type echoFigures struct {
	Depth         int     `json:"in_flight,omitempty"`             // per connection, in a closed loop
	Rate          float64 `json:"messages_per_s_wanted,omitempty"` // in an open loop
	Size          int     `json:"message_bytes"`
	WarmupSeconds float64 `json:"warmup_s"`
	cost
	// Latency is of the messages of the measurement. In a closed loop it is from the reading of the reply before, in
	// an open loop from the time that the schedule said (see driverFigures).
	Latency    percentiles  `json:"latency"`
	Unanswered int          `json:"unanswered"`
	Clients    crowdFigures `json:"connections"`
}

// echo has the server send back whatever it is sent.
func echo(ctx context.Context, o *options, t *target, r *report) error {
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
	e := newEchoer(loop, t, o, fail)

	e.crowd.gather(ctx)
	e.run(ctx, o.warmup, o.length)
	loop.Close()

	f := &echoFigures{Rate: o.rate, Size: o.size, WarmupSeconds: o.warmup.Seconds(), cost: e.meter.cost(e.messages),
		Latency: e.latency.percentiles(), Unanswered: e.unanswered + e.inFlight, Clients: e.crowd.figures()}
	if o.rate == 0 {
		f.Depth = o.depth
	}
	if e.messages > 0 {
		r.Echo = f
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return f.err()
}

// err tells of what was missing.
func (f *echoFigures) err() error {
	switch {
	case f.Messages == 0:
		return errors.Join(errors.New("no message came back"), f.Clients.err())
	case f.Unanswered > 0:
		return errors.Join(fmt.Errorf("%d messages were not answered", f.Unanswered), f.Clients.err())
	}
	return f.Clients.err()
}

// echoer is all that send and get back.
type echoer struct {
	// Fixed by newEchoer.
	loop  *netpoll.Loop
	crowd *crowd
	text  []byte
	frame []byte
	depth int           // messages in flight per connection
	step  time.Duration // from one message to the next, of all connections; 0 is a closed loop
	fail  context.CancelCauseFunc
	done  chan struct{} // closed when the last message is answered

	rung atomic.Bool // sendDue is posted and has not run

	// Owned by the loop's goroutine, and by everybody once the loop is closed.
	members    []*echoMember // that opened
	turn       int           // open loop: whose turn it is
	due        time.Time     // open loop: when the next message is
	from, to   time.Time     // the measurement's messages are those that were to be sent then
	phase      phase
	meter      meter
	messages   int64 // came back while counting
	latency    histogram
	inFlight   int
	unanswered int // of connections that were lost
}

func newEchoer(loop *netpoll.Loop, t *target, o *options, fail context.CancelCauseFunc) *echoer {
	e := &echoer{loop: loop, text: filler(o.size), depth: o.depth, fail: fail, done: make(chan struct{}), meter: meter{pid: o.pid}}
	e.frame = t.frame(e.text)
	if o.rate > 0 {
		e.step = every(o.rate)
	}
	e.crowd = newCrowd(loop, t, o.n, o.openRate, fail)
	e.crowd.member = func() role { return &echoMember{echoer: e} }
	return e
}

// phase is where a run stands.
type phase uint8

const (
	warming  phase = iota
	counting       // the measurement runs
	ending         // nothing more is sent
	over
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
	e.loop.Post(e.begin)
	if !e.ring(ctx, &at, to) {
		return
	}
	e.loop.Post(e.end)
	select {
	case <-e.done:
	case <-time.After(grace):
	case <-ctx.Done():
	}
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
			m.note(at)
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
		m.note(e.due)
		m.client.conn.Write(e.frame)
	}
}

func (e *echoer) begin() {
	var err error
	if e.meter.begun, err = e.meter.read(); err != nil {
		e.fail(err)
		return
	}
	e.phase = counting
}

func (e *echoer) end() {
	var err error
	if e.meter.end, err = e.meter.read(); err != nil {
		e.fail(err)
	}
	e.phase = ending
	e.checkDone()
}

func (e *echoer) checkDone() {
	if e.phase == ending && e.inFlight == 0 {
		e.phase = over
		close(e.done)
	}
}

// echoMember is one connection.
type echoMember struct {
	*echoer
	client  *client
	waiting queue // when the messages that are not answered were to be sent
	lost    bool
}

// note counts a message that is about to be sent.
func (m *echoMember) note(at time.Time) {
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

func (m *echoMember) message(c *client, p []byte) {
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
	if m.phase == counting {
		m.messages++
	}
	if !at.Before(m.from) {
		m.latency.add(c.arrived.Sub(at))
	}
	if m.phase < ending && m.step == 0 {
		m.note(c.arrived)
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
