package main

import (
	"fmt"
	"net/netip"
	"time"

	"roverd/netpoll"
	"roverd/server/websocket"

	"github.com/gobwas/ws"
)

// maxBacklog is how much output a viewer may leave untaken, in bytes, before it is let go: replies are owed, so they
// queue up, unlike states, of which a slow viewer simply misses some.
const maxBacklog = 64 << 10

const repliesUnread = "the replies are not being read"

// tryAgainLater is close code 1013 of IANA's registry of WebSocket close codes.
const tryAgainLater ws.StatusCode = 1013

const (
	pingAfter = 60 * time.Second // of silence: is anybody there?
	pongTime  = 60 * time.Second // to answer; a slow viewer has to read what came before the ping
)

var errSilent = fmt.Errorf("no answer to a ping within %s", pongTime)

// viewer is one WebSocket client. All of it belongs to the goroutine of its loop. It is small, as most only watch: what one
// needs that has something to say is its pilot.
type viewer struct {
	deck    *deck
	conn    *netpoll.Conn
	decoder websocket.Decoder
	id      uint64
	index   int32  // in deck.viewers; -1 when it has left
	shown   uint32 // version of the last state sent
	place   uint32 // at the gate
	role    role   // as it came
	pinged  bool   // and has said nothing since
	speaks  bool   // it has a pilot
	driving bool   // see drives
}

// Data reads the client's messages.
func (v *viewer) Data(c *netpoll.Conn, p []byte) {
	if v.pinged {
		v.pinged = false
		c.SetDeadline(pingAfter)
	}
	v.deck.now = time.Now()
	receive(v, &v.decoder, p, maxMessage)
	v.deck.shed()
}

func (v *viewer) message(op ws.OpCode, p []byte) {
	if op == ws.OpBinary {
		err := refusal(isBinary, "a binary frame of %d bytes: send commands as text frames", len(p))
		v.pilot().deal(request{id: noID}, err, v.deck.now)
		return
	}
	v.pilot().message(p, v.deck.now)
}

// pilot returns the viewer's pilot.
func (v *viewer) pilot() *pilot {
	p := v.deck.pilots[v]
	if p == nil {
		p = newPilot(v.deck, v, v.id, v.role)
		v.deck.pilots[v], v.speaks = p, true
	}
	return p
}

func (v *viewer) pong(p []byte) {
	if v.pilot().pinged(v.deck.now) {
		v.send(ws.OpPong, p)
	}
}

func (v *viewer) fail(err error) {
	fault := asFault(err)
	v.deck.srv.complain("a client broke the WebSocket protocol", fault, v.conn)
	v.close(fault.Code, fault.Reason)
}

func (v *viewer) gone() bool { return v.index < 0 }

// say, drives and peer are for the pilot.
func (v *viewer) say(message []byte) { v.send(ws.OpText, message) }

func (v *viewer) peer() netip.Addr { return v.deck.srv.clientOf(v.conn) }

func (v *viewer) drives(yes bool) {
	v.driving = yes
	v.conn.Prefer(yes) // its next command overtakes everyone
	if yes {
		v.conn.SetDeadline(helmIdle)
	}
}

// send queues a frame that the client is owed.
func (v *viewer) send(op ws.OpCode, payload []byte) {
	var small [256]byte
	v.conn.Write(websocket.AppendFrame(small[:0], op, payload))
	if v.conn.Backlog() > maxBacklog {
		v.close(tryAgainLater, repliesUnread)
	}
}

// show sends a state, unless the client is still busy with what it got before: then it gets the newest when it is done.
func (v *viewer) show(f *frame) {
	if v.shown != f.version && !v.conn.Blocked() {
		v.shown = f.version
		v.conn.Write(f.bytes)
	}
}

// Drained shows the client what it has missed.
func (v *viewer) Drained(*netpoll.Conn) { v.show(v.deck.topic.Load()) }

// Expired finds out about peers that went without a word, and about drivers that have stopped driving.
func (v *viewer) Expired(c *netpoll.Conn) {
	switch {
	case v.driving:
		v.drives(false) // each command renews the deadline
		c.SetDeadline(pingAfter)
	case v.pinged:
		v.drop(errSilent)
	default:
		v.pinged = true
		c.SetDeadline(pongTime)
		v.send(ws.OpPing, nil)
	}
}

// owes and drop are for the deck.
func (v *viewer) owes() int { return untaken(v.conn) }

func (v *viewer) drop(err error) {
	v.conn.Close(err)
	v.leave()
}

// close sends a close frame and ends the connection behind it.
func (v *viewer) close(code ws.StatusCode, reason string) {
	v.conn.Write(websocket.AppendClose(nil, code, reason))
	v.conn.Finish()
	v.leave()
}

// Closed is the end, whether or not close came before it.
func (v *viewer) Closed(c *netpoll.Conn, err error) {
	v.deck.srv.gate.leave(v.place)
	v.deck.srv.lost(err, c)
	v.leave()
}

// leave takes the viewer out of the crowd, and its pilot from the helm.
func (v *viewer) leave() {
	if v.gone() {
		return
	}
	v.conn.Prefer(false)
	v.deck.remove(v)
	v.index = -1
	v.deck.srv.publisher.crowd(-1)
	if v.speaks {
		v.deck.pilots[v].leave()
		delete(v.deck.pilots, v)
	}
}
