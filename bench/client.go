package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"roverd/netpoll"
	"roverd/server/websocket"

	"github.com/gobwas/ws"
)

const (
	handshakeTime = 10 * time.Second // from dialing to the server's 101
	maxMessage    = 64 << 10         // bytes of a server's message
)

var errSlow = fmt.Errorf("the server did not answer the opening handshake within %s", handshakeTime)

// client is one connection to the server: a WebSocket, or plain TCP with messages of a fixed size, which is how a server
// without any protocol is measured. All of it belongs to the loop's goroutine.
type client struct {
	role    role
	conn    *netpoll.Conn
	decoder websocket.Decoder
	size    int // of a message over plain TCP; 0 is a WebSocket
	part    int // plain TCP: bytes of a message that is not complete
	began   time.Time
	arrived time.Time // when what Data handles was read
	head    []byte    // of the server's response, as far as it has arrived
	open    bool
	goodbye error // what the server's close frame said
}

// role is what a client is there for. It hears of the client's life on the loop's goroutine.
type role interface {
	// opened tells that the handshake is done, which took that long.
	opened(c *client, took time.Duration)
	// message gets a text or binary message; p is valid until it returns. Over plain TCP p is nil.
	message(c *client, p []byte)
	// ended is the last event and comes exactly once, for a client that never opened too (c.open tells).
	ended(c *client, err error)
}

// dial opens a client, on the loop's goroutine.
func dial(loop *netpoll.Loop, t *target, from netip.Addr, r role) {
	c := &client{role: r, size: t.raw, began: time.Now()}
	conn, err := loop.Dial(from, t.addr, t.request, c)
	if err != nil {
		r.ended(c, err)
		return
	}
	c.conn = conn
	conn.SetDeadline(handshakeTime)
}

func (c *client) Data(conn *netpoll.Conn, p []byte) {
	c.arrived = time.Now()
	if c.size > 0 {
		for c.part += len(p); c.part >= c.size; c.part -= c.size {
			c.role.message(c, nil)
		}
		return
	}
	if !c.open {
		var err error
		if p, err = c.handshake(p); err != nil {
			conn.Close(err)
			return
		}
		if !c.open {
			return
		}
	}
	for {
		m, n, err := c.decoder.Next(p, websocket.Client, maxMessage)
		if err != nil {
			conn.Close(err)
			return
		}
		switch m.Op {
		case ws.OpText, ws.OpBinary:
			c.role.message(c, m.Payload)
		case ws.OpPing:
			c.write(ws.OpPong, m.Payload)
		case ws.OpClose:
			c.goodbye = fmt.Errorf("the server closed the connection: %d %s", m.Code, m.Payload)
			c.write(ws.OpClose, nil)
			conn.Finish()
			return
		case 0:
			return
		}
		p = p[n:]
	}
}

// handshake reads the server's response and returns what stands behind it.
func (c *client) handshake(p []byte) (rest []byte, err error) {
	c.head = append(c.head, p...)
	n, err := websocket.HeadLength(c.head)
	if n == 0 || err != nil {
		return nil, err
	}
	if err := websocket.CheckResponse(c.head[:n]); err != nil {
		return nil, err
	}
	rest, c.head = c.head[n:], nil
	c.opened()
	return rest, nil
}

func (c *client) opened() {
	c.open = true
	c.conn.SetDeadline(0)
	c.role.opened(c, time.Since(c.began))
}

// write sends a frame, masked as a client's must be.
func (c *client) write(op ws.OpCode, payload []byte) {
	var mask [4]byte
	binary.NativeEndian.PutUint32(mask[:], rand.Uint32())
	c.conn.Write(websocket.AppendMasked(nil, op, payload, mask))
}

// Drained tells, the first time, that the connection is established: over plain TCP it is then open.
func (c *client) Drained(*netpoll.Conn) {
	if c.size > 0 && !c.open {
		c.opened()
	}
}

func (c *client) Expired(conn *netpoll.Conn) { conn.Close(errSlow) }

func (c *client) Closed(_ *netpoll.Conn, err error) {
	if errors.Is(err, netpoll.ErrLoopClosed) {
		return // the run is over: nobody asks any more
	}
	if c.goodbye != nil {
		err = c.goodbye
	}
	c.role.ended(c, err)
}
