package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
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
	deck *deck
	head []byte // what has arrived, if the head did not come in one piece
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
	var path string
	response, err := websocket.Upgrade(head, func(r websocket.Request) error {
		path, _, _ = strings.Cut(r.Target, "?")
		return srv.checkUpgrade(path, r)
	})
	c.Write(response)
	if err != nil {
		srv.complain("refused an upgrade to WebSocket", err, c)
		c.Finish()
		return
	}
	c.SetDeadline(0)
	var h netpoll.Handler
	if path == "/echo" {
		h = &echo{srv: srv, conn: c}
	} else {
		h = srv.join(g.deck, c)
	}
	c.SetHandler(h)
	if len(rest) > 0 {
		h.Data(c, rest)
	}
}

// checkUpgrade refuses WebSockets on other paths than / and /ws, and those that a page of another site opens: browsers
// let any page connect to any host, and without this any page could drive the car of whoever looks at it
// (RFC 6455 section 10.2). Clients that are not browsers send no Origin.
func (s *server) checkUpgrade(path string, r websocket.Request) error {
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
	h.give(fd, bytes.Clone(read))
}

// turnAway answers with an error and ends the connection.
func (g *guest) turnAway(c *netpoll.Conn, status int, reason string) {
	g.deck.srv.complain("turned a request away", errors.New(reason), c)
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

func (g *guest) Closed(c *netpoll.Conn, err error) { g.deck.srv.lost(err, c) }
