package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"roverd/netpoll"

	"github.com/gobwas/ws"
)

// lineIdle is how long a client may take for a line.
const lineIdle = 10 * time.Second

// line is a client of the line protocol, for what speaks no WebSocket: a line each way is a message, and nothing is sent
// to it that it has not asked for, but for the claims of others. All of it belongs to the goroutine of its loop.
type line struct {
	deck     *deck
	conn     *netpoll.Conn
	pilot    *pilot
	splitter splitter
	place    uint32 // at the gate
	begun    bool   // its first line was text
	mute     bool   // it has shut its side down: nothing more comes from it
	gone     bool
}

// openLine takes a new connection that speaks lines.
func (d *deck) openLine(c *netpoll.Conn, from netip.AddrPort) netpoll.Handler {
	srv := d.srv
	place, err := srv.gate.enter(from.Addr(), time.Now())
	if err != nil {
		return srv.turnAway(c, err, func() {
			c.Write(appendClosed(nil, err.Error()))
			c.Finish()
		})
	}
	l := &line{deck: d, conn: c, place: place}
	l.pilot = newPilot(d, l, srv.lastID.Add(1), srv.access.nobody)
	d.lines[l] = struct{}{}
	c.SetDeadline(lineIdle)
	d.scratch = srv.welcomes[l.pilot.role].append(d.scratch[:0], l.pilot.id)
	l.say(d.scratch)
	if d.leaving {
		l.end(stopping)
	}
	return l
}

// Data reads the client's lines.
func (l *line) Data(c *netpoll.Conn, p []byte) {
	now := time.Now()
	for !l.gone {
		text, rest, found := l.splitter.cut(p, maxMessage)
		if !found {
			break
		}
		c.SetDeadline(lineIdle)
		l.message(text, now)
		p = rest
	}
	l.deck.shed()
}

// message deals with one line. Browsers can be made to connect to any port, and to send there what a page has thought
// of, behind a head of HTTP or in a handshake of TLS. So nothing is done for who begins like this.
func (l *line) message(text []byte, at time.Time) {
	switch {
	case len(text) > maxMessage:
		l.end(fmt.Sprintf("a line has more than %d bytes", maxMessage))
	case isHTTP(text):
		l.deck.srv.complain("a client spoke HTTP to the port for lines", fmt.Errorf("it sent %s", quote(text)), l.conn)
		l.end("this port takes commands, one on a line, and speaks no HTTP: the page is at another, see -addr")
	case isText(text):
		l.begun = true
		l.pilot.message(text, at)
	case l.begun:
		err := refusal(isBinary, "the line %s is not text: send UTF-8 without control characters", quote(text))
		l.pilot.deal(request{id: noID}, err, at)
	default:
		l.end("this port takes commands, one on a line, as text; it speaks no TLS")
	}
}

var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	http.MethodConnect, http.MethodOptions, http.MethodTrace}

// isHTTP tells whether a line is of a head (RFC 9112 sections 3 and 5): no message of ours is like that.
func isHTTP(text []byte) bool {
	text = bytes.TrimLeft(text, " \t")
	method, target, _ := bytes.Cut(text, []byte{' '})
	name, _, isField := bytes.Cut(text, []byte{':'})
	return slices.Contains(methods, string(method)) ||
		bytes.Contains(target, []byte("HTTP/")) && !bytes.HasPrefix(method, []byte{'{'}) ||
		isField && len(name) > 0 && !bytes.ContainsAny(name, " {")
}

// say, close, drives and peer are for the pilot.
func (l *line) say(message []byte) {
	var small [512]byte
	l.conn.Write(append(append(small[:0], message...), '\n'))
	switch {
	case l.gone:
	case l.conn.Backlog() > maxBacklog:
		l.end(repliesUnread)
	default:
		l.endIfAnswered()
	}
}

func (l *line) close(_ ws.StatusCode, reason string) { l.end(reason) }

func (l *line) drives(yes bool) { l.conn.Prefer(yes) }

func (l *line) peer() netip.Addr { return l.conn.Peer().Addr() }

// HalfClosed is for those who send all they have and then wait for the answers, as nc -N does.
func (l *line) HalfClosed(*netpoll.Conn) {
	if len(l.splitter.part) > 0 { // it may have been cut off: up 1 is not up 100
		l.pilot.refuse(noID, refusal(badValue, "the last line has no end, and nothing was done for it: %s", quote(l.splitter.part)))
	}
	l.mute = true
	l.endIfAnswered()
}

// endIfAnswered ends the connection of who has no more to say, and nothing more to hear.
func (l *line) endIfAnswered() {
	if l.mute && l.pilot.owed == 0 {
		l.leave()
		l.conn.Finish()
	}
}

func (l *line) Drained(*netpoll.Conn) {}

func (l *line) Expired(*netpoll.Conn) { l.end(fmt.Sprintf("no line came within %s", lineIdle)) }

// end says why the connection ends, and ends it: when the client sees that, the helm is free.
func (l *line) end(reason string) {
	l.leave()
	l.conn.Write(appendClosed(nil, reason))
	l.conn.Finish()
}

// owes and drop are for the deck.
func (l *line) owes() int { return untaken(l.conn) }

func (l *line) drop(err error) {
	l.conn.Close(err)
	l.leave()
}

// Closed is the end, whether or not the connection was ended before it.
func (l *line) Closed(c *netpoll.Conn, err error) {
	l.deck.srv.gate.leave(l.place)
	l.deck.srv.lost(err, c)
	l.leave()
}

func (l *line) leave() {
	if l.gone {
		return
	}
	l.gone = true
	l.conn.Prefer(false)
	delete(l.deck.lines, l)
	l.pilot.leave()
}

// appendClosed appends the last line of a connection.
func appendClosed(dst []byte, reason string) []byte {
	return append(appendError(dst, noID, &wireError{isClosed, reason}), '\n')
}
