package main

import (
	"roverd/netpoll"
	"roverd/server/websocket"

	"github.com/gobwas/ws"
)

// maxEcho is the longest message that is echoed, in bytes.
const maxEcho = 16 << 20

// echo is a client of /echo, which -echo adds for conformance and load tests: every message comes back. It has nothing
// to do with the car.
type echo struct {
	srv     *server
	conn    *netpoll.Conn
	decoder websocket.Decoder
	place   uint32 // at the gate
	ended   bool
}

func (e *echo) Data(c *netpoll.Conn, p []byte) {
	receive(e, &e.decoder, p, maxEcho)
	c.Pause() // a client that does not read what it has coming may not add to it
}

func (e *echo) message(op ws.OpCode, p []byte) {
	var header [websocket.MaxHeader]byte
	e.conn.Write(websocket.AppendHeader(header[:0], op, len(p)))
	e.conn.Write(p)
}

func (e *echo) pong(p []byte) { e.message(ws.OpPong, p) }

func (e *echo) close(code ws.StatusCode, reason string) {
	e.ended = true
	e.conn.Write(websocket.AppendClose(nil, code, reason))
	e.conn.Finish()
}

func (e *echo) fail(err error) {
	fault := asFault(err)
	e.srv.complain("a client broke the WebSocket protocol", fault, e.conn)
	e.close(fault.Code, fault.Reason)
}

func (e *echo) gone() bool { return e.ended }

func (e *echo) Drained(*netpoll.Conn) {}
func (e *echo) Expired(*netpoll.Conn) {}

func (e *echo) Closed(c *netpoll.Conn, err error) {
	e.srv.gate.leave(e.place)
	e.srv.lost(err, c)
}
