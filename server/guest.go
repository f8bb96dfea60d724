package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"roverd/netpoll"
	"roverd/server/websocket"
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
	respond(c, http.StatusServiceUnavailable, err.Error())
	return turned{gate}
}

func (g *guest) Data(c *netpoll.Conn, p []byte) {
	if g.head != nil {
		g.head = append(g.head, p...)
		p = g.head
	}
	n, err := websocket.HeadLength(p)
	switch {
	case err != nil:
		g.turnAway(c, http.StatusRequestHeaderFieldsTooLarge, err.Error())
	case n == 0 && g.head == nil:
		g.head = bytes.Clone(p)
	case n == 0:
	case websocket.IsUpgrade(p[:n]):
		g.upgrade(c, p[:n], p[n:])
	default:
		g.handOver(c, p)
	}
}

// upgrade makes the guest a viewer, or an echo. What stands behind the head are its first frames.
func (g *guest) upgrade(c *netpoll.Conn, head, rest []byte) {
	srv := g.deck.srv
	req, response, err := g.deck.upgrader.Upgrade(head)
	c.Write(response)
	if err != nil {
		srv.complain("refused an upgrade to WebSocket", err, c)
		c.Finish()
		return
	}
	c.SetDeadline(0)
	var h netpoll.Handler
	if pathOf(req) == "/echo" {
		h = &echo{srv: srv, conn: c, place: g.place}
	} else {
		h = srv.join(g, c)
	}
	c.SetHandler(h)
	if len(rest) > 0 {
		h.Data(c, rest)
	}
}

// checkUpgrade refuses WebSockets on other paths than / and /ws, and those that a page of another site opens: browsers
// let any page connect to any host, and without this any page could drive the car of whoever looks at it
// (RFC 6455 section 10.2). Clients that are not browsers send no Origin.
func (s *server) checkUpgrade(r websocket.Request) error {
	path := pathOf(r)
	if path != "/" && path != "/ws" && !(path == "/echo" && s.cfg.Echo) {
		return &websocket.Refusal{Status: http.StatusNotFound, Reason: "no WebSocket at " + path + ": it is at / and /ws"}
	}
	if r.Origin != "" {
		origin, err := url.Parse(r.Origin)
		if err != nil || !strings.EqualFold(origin.Host, r.Host) {
			return &websocket.Refusal{Status: http.StatusForbidden,
				Reason: "a page from " + r.Origin + " may not connect to " + r.Host}
		}
	}
	return nil
}

func pathOf(r websocket.Request) string {
	path, _, _ := strings.Cut(r.Target, "?")
	return path
}

// handOver gives an ordinary HTTP request, as far as it has been read, to net/http.
func (g *guest) handOver(c *netpoll.Conn, read []byte) {
	h := g.deck.srv.handover
	if !h.reserve() {
		g.turnAway(c, http.StatusServiceUnavailable, fmt.Sprintf("more than %d HTTP requests at a time; try again", maxHTTP))
		return
	}
	fd, err := c.Detach()
	if err != nil {
		h.release()
		return
	}
	g.deck.srv.gate.leave(g.place)
	h.give(fd, bytes.Clone(read))
}

// turnAway answers with an error and ends the connection.
func (g *guest) turnAway(c *netpoll.Conn, status int, reason string) {
	g.deck.srv.complain("turned a request away", errors.New(reason), c)
	respond(c, status, reason)
}

// respond sends a response that ends the connection.
func respond(c *netpoll.Conn, status int, reason string) {
	c.Write(fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n",
		status, http.StatusText(status), len(reason)+1, reason))
	c.Finish()
}

func (g *guest) Expired(c *netpoll.Conn) {
	if g.head == nil { // browsers open connections that they then have no use for
		c.Finish()
		return
	}
	g.turnAway(c, http.StatusRequestTimeout, fmt.Sprintf("the head of the request did not arrive within %s", headTime))
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
