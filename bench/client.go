package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"roverd/netpoll"
	"roverd/server/websocket"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

const (
	handshakeTime = 10 * time.Second // from dialing to the server's 101
	maxMessage    = 64 << 10         // bytes of a server's message
)

var errSlow = fmt.Errorf("the server did not answer the opening handshake within %s", handshakeTime)

// client is one connection to the server: a WebSocket, or plain TCP with messages of a fixed size, which is how a server
// without any protocol is measured. All of it belongs to the loop's goroutine. There may be a million: it is 64 bytes.
type client struct {
	role    role // nil once it has heard of the end
	conn    *netpoll.Conn
	decoder websocket.Decoder
	opening *opening // nil once open
	size    int32    // of a message over plain TCP; 0 is a WebSocket
	part    int32    // plain TCP: bytes of a message that is not complete
	open    bool     // it opened, once
}

// opening is what a client needs only until it is open.
type opening struct {
	began time.Time
	head  []byte // of the server's response, as far as it has arrived
}

var openings = sync.Pool{New: func() any { return new(opening) }}

// role is what a client is there for. It hears of the client's life on the loop's goroutine.
type role interface {
	// opened tells that the handshake is done, which took that long.
	opened(c *client, took time.Duration)
	// message gets a text or binary message, read at that time; p is valid until it returns. Over plain TCP p is nil.
	message(c *client, p []byte, at time.Time)
	// ended is the last event and comes exactly once, for a client that never opened too (c.open tells). The error is
	// errLeft when it was bench that ended it.
	ended(c *client, err error)
}

// errLeft ends a client that has done what it was there for.
var errLeft = errors.New("bench closed the connection")

// dial opens a client, on the loop's goroutine. The handshake's time counts from began.
func dial(loop *netpoll.Loop, t *target, from netip.Addr, r role, began time.Time) {
	c := &client{role: r, size: int32(t.raw), opening: openings.Get().(*opening)}
	c.opening.began = began
	conn, err := loop.Dial(from, t.addr, t.request, c)
	if err != nil {
		c.end(err)
		return
	}
	c.conn = conn
	conn.SetDeadline(handshakeTime)
}

func (c *client) Data(conn *netpoll.Conn, p []byte) {
	at := time.Now()
	if c.size > 0 {
		for c.part += int32(len(p)); c.part >= c.size && c.role != nil; c.part -= c.size {
			c.role.message(c, nil, at)
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
	for c.role != nil {
		m, n, err := c.decoder.Next(p, websocket.Client, maxMessage)
		if err != nil {
			conn.Close(err)
			return
		}
		switch m.Op {
		case ws.OpText, ws.OpBinary:
			c.role.message(c, m.Payload, at)
		case ws.OpPing:
			c.write(ws.OpPong, m.Payload)
		case ws.OpClose:
			c.write(ws.OpClose, nil)
			conn.Finish()
			c.end(fmt.Errorf("the server closed the connection: %d %s", m.Code, m.Payload))
			return
		case 0:
			return
		}
		p = p[n:]
	}
}

// remedies are what to do when the server does not upgrade.
var remedies = map[string]string{
	"HTTP/1.1 401 ": "it wants a token: set the variable ROVERD_TOKEN",
	"HTTP/1.1 404 ": "give another path; roverd has /echo with -echo only",
}

// handshake reads the server's response and returns what stands behind it.
func (c *client) handshake(p []byte) (rest []byte, err error) {
	head := append(c.opening.head, p...)
	c.opening.head = head
	n, err := websocket.HeadLength(head)
	if n == 0 || err != nil {
		return nil, err
	}
	if err := websocket.CheckResponse(head[:n]); err != nil {
		for status, remedy := range remedies {
			if bytes.HasPrefix(head, []byte(status)) {
				err = fmt.Errorf("%w: %s", err, remedy)
			}
		}
		return nil, err
	}
	c.opened()
	return p[len(p)-(len(head)-n):], nil
}

func (c *client) opened() {
	c.open = true
	c.conn.SetDeadline(0)
	began := c.opening.began
	c.forget()
	c.role.opened(c, time.Since(began))
}

// forget lets others have what is only needed for the opening.
func (c *client) forget() {
	if o := c.opening; o != nil {
		o.head = o.head[:0]
		openings.Put(o)
		c.opening = nil
	}
}

// write sends a frame, masked as a client's must be.
func (c *client) write(op ws.OpCode, payload []byte) {
	var mask [4]byte
	binary.NativeEndian.PutUint32(mask[:], rand.Uint32())
	c.conn.Write(websocket.AppendMasked(nil, op, payload, mask))
}

// leave ends the client as a well-behaved one does: a close frame, then the end of the sending side.
func (c *client) leave() {
	if c.size == 0 {
		c.write(ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))
	}
	c.conn.Finish()
	c.end(errLeft)
}

// detach takes the connection out of the loop: nobody reads it any more. The caller owns the descriptor, non-blocking;
// -1 when the connection is broken, of which the role hears otherwise.
func (c *client) detach() (fd int) {
	fd, err := c.conn.Detach()
	if err != nil {
		return -1
	}
	c.end(errLeft)
	return fd
}

// reset ends the client with a reset of TCP instead of the orderly end, as a peer does that has crashed and come back
// (socket(7), SO_LINGER with a time of zero).
func (c *client) reset() {
	if fd := c.detach(); fd >= 0 {
		resetAndClose(fd)
	}
}

func resetAndClose(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(fd)
}

// end tells the role, once.
func (c *client) end(err error) {
	c.forget()
	if r := c.role; r != nil {
		c.role = nil
		r.ended(c, err)
	}
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
	c.end(err)
}
