package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"roverd/netpoll"

	"github.com/gobwas/ws"
)

// driveWords are sent in turn. Each changes the state of the car, and needs the helm, which stop would not; none
// reverses a motor, which would pause it; and a car that turns on the spot meets no wall, before which it would refuse to
// drive on.
var driveWords = [2]string{"left", "left 50"}

// notDriver is the server's refusal of a command because another one drives.
const notDriver = "not_driver"

// drivers send commands by the clock, in turn.
type drivers struct {
	// Fixed by newDrivers.
	rig      *rig
	loop     *netpoll.Loop
	many     bool          // more than one: that some are refused is what is to be seen
	ready    chan struct{} // closed when all are connected
	done     chan struct{} // closed when the last command is answered
	follower follower      // or nil

	// Owned by the loop's goroutine, and by everybody once the loop is closed.
	all                                   []*driver
	connected                             int
	missing                               int  // sent and not answered
	last                                  bool // no command follows
	sent, applied, superseded, unanswered int  // of those that count
	refusals                              map[string]int
	latency, server, late, heard          histogram
	pulse                                 *pulse // while replies are awaited
}

// The names of the times until a reply, and of those that the server has measured.
const (
	commandToAck = "command_to_ack"
	readToLine   = "read_to_line"
)

// follower hears of each command, on the drivers' loop: before it is sent, and when the reply is there.
type follower interface {
	sending()
	replied(r reply, cmd command)
}

// driver is one that drives. Replies name no command; the server answers them in order, so the oldest command still
// unanswered is the one that a reply belongs to.
type driver struct {
	*drivers
	client  *client
	waiting []command // sent and not answered, the oldest first
}

// command is one that was sent.
type command struct {
	intended time.Time // when the schedule said it should be
	counted  bool      // it is not of the warm-up
}

// newDrivers makes n drivers on a loop of their own: else the time to read the crowd's states would be in what they
// measure. With too few processors Go's scheduler would have that loop wait for the crowd's, for up to ten milliseconds.
// So Go is given enough, and it is the kernel that shares out those of the machine, which prefers who has slept.
func (g *rig) newDrivers(n int) (*drivers, error) {
	loop, err := g.newLoop()
	if err != nil {
		return nil, err
	}
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), len(g.loops)+1)) // one for whoever watches the clock
	pulse, err := newPulse(loop)
	if err != nil {
		return nil, err
	}
	d := &drivers{rig: g, loop: loop, many: n > 1, ready: make(chan struct{}), done: make(chan struct{}), refusals: map[string]int{},
		latency: newHistogram(), server: newHistogram(), late: newHistogram(), heard: newHistogram(), pulse: pulse}
	for range n {
		d.all = append(d.all, &driver{drivers: d})
	}
	return d, nil
}

// connect returns when all are connected, or ctx has ended.
func (d *drivers) connect(ctx context.Context) {
	for _, one := range d.all {
		d.loop.Post(func() { dial(d.loop, d.rig.target, netip.Addr{}, one, time.Now()) })
	}
	select {
	case <-d.ready:
	case <-ctx.Done():
	}
}

// drive sends commands by the clock, whether or not the earlier ones are answered, rate of them a second from each
// driver: for warmup, then, after begin is called, for length; end is called when that is over. It returns when all are
// answered, or enough time for that has passed, or ctx has ended.
func (d *drivers) drive(ctx context.Context, rate float64, warmup, length time.Duration, begin, end func()) {
	n := len(d.all)
	begun := false
	i := -1
	for at, due := range ticks(ctx, rate*float64(n), warmup+length) {
		i++
		cmd := command{intended: due, counted: at >= warmup}
		if cmd.counted && !begun {
			begun = true
			begin()
		}
		one, word := d.all[i%n], driveWords[i/n%len(driveWords)]
		d.loop.Post(func() { one.send(word, cmd) })
	}
	if ctx.Err() != nil {
		return
	}
	end()
	d.loop.Post(func() {
		d.last = true
		d.checkDone()
	})
	await(ctx, d.done)
}

func (d *driver) send(word string, cmd command) {
	if cmd.counted {
		d.sent++
		d.late.add(time.Since(cmd.intended))
	}
	if d.follower != nil {
		d.follower.sending()
	}
	d.waiting = append(d.waiting, cmd)
	d.missing++
	d.pulse.start()
	d.client.write(ws.OpText, []byte(word))
}

func (d *driver) opened(c *client, _ time.Duration) {
	d.client = c
	if d.connected++; d.connected == len(d.all) {
		close(d.ready)
	}
}

// reply is what a message of the server may hold for the driver.
type reply struct {
	Op      string `json:"op"`
	Seq     uint64 `json:"seq"`     // ack: the number of the state that shows the command, or of a later one
	Applied bool   `json:"applied"` // ack
	Micros  int64  `json:"us"`      // ack
	Code    string `json:"code"`    // error
	Message string `json:"message"` // error
}

func (d *driver) message(_ *client, p []byte, at time.Time) {
	if isState(p) {
		return
	}
	var r reply
	if err := json.Unmarshal(p, &r); err != nil {
		d.rig.fail(fmt.Errorf("the server sent the driver %q: %w", p, err))
		return
	}
	if r.Op != "ack" && r.Op != "error" {
		return
	}
	if r.Code == "not_allowed" || r.Code == notDriver && !d.many {
		d.rig.fail(refused(r))
		return
	}
	if len(d.waiting) == 0 {
		d.rig.fail(fmt.Errorf("the server sent a reply to no command: %q", p))
		return
	}
	cmd := d.waiting[0]
	d.waiting = d.waiting[1:]
	d.missing--
	if d.follower != nil {
		d.follower.replied(r, cmd)
	}
	if cmd.counted {
		d.heard.add(d.pulse.lateness(at))
		d.tally(r, at.Sub(cmd.intended))
	}
	if d.missing == 0 {
		d.pulse.stop()
	}
	d.checkDone()
}

// refused says in a person's words that the server lets nobody of us drive, and the remedy.
func refused(r reply) error {
	remedy := "another one drives; wait, or end that"
	if r.Code == "not_allowed" {
		remedy = "give -token, or the variable ROVERD_TOKEN, a token for control"
	}
	return fmt.Errorf("the server does not let bench drive: %s (%s): %s", r.Message, r.Code, remedy)
}

func (d *drivers) tally(r reply, latency time.Duration) {
	d.latency.add(latency)
	d.rig.note("commands", latency)
	switch {
	case r.Op == "error":
		d.refusals[r.Code]++
	case r.Applied:
		d.applied++
		d.server.add(time.Duration(r.Micros) * time.Microsecond)
	default:
		d.superseded++
	}
}

func (d *drivers) checkDone() {
	if d.last && d.missing == 0 {
		d.last = false
		close(d.done)
	}
}

func (d *driver) ended(_ *client, err error) {
	d.rig.fail(fmt.Errorf("the driver's connection: %w", d.rig.target.explain(err)))
}

// figures writes what was found into the run, once the loop is closed.
func (d *drivers) figures() {
	for _, one := range d.all {
		for _, cmd := range one.waiting {
			if cmd.counted {
				d.unanswered++
			}
		}
	}
	g := d.rig
	g.run.Refusals = d.refusals
	g.figure("sent", float64(d.sent), "", "")
	g.figure("applied", float64(d.applied), "", "more")
	g.figure("superseded", float64(d.superseded), "", "") // acknowledged, but overtaken by a newer command
	g.figure("unanswered", float64(d.unanswered), "", "less")
}

// times writes the times into the run. They count from the intention, so that a stall of the server or of bench is felt
// by all commands that fall into it and not only by the first.
func (d *drivers) times() {
	g := d.rig
	g.times(d.latency.times(commandToAck, "from when the schedule said to send the command until the reply, whatever that says"))
	g.times(d.server.times(readToLine, "of the applied commands, as the server says: from reading one until the lines are set"))
	g.times(d.late.times(scheduleLateness, "from when the schedule said to send until it was sent: the part that is bench's own"))
	g.times(d.heard.times(readingLateness, "how long a reply may have lain there before bench read it, to a millisecond: bench's own, too"))
}

// err tells of commands without an answer.
func (d *drivers) err() error {
	switch {
	case d.applied+d.superseded == 0 && d.refusals[notDriver] > 0:
		return fmt.Errorf("no command was acknowledged: the helm was another's (%s)", notDriver)
	case d.applied+d.superseded == 0:
		return errors.New("no command was acknowledged")
	case d.unanswered > 0:
		return fmt.Errorf("%d of %d commands were not answered", d.unanswered, d.sent)
	}
	return nil
}

// isState tells whether a message tells a state of the car. It looks, and does not parse: with a crowd there are tens
// of thousands a second.
func isState(p []byte) bool { return bytes.Contains(p, []byte(`"op":"state"`)) }
