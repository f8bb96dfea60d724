package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"roverd/netpoll"

	"github.com/gobwas/ws"
)

// driveWords are sent in turn. Each changes the state of the car, none reverses a motor, which would pause it, and a car
// that turns on the spot meets no wall, before which it would refuse to drive on.
var driveWords = [2]string{"left", "stop"}

// driver is the client that drives. Replies name no command; the server answers them in order, so the oldest command
// still unanswered is the one that a reply belongs to.
type driver struct {
	// Fixed by newDriver.
	loop   *netpoll.Loop
	target *target
	fail   context.CancelCauseFunc // ends the run
	ready  chan struct{}           // closed when the driver is connected
	done   chan struct{}           // closed when the last command is answered

	// Owned by the loop's goroutine, and by everybody once the loop is closed.
	client  *client
	waiting []command // sent and not answered, the oldest first
	last    bool      // no command follows
	driverFigures
	latency, server, lateness samples
}

// command is one that was sent.
type command struct {
	intended time.Time // when the schedule said it should be
	counted  bool      // it is not of the warm-up
}

// driverFigures is what is reported of a driver. All but the rate is of the measurement, without its warm-up.
type driverFigures struct {
	Rate       float64        `json:"commands_per_s"`
	Sent       int            `json:"sent"`
	Applied    int            `json:"applied"`
	Superseded int            `json:"superseded"` // acknowledged, but overtaken by a newer command
	Errors     map[string]int `json:"errors,omitempty"`
	Unanswered int            `json:"unanswered"`

	// Latency is from the intended sending to the reply, whatever it says. It counts from the intention, so that a
	// stall of the server or of this tool is felt by all commands that fall into it and not only by the first.
	Latency percentiles `json:"command_to_ack"`
	// Server is what the server says of the applied ones: from its reading of the command to the lines being set.
	Server percentiles `json:"server_read_to_line"`
	// Lateness is from the intended sending to the real one: the part of Latency that is this tool's own.
	Lateness percentiles `json:"schedule_lateness"`
}

func newDriver(loop *netpoll.Loop, t *target, rate float64, fail context.CancelCauseFunc) *driver {
	return &driver{loop: loop, target: t, fail: fail, ready: make(chan struct{}), done: make(chan struct{}),
		driverFigures: driverFigures{Rate: rate, Errors: map[string]int{}}}
}

// connect returns when the driver is connected, or ctx has ended.
func (d *driver) connect(ctx context.Context) {
	d.loop.Post(func() { dial(d.loop, d.target, netip.Addr{}, d) })
	select {
	case <-d.ready:
	case <-ctx.Done():
	}
}

// drive sends commands by the clock, whether or not the earlier ones are answered: for warmup, then, after begin is
// called, for length. It returns when all are answered, or enough time for that has passed, or ctx has ended.
func (d *driver) drive(ctx context.Context, warmup, length time.Duration, begin func()) {
	const grace = 5 * time.Second
	start, step := time.Now(), every(d.Rate)
	begun := false
	for i, at := 0, time.Duration(0); at < warmup+length; i, at = i+1, at+step {
		cmd := command{intended: start.Add(at), counted: at >= warmup}
		if !sleepUntil(ctx, cmd.intended) {
			return
		}
		if cmd.counted && !begun {
			begun = true
			begin()
		}
		d.loop.Post(func() { d.send(driveWords[i%len(driveWords)], cmd) })
	}
	if !sleepUntil(ctx, start.Add(warmup+length)) { // let the last one have its interval
		return
	}
	d.loop.Post(func() {
		d.last = true
		d.checkDone()
	})
	select {
	case <-d.done:
	case <-time.After(grace):
	case <-ctx.Done():
	}
}

func (d *driver) send(word string, cmd command) {
	if cmd.counted {
		d.Sent++
		d.lateness = append(d.lateness, time.Since(cmd.intended))
	}
	d.waiting = append(d.waiting, cmd)
	d.client.write(ws.OpText, []byte(word))
}

func (d *driver) opened(c *client, _ time.Duration) {
	d.client = c
	close(d.ready)
}

// reply is what a message of the server may hold for the driver.
type reply struct {
	Op      string `json:"op"`
	Applied bool   `json:"applied"` // ack
	Micros  int64  `json:"us"`      // ack
	Code    string `json:"code"`    // error
	Message string `json:"message"` // error
}

func (d *driver) message(_ *client, p []byte) {
	if isState(p) {
		return
	}
	now := time.Now()
	var r reply
	if err := json.Unmarshal(p, &r); err != nil {
		d.fail(fmt.Errorf("the server sent the driver %q: %w", p, err))
		return
	}
	if r.Op != "ack" && r.Op != "error" {
		return
	}
	if r.Code == "not_allowed" || r.Code == "not_driver" {
		d.fail(fmt.Errorf("the server does not let bench drive: %s (%s)", r.Message, r.Code))
		return
	}
	if len(d.waiting) == 0 {
		d.fail(fmt.Errorf("the server sent a reply to no command: %q", p))
		return
	}
	cmd := d.waiting[0]
	d.waiting = d.waiting[1:]
	if cmd.counted {
		d.count(r, now.Sub(cmd.intended))
	}
	d.checkDone()
}

func (d *driver) count(r reply, latency time.Duration) {
	d.latency = append(d.latency, latency)
	switch {
	case r.Op == "error":
		d.Errors[r.Code]++
	case r.Applied:
		d.Applied++
		d.server = append(d.server, time.Duration(r.Micros)*time.Microsecond)
	default:
		d.Superseded++
	}
}

func (d *driver) checkDone() {
	if d.last && len(d.waiting) == 0 {
		close(d.done)
	}
}

func (d *driver) ended(_ *client, err error) {
	d.fail(fmt.Errorf("the driver's connection: %w", d.target.explain(err)))
}

// figures may be called once the loop is closed.
func (d *driver) figures() driverFigures {
	f := d.driverFigures
	for _, cmd := range d.waiting {
		if cmd.counted {
			f.Unanswered++
		}
	}
	f.Latency, f.Server, f.Lateness = d.latency.percentiles(), d.server.percentiles(), d.lateness.percentiles()
	return f
}

// err tells of commands without an answer.
func (f *driverFigures) err() error {
	switch {
	case f.Applied+f.Superseded == 0:
		return errors.New("no command was acknowledged")
	case f.Unanswered > 0:
		return fmt.Errorf("%d of %d commands were not answered", f.Unanswered, f.Sent)
	}
	return nil
}

// isState tells whether a message tells a state of the car. It looks, and does not parse: with a crowd there are tens
// of thousands a second.
func isState(p []byte) bool { return bytes.Contains(p, []byte(`"op":"state"`)) }
