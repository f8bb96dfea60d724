package main

import (
	"crypto/tls"
	"io"
	"net"
	"sync/atomic"
	"time"

	"roverd/netpoll"
)

// secure is a connection over TLS: the layer between netpoll and its handler, and at the same time the transport under
// crypto/tls. In a loop that transport does not block: when what has come is used up it fails with an error that is
// temporary, over which crypto/tls keeps its state, as it does when a deadline interrupts it (readRecordOrCCS in its
// conn.go). What it has to send is always taken.
type secure struct {
	net.Conn // under crypto/tls: the *handshake, then the *wire of the loop, or net/http's *blocking
	tls      *tls.Conn
	handler  netpoll.Handler
	first    []byte // what the handler gets before all else, for it has been decrypted already
}

// Data decrypts what has come over the wire.
func (s *secure) Data(c *netpoll.Conn, p []byte) {
	w := s.Conn.(*wire)
	w.in = p
	if first := s.first; first != nil {
		s.first = nil
		s.handler.Data(c, first)
	}
	if c.Ended() {
		return
	}
	for !c.Ended() {
		n, err := s.tls.Read(w.plain)
		c.WriteRaw(w.out) // the answer to a KeyUpdate, or an alert
		w.out = w.out[:0]
		if n > 0 {
			s.handler.Data(c, w.plain[:n])
		}
		switch {
		case err == nil, c.Ended():
		case err == errUsedUp:
			return
		case err == io.EOF: // close_notify, which is owed an answer (RFC 8446 section 6.1)
			c.Flush()
			c.WriteRaw(s.End(nil))
			c.Close(io.EOF)
		default:
			c.Close(err)
		}
	}
}

// Encode encrypts.
func (s *secure) Encode(out, p []byte) ([]byte, error) {
	w := s.Conn.(*wire)
	w.out, out = out, w.out
	_, err := s.tls.Write(p)
	w.out, out = out, w.out
	return out, err
}

// End is close_notify.
func (s *secure) End(out []byte) []byte {
	w := s.Conn.(*wire)
	w.out, out = out, w.out
	s.tls.CloseWrite() // fails only where an alert has been sent already
	w.out, out = out, w.out
	return out
}

func (s *secure) SetHandler(h netpoll.Handler)      { s.handler = h }
func (s *secure) Drained(c *netpoll.Conn)           { s.handler.Drained(c) }
func (s *secure) Expired(c *netpoll.Conn)           { s.handler.Expired(c) }
func (s *secure) Closed(c *netpoll.Conn, err error) { s.handler.Closed(c, err) }

// toHTTP has it go through a blocking connection. It is called in Data, or before it.
func (s *secure) toHTTP(conn *net.TCPConn) {
	w := s.Conn.(*wire)
	s.Conn = &blocking{TCPConn: conn, in: append([]byte(nil), w.in...)}
	w.in = nil
}

// wire is what the TLS connections of a loop go through, one at a time, and their scratch buffers.
type wire struct {
	nowhere
	in    []byte // what has come, and crypto/tls has not read
	out   []byte // what crypto/tls has written
	plain []byte // what it has decrypted
}

// maxPlaintext is the most that a record holds (RFC 8446 section 5.1): reading it whole leaves nothing in crypto/tls.
const maxPlaintext = 16 << 10

func newWire() *wire { return &wire{plain: make([]byte, maxPlaintext)} }

func (w *wire) Read(p []byte) (int, error) {
	if len(w.in) == 0 {
		return 0, errUsedUp
	}
	n := copy(p, w.in)
	w.in = w.in[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	w.out = append(w.out, p...)
	return len(p), nil
}

// errUsedUp is what reading finds where it would have to wait. Being temporary (net.Error) is the point of it.
var errUsedUp net.Error = usedUp{}

type usedUp struct{}

func (usedUp) Error() string   { return "all that has come is used up" }
func (usedUp) Timeout() bool   { return true }
func (usedUp) Temporary() bool { return true }

// nowhere is the part of a net.Conn that means nothing where nothing blocks.
type nowhere struct{}

func (nowhere) Close() error                     { return nil }
func (nowhere) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (nowhere) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (nowhere) SetDeadline(time.Time) error      { return nil }
func (nowhere) SetReadDeadline(time.Time) error  { return nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }

// blocking is what a TLS connection of net/http's goes through.
type blocking struct {
	*net.TCPConn
	in     []byte // what the reactor has read, and crypto/tls has not
	ending atomic.Bool
}

func (b *blocking) Read(p []byte) (int, error) {
	if len(b.in) > 0 {
		n := copy(p, b.in)
		b.in = b.in[n:]
		return n, nil
	}
	return b.TCPConn.Read(p)
}

// end has crypto/tls not wait for the peer when it sends close_notify: it would do so for five seconds, and the end of the
// server would wait for that.
func (b *blocking) end() {
	b.ending.Store(true)
	b.TCPConn.SetWriteDeadline(time.Now().Add(time.Millisecond))
}

func (b *blocking) SetWriteDeadline(t time.Time) error {
	if b.ending.Load() {
		return nil
	}
	return b.TCPConn.SetWriteDeadline(t)
}
