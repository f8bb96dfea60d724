package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/netip"
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
	from  netip.Addr
}

// newGuest lets a new connection in, or turns it away.
func newGuest(d *deck, c *netpoll.Conn, from netip.Addr) netpoll.Handler {
	place, err := d.srv.enter(from)
	if err != nil {
		return d.srv.turnAway(c, err, func() { refuse(c, nil, unavailable(err.Error())) })
	}
	c.SetDeadline(headTime)
	return &guest{deck: d, place: place, from: from}
}

func (g *guest) Data(c *netpoll.Conn, p []byte) {
	if g.head != nil {
		p = append(g.head, p...)
	}
	p = skipEmptyLines(p)
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
		h, err = websocket.ParseHead(p[:n], c.Layer() != nil)
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

// skipEmptyLines returns p from the request on: some send empty lines behind the last one (RFC 9112 section 2.2).
func skipEmptyLines(p []byte) []byte {
	for bytes.HasPrefix(p, []byte("\r\n")) {
		p = p[2:]
	}
	return p
}

// upgrade makes the guest a viewer, or an echo. What stands behind the head, of n bytes, are its first frames.
func (g *guest) upgrade(c *netpoll.Conn, head *websocket.Head, p []byte, n int) {
	srv := g.deck.srv
	if err := g.identify(c, head); err != nil {
		g.turnAway(c, p, err)
		return
	}
	g.deck.asking = c
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
		h = srv.join(g, c, g.deck.role)
	}
	c.SetHandler(h)
	if n < len(p) {
		h.Data(c, p[n:])
	}
}

// checkUpgrade decides what who asks for a WebSocket may do. It refuses those on other paths than / and /ws, and those that
// a page of another site opens: browsers let any page connect to any host, and without this any page could drive the car
// of whoever looks at it (RFC 6455 section 10.2). Clients that are not browsers send no Origin.
func (d *deck) checkUpgrade(r websocket.Request) (err error) {
	s := d.srv
	path := r.URL.Path
	switch {
	case path != "/" && path != "/ws" && !(path == "/echo" && s.cfg.Echo):
		return &websocket.Refusal{Status: http.StatusNotFound, Reason: "no WebSocket at " + path + ": it is at / and /ws"}
	case !s.cfg.isOurs(r.Host):
		return misdirected(r.Host)
	case !s.cfg.isFriend(r.Origin, r.Host):
		return &websocket.Refusal{Status: http.StatusForbidden,
			Reason: "a page from " + r.Origin + " may not connect to " + r.Host + ": the operator can name it with -origins"}
	}
	c := credentials{authorization: r.Authorization, cookie: r.Cookie}
	if r.URL.RawQuery != "" {
		c.token = queryToken(r.URL)
	}
	if c != (credentials{}) {
		c.from = s.clientOf(d.asking)
	}
	if d.role, err = s.access.role(c, time.Now()); err == nil && d.role == stranger {
		err = errNoToken
	}
	if err != nil {
		return s.refuseLogin(err, s.clientOf(d.asking))
	}
	if s.cfg.Open && r.Origin != "" && len(s.cfg.Hosts) == 0 && !isOwnName(r.Host) {
		d.role = view
	}
	return nil
}

// misdirected is the answer to who takes this server for another.
func misdirected(host string) *websocket.Refusal {
	return &websocket.Refusal{Status: http.StatusMisdirectedRequest,
		Reason: fmt.Sprintf("this server is not %.80q: the operator can add the name with -hosts", host)}
}

// refuseLogin notes that somebody was not let in, and makes the answer.
func (s *server) refuseLogin(err error, from netip.Addr) *websocket.Refusal {
	r := &websocket.Refusal{Status: http.StatusUnauthorized, Reason: err.Error(), Fields: "WWW-Authenticate: Bearer\r\n"} // RFC 6750 section 3
	if err == errManyGuesses {
		r.Status, r.Fields = http.StatusTooManyRequests, "Retry-After: 60\r\n"
	}
	if err != errNoToken {
		s.audit.loginRefused(err, from)
	}
	return r
}

// handOver gives an ordinary HTTP request, as far as it has been read, to net/http.
func (g *guest) handOver(c *netpoll.Conn, read []byte) {
	if c.Blocked() { // by what TLS has said first
		g.head = bytes.Clone(read)
		return
	}
	h := g.deck.srv.handover
	if !h.reserve() {
		g.turnAway(c, read, unavailable(fmt.Sprintf("more than %d HTTP connections at a time; try again", maxHTTP)))
		return
	}
	layer, _ := c.Layer().(*secure)
	fd, err := c.Detach()
	if err != nil {
		h.release()
		return
	}
	g.deck.srv.gate.leave(g.place)
	if err := h.give(g.deck, fd, layer, bytes.Clone(read)); err != nil {
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

func (g *guest) Drained(c *netpoll.Conn) {
	if p := g.head; p != nil {
		g.head = nil
		g.Data(c, p)
	}
}

func (g *guest) Closed(c *netpoll.Conn, err error) {
	g.deck.srv.gate.leave(g.place)
	g.deck.srv.lost(err, c)
}

// turnAway has say tell a connection why it can't come in, unless that is being told to too many.
func (s *server) turnAway(c *netpoll.Conn, err error, say func()) netpoll.Handler {
	s.complain("turned a connection away", err, c)
	if !s.gate.turnAway() {
		return nil
	}
	say()
	return turned{s.gate}
}

// turned is a connection that has been told why it can't come in, or all that net/http had to say.
type turned struct{ gate *gate }

func (turned) Data(*netpoll.Conn, []byte)    {}
func (turned) Drained(*netpoll.Conn)         {}
func (turned) Expired(*netpoll.Conn)         {}
func (t turned) Closed(*netpoll.Conn, error) { t.gate.turnedAway() }
