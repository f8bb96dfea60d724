package main

import (
	"errors"

	"roverd/server/websocket"

	"github.com/gobwas/ws"
)

// receiver is a WebSocket client as its input sees it.
type receiver interface {
	// message gets a whole text or binary message, valid until it returns.
	message(op ws.OpCode, p []byte)
	// pong owes the client the answer to its ping.
	pong(p []byte)
	// close says so in a close frame and ends the connection behind it.
	close(code ws.StatusCode, reason string)
	// fail is close for a client that broke the protocol.
	fail(err error)
	// gone tells that the connection has been ended: whatever else the client has sent, it says nothing more.
	gone() bool
}

// asFault returns what a close frame is to say of an error of the decoder.
func asFault(err error) *websocket.Error {
	fault := &websocket.Error{Code: ws.StatusInternalServerError, Reason: err.Error()}
	errors.As(err, &fault)
	return fault
}

// receive takes the next bytes of a client apart (RFC 6455 sections 5 and 7).
func receive(r receiver, d *websocket.Decoder, p []byte, limit int) {
	for !r.gone() {
		m, n, err := d.Next(p, websocket.Server, limit)
		if err != nil {
			r.fail(err)
			return
		}
		switch m.Op {
		case ws.OpText, ws.OpBinary:
			r.message(m.Op, m.Payload)
		case ws.OpPing:
			r.pong(m.Payload)
		case ws.OpClose:
			r.close(m.Code, "")
		case 0:
			return
		}
		p = p[n:]
	}
}
