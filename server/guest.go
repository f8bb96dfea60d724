package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"roverd/netpoll"
	"roverd/server/websocket"

	"go.uber.org/zap"
)

// headTime is how long a client may take to send the whole head of its request.
const headTime = 10 * time.Second

// guest is a connection whose HTTP request has not arrived whole yet. Then it becomes a viewer, or net/http's.
type guest struct {
	deck  *deck
	head  []byte // what has arrived, if the head did not come in one piece
	place uint32 // at the gate
	local bool   // it comes from this computer
}

// newGuest lets a new connection in, or turns it away.
func newGuest(d *deck, c *netpoll.Conn, from netip.Addr) netpoll.Handler {
	gate := d.srv.gate
	place, err := gate.enter(from)
	if err == nil {
		c.SetDeadline(headTime)
		return &guest{deck: d, place: place, local: from.IsLoopback()}
	}
	d.srv.complain("turned a connection away", err, c)
	if !gate.turnAway() {
		return nil
	}
	refuse(c, nil, unavailable(err.Error()))
	return turned{gate}
}

func (g *guest) Data(c *netpoll.Conn, p []byte) {
	if g.head != nil {
		p = append(g.head, p...)
	}
	for bytes.HasPrefix(p, []byte("\r\n")) { // some send empty lines behind the last request (RFC 9112 section 2.2)
		p = p[2:]
	}
	n, err := websocket.HeadLength(p)
	if err == nil && n == 0 {
		if g.head == nil {
			p = bytes.Clone(p)
		}
		g.head = p
		return
	}
	var h websocket.Head
	if err == nil {
		h, err = websocket.ParseHead(p[:n])
	}
	switch {
	case err != nil:
		g.turnAway(c, p, err)
	case h.IsUpgrade():
		g.upgrade(c, &h, p, n)
	default:
		g.handOver(c, p)
	}
}

// upgrade makes the guest a viewer, or an echo. What stands behind the head, of n bytes, are its first frames.
func (g *guest) upgrade(c *netpoll.Conn, head *websocket.Head, p []byte, n int) {
	srv := g.deck.srv
	req, response, err := g.deck.upgrader.Upgrade(head)
	if err != nil {
		g.turnAway(c, p, err)
		return
	}
	c.Write(response)
	c.SetDeadline(0)
	var h netpoll.Handler
	if req.URL.Path == "/echo" {
		h = &echo{srv: srv, conn: c, place: g.place}
	} else {
		h = srv.join(g, c, req.Host)
	}
	c.SetHandler(h)
	if n < len(p) {
		h.Data(c, p[n:])
	}
}

// checkUpgrade refuses WebSockets on other paths than / and /ws, and those that a page of another site opens: browsers
// let any page connect to any host, and without this any page could drive the car of whoever looks at it
// (RFC 6455 section 10.2). A site whose name was made to lead here gets past this, and may watch: see isLocal. Clients
// that are not browsers send no Origin.
func (s *server) checkUpgrade(r websocket.Request) error {
	path := r.URL.Path
	if path != "/" && path != "/ws" && !(path == "/echo" && s.cfg.Echo) {
		return &websocket.Refusal{Status: http.StatusNotFound, Reason: "no WebSocket at " + path + ": it is at / and /ws"}
	}
	scheme, host, _ := strings.Cut(r.Origin, "://") // nothing may follow the host (RFC 6454 section 6.2)
	if r.Origin != "" && (scheme != "http" && scheme != "https" || !strings.EqualFold(host, r.Host)) {
		return &websocket.Refusal{Status: http.StatusForbidden,
			Reason: "a page from " + r.Origin + " may not connect to " + r.Host}
	}
	return nil
}

// handOver gives an ordinary HTTP request, as far as it has been read, to net/http.
func (g *guest) handOver(c *netpoll.Conn, read []byte) {
	h := g.deck.srv.handover
	if !h.reserve() {
		g.turnAway(c, read, unavailable(fmt.Sprintf("more than %d HTTP connections at a time; try again", maxHTTP)))
		return
	}
	fd, err := c.Detach()
	if err != nil {
		h.release()
		return
	}
	g.deck.srv.gate.leave(g.place)
	if err := h.give(g.deck, fd, bytes.Clone(read)); err != nil {
		g.deck.srv.trouble.Error("hand a connection to HTTP", zap.Error(err))
	}
}

// turnAway answers a request, as far as it was read, with an error, which ends the connection.
func (g *guest) turnAway(c *netpoll.Conn, request []byte, err error) {
	g.deck.srv.complain("turned a request away", err, c)
	refuse(c, request, err)
}

func refuse(c *netpoll.Conn, request []byte, err error) {
	c.Write(websocket.AsRefusal(err).AppendTo(nil, request, time.Now()))
	c.Finish()
}

func unavailable(reason string) *websocket.Refusal {
	return &websocket.Refusal{Status: http.StatusServiceUnavailable, Reason: reason}
}

func (g *guest) Expired(c *netpoll.Conn) {
	if len(g.head) == 0 { // browsers open connections that they then have no use for
		c.Finish()
		return
	}
	g.turnAway(c, g.head, &websocket.Refusal{Status: http.StatusRequestTimeout,
		Reason: fmt.Sprintf("the head of the request did not arrive within %s", headTime)})
}

func (g *guest) Drained(*netpoll.Conn) {}

func (g *guest) Closed(c *netpoll.Conn, err error) {
	g.deck.srv.gate.leave(g.place)
	g.deck.srv.lost(err, c)
}

// turned is a connection that is told why it can't come in.
type turned struct{ gate *gate }

func (turned) Data(*netpoll.Conn, []byte)    {}
func (turned) Drained(*netpoll.Conn)         {}
func (turned) Expired(*netpoll.Conn)         {}
func (t turned) Closed(*netpoll.Conn, error) { t.gate.turnedAway() }
