package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"

	"roverd/netpoll"
	"roverd/server/websocket"
)

// maxHello is how much a client may say before it hears anything, and in all of its TLS handshake: more than a record of
// the largest size.
const maxHello = 32 << 10

var (
	errNoTLS   = errors.New("what came first is no TLS handshake")
	errTooMuch = fmt.Errorf("the TLS handshake has more than %d bytes", maxHello)
)

// handshake is a connection on its way to be a guest over TLS.
//
// crypto/tls can't be interrupted in a handshake, so each has a goroutine; its connection stays with the loop, which
// brings what the client says and takes what it is told. So a client that says nothing, or not enough of it, costs no
// goroutine, and the loop's deadlines and its end hold for all.
type handshake struct {
	nowhere
	deck   *deck
	conn   *netpoll.Conn
	from   netip.Addr
	place  uint32 // at the gate
	secure *secure

	// Owned by the loop's goroutine.
	queued bool // srv.handshakes has it
	over   bool // nothing is to come of it any more

	source *source // of srv.handshakes

	// Shared with its own goroutine.
	mu   sync.Mutex
	in   []byte // what has come and was not read yet
	said int    // what was read before
	err  error  // nothing more comes
	wake chan struct{}
}

// newHandshake takes a new connection.
func newHandshake(d *deck, c *netpoll.Conn, from netip.Addr) netpoll.Handler {
	srv := d.srv
	place, err := srv.enter(from)
	if err != nil { // to tell it so would take the handshake
		srv.complain("turned a connection away", err, c)
		return nil
	}
	h := &handshake{deck: d, conn: c, from: from, place: place, wake: make(chan struct{}, 1)}
	h.secure = &secure{Conn: h}
	h.secure.tls = tls.Server(h.secure, srv.handshakes.config)
	c.SetDeadline(srv.handshakes.time)
	return h
}

func (h *handshake) Data(c *netpoll.Conn, p []byte) {
	if h.over {
		return
	}
	h.mu.Lock()
	h.in = append(h.in, p...)
	in := h.in
	h.mu.Unlock()
	switch {
	case !h.queued && len(in) > maxHello:
		c.Close(errTooMuch)
	case h.queued:
		c.Hold()
		h.rouse()
	case 'A' <= in[0] && in[0] <= 'Z':
		h.over = true
		h.deck.srv.complain("turned a request away", errors.New("HTTP on a port that speaks TLS"), c)
		refuse(c, in, &websocket.Refusal{Status: http.StatusBadRequest,
			Reason: "the client sent an HTTP request to an HTTPS server: use https:// and wss://"})
	default:
		whole, err := hasHello(in)
		if err != nil {
			c.Close(err)
		} else if whole {
			h.queued = true
			c.Hold()
			h.deck.srv.handshakes.add(h)
		}
	}
}

// hasHello tells whether the first record is there (RFC 8446 section 5.1).
func hasHello(p []byte) (bool, error) {
	const header, handshakeType, largest = 5, 22, 1 << 14
	if p[0] != handshakeType || len(p) > 1 && p[1] != 3 {
		return false, errNoTLS
	}
	if len(p) < header {
		return false, nil
	}
	n := int(binary.BigEndian.Uint16(p[3:]))
	if n == 0 || n > largest {
		return false, errNoTLS
	}
	return len(p) >= header+n, nil
}

func (h *handshake) rouse() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// fail has Read return err.
func (h *handshake) fail(err error) {
	h.mu.Lock()
	h.err = err
	h.mu.Unlock()
}

// run is its goroutine's work.
func (h *handshake) run() {
	turns := h.deck.srv.handshakes.turns
	turns <- struct{}{}
	err := h.shake()
	<-turns
	h.deck.loop.Post(func() { h.conclude(err) })
}

func (h *handshake) shake() (err error) {
	defer func() {
		if v := recover(); v != nil { // it is at a stranger's mercy
			err = fmt.Errorf("panic in a TLS handshake: %v\n%s", v, debug.Stack())
		}
	}()
	return h.secure.tls.Handshake()
}

// Read is how crypto/tls gets what the client says, which is read as far as it is wanted: behind the last of the
// handshake there may be more, and others wait. While it waits for the client, others have its turn.
func (h *handshake) Read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.in) == 0 && h.err == nil {
		h.mu.Unlock()
		h.deck.loop.Post(h.conn.Resume)
		all := h.deck.srv.handshakes
		<-all.turns
		select {
		case <-h.wake:
		case <-all.end: // for a loop that has ended by a panic tells nobody
			h.fail(net.ErrClosed)
		}
		all.turns <- struct{}{}
		h.mu.Lock()
	}
	if h.err != nil {
		return 0, h.err
	}
	n := copy(p, h.in)
	h.in = h.in[n:]
	if h.said += n; h.said > maxHello {
		return 0, errTooMuch
	}
	return n, nil
}

func (h *handshake) Write(p []byte) (int, error) {
	wire := bytes.Clone(p)
	h.deck.loop.Post(func() { h.conn.Write(wire) })
	return len(p), nil
}

// conclude makes the connection a guest, on the goroutine of its loop.
func (h *handshake) conclude(err error) {
	c := h.conn
	switch {
	case h.over:
	case err != nil:
		h.over = true
		h.deck.srv.complain("a TLS handshake failed", err, c)
		h.in, h.secure = nil, nil // the client may take its time
		c.Finish()                // behind the alert
	default:
		c.Resume()
		s := h.secure
		s.Conn, s.handler = h.deck.wire, &guest{deck: h.deck, place: h.place, from: h.from}
		c.SetLayer(s)
		c.SetDeadline(headTime)
		c.Feed(h.in)
	}
}

func (h *handshake) Drained(*netpoll.Conn) {}

func (h *handshake) Expired(c *netpoll.Conn) {
	var err error
	if h.queued || len(h.in) > 0 { // else it is one that browsers open to have it, and then have no use for
		err = fmt.Errorf("the TLS handshake was not over within %s", h.deck.srv.handshakes.time)
	}
	c.Close(err)
}

func (h *handshake) Closed(c *netpoll.Conn, err error) {
	srv := h.deck.srv
	h.over = true
	if h.queued {
		srv.handshakes.remove(h)
	}
	h.fail(net.ErrClosed)
	h.rouse()
	srv.gate.leave(h.place)
	srv.lost(err, c)
}

// startTLS has the server speak nothing but TLS.
func (s *server) startTLS(certFile, keyFile string) error {
	var err error
	s.certificate, err = loadCertificate(certFile, keyFile, s.log)
	if err == nil {
		s.handshakes = newHandshakes(s.certificate.config())
	}
	return err
}
