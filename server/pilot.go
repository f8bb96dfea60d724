package main

import (
	"cmp"
	"math"
	"net/netip"
	"time"

	"roverd/hardware"

	"github.com/gobwas/ws"
)

// speaker is a client's connection as its pilot sees it, on the goroutine of its loop.
type speaker interface {
	// say sends a message that the client is owed.
	say(message []byte)
	// close ends the connection behind what has been said.
	close(code ws.StatusCode, reason string)
	// drives tells whether the client drives: then its input passes that of the crowd, and helmIdle of silence is worth
	// knowing of.
	drives(yes bool)
	// peer returns the client's address.
	peer() netip.Addr
}

// pilot is a client that has something to say, whatever it speaks. Most only watch, and have none.
type pilot struct {
	// Fixed.
	deck *deck
	out  speaker
	id   uint64

	// Owned by the bridge.
	name string

	// Owned by the loop.
	role   role
	seq    int64 // the highest of its commands to the car
	clock  clock
	bucket bucket // of messages
	owed   int    // answers that the car has yet to give
}

// tooManyTimes is how many bursts of messages beyond its limit a client may send before it is let go.
const tooManyTimes = 2

func newPilot(d *deck, out speaker, id uint64, r role) *pilot {
	return &pilot{deck: d, out: out, id: id, role: r, seq: noID}
}

// String is how the client is called on the wire and in the log; nobody has no name.
func (p *pilot) String() string {
	if p == nil {
		return ""
	}
	return viewerName(p.id)
}

// message deals with a message that was read at a time. Each has one answer.
func (p *pilot) message(text []byte, at time.Time) {
	r, err := parse(text, p.deck.srv.cfg.Camera.Step)
	p.deal(r, err, at)
}

// deal is message for what has been taken apart already: err is what is wrong with it.
func (p *pilot) deal(r request, err error, at time.Time) {
	level := p.count(at)
	isStop := err == nil && r.op == opCar && stops(r.car.Kind)
	if level < 0 && !isStop { // however many there are, a stop is a stop
		err = errTooFast(p.deck.srv.messages)
	}
	if err == nil {
		err = p.obey(r, at)
	}
	if err != nil {
		if e, ok := err.(*wireError); ok && e.code == notDriver {
			p.out.drives(false)
		}
		p.refuse(r.id, err)
	}
	p.tolerate(level)
}

// pinged counts a ping as any message, and tells whether to answer it: of too many one need not (RFC 6455 section 5.5.3).
func (p *pilot) pinged(at time.Time) bool {
	level := p.count(at)
	p.tolerate(level)
	return level >= 0
}

// count counts a message, and returns how many more there may be at once; below zero there are too many.
func (p *pilot) count(at time.Time) float64 {
	l := p.deck.srv.messages
	if l.rate == 0 {
		return 0
	}
	p.bucket.take(l, at)
	return p.bucket.level(l, at)
}

// tolerate lets a client go that has sent far too many messages.
func (p *pilot) tolerate(level float64) {
	srv := p.deck.srv
	if level < -tooManyTimes*srv.messages.burst {
		srv.audit.add(event{What: "too_fast", Who: p.String()})
		p.out.close(ws.StatusPolicyViolation, "too many messages")
	}
}

func errTooFast(l limit) error {
	return refusal(tooFast, "too many messages: %v a second are taken, and up to %v at once", l.rate, l.burst)
}

// obey does what a message asks for, and answers it, or returns why not.
func (p *pilot) obey(r request, at time.Time) error {
	bridge := p.deck.srv.bridge
	switch {
	case r.op == opAuth:
		return p.auth(r.id, r.text, at)
	case p.role == stranger:
		return errStranger
	}
	switch r.op {
	case opPing:
		p.say(appendPong(p.deck.scratch[:0], r.id))
		return nil
	case opState:
		p.say(appendState(p.deck.scratch[:0], r.id, p.deck.srv.publisher.snapshot()))
		return nil
	case opName:
		bridge.rename(p, r.text)
		p.done(r.id, 0)
		return nil
	}
	if p.role != control {
		return errWatches
	}
	switch r.op {
	case opClaim:
		wait, err := bridge.claim(p, at)
		if err == nil {
			p.done(r.id, wait)
		}
		return err
	case opRelease:
		return p.doneUnless(r.id, bridge.release(p, at))
	case opGrant:
		return p.doneUnless(r.id, bridge.grant(p, at))
	case opRefuse:
		return p.doneUnless(r.id, bridge.refuse(p, at))
	}
	return p.command(r, at)
}

// command passes a command on to the car, which answers it.
func (p *pilot) command(r request, at time.Time) error {
	cmd := r.car
	cmd.At, cmd.From, cmd.Tag = at, p, r.id
	if cmd.Kind == hardware.Drive {
		late := p.clock.late(r.sent, at)
		ttl := cmp.Or(cmd.TTL, p.deck.srv.car.TTL())
		switch {
		case late >= ttl:
			return refusal(isStale, "the command came %s later than it should have, and its time to live is %s",
				late.Round(time.Millisecond), ttl)
		case r.seq != noID && r.seq < p.seq:
			return refusal(isStale, "seq %d comes after %d: the command is out of date", r.seq, p.seq)
		}
		cmd.TTL = ttl - late
	}
	if err := p.deck.srv.bridge.command(p, cmd, at); err != nil {
		return err
	}
	p.owed++
	p.seq = max(p.seq, r.seq)
	if !stops(cmd.Kind) {
		p.out.drives(true)
	}
	return nil
}

// auth gives the client the role of a token.
func (p *pilot) auth(id int64, token string, at time.Time) error {
	srv := p.deck.srv
	if srv.cfg.Open { // whatever it shows, as everywhere; but nobody becomes more by it
		p.say(appendRole(p.deck.scratch[:0], id, p.role))
		return nil
	}
	from := p.out.peer()
	got, err := srv.access.check(token, from, at)
	if err != nil {
		srv.audit.loginRefused(err, from)
		return err
	}
	p.role = max(p.role, got)
	p.say(appendRole(p.deck.scratch[:0], id, p.role))
	return nil
}

// leave is the end of the client.
func (p *pilot) leave() { p.deck.srv.bridge.leave(p, time.Now()) }

// Done sends the car's answer.
func (p *pilot) Done(cmd hardware.Command, r hardware.Result) {
	p.deck.answer(answer{pilot: p, id: cmd.Tag, result: r})
}

func (p *pilot) doneUnless(id int64, err error) error {
	if err == nil {
		p.done(id, 0)
	}
	return err
}

func (p *pilot) done(id int64, wait time.Duration) { p.say(appendDone(p.deck.scratch[:0], id, wait)) }

func (p *pilot) refuse(id int64, err error) { p.say(appendError(p.deck.scratch[:0], id, err)) }

// say sends a message that was made in the deck's scratch buffer.
func (p *pilot) say(message []byte) {
	p.deck.scratch = message
	p.out.say(message)
}

// clock compares a client's clock with ours, though the two have nothing in common but how fast they go: what comes later
// than the quickest message so far, by the time that has passed for the client, was under way for so much longer. So what
// had piled up while the link was down is known to be old, though it comes all at once.
type clock struct {
	start, last time.Time // of ours: at the first message, and at the last
	sent        float64   // when the last was sent
	quickest    float64   // by how much our clock, from start, is ahead when a message comes at its quickest, in milliseconds
}

// drift is how much slower than ours a client's clock may go before that looks like delay: more than a bad one does.
const drift = 0.001

// late returns by how much a message, sent at a time by the client's clock (NaN if that is not known), came too late.
func (c *clock) late(sent float64, now time.Time) time.Duration {
	if math.IsNaN(sent) {
		return 0
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	if c.start.IsZero() || sent < c.sent { // the first, or the clock has been set
		*c = clock{start: now, last: now, quickest: -sent}
	}
	ahead := ms(now.Sub(c.start)) - sent
	c.quickest = min(ahead, c.quickest+drift*ms(now.Sub(c.last)))
	c.sent, c.last = sent, now
	return time.Duration(min(ahead-c.quickest, ms(time.Hour)) * float64(time.Millisecond))
}
