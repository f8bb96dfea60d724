// Package websocket is the WebSocket protocol (RFC 6455) as pure functions of bytes, on github.com/gobwas/ws: the
// opening handshake of a server and of a client, a decoder that takes input in any portions, and frame writers. It
// has no descriptor, no goroutine and no clock; who calls it owns the I/O.
package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/gobwas/ws"
)

// MaxHead is the largest head of a request that is taken, in bytes.
const MaxHead = 8 << 10

// ErrHeadTooLarge is returned by HeadLength for a head above MaxHead.
var ErrHeadTooLarge = fmt.Errorf("the head of the HTTP request is larger than %d bytes", MaxHead)

var headEnd = []byte("\r\n\r\n")

// HeadLength returns the length of the HTTP head (request or response) that p begins with, its blank line included,
// or 0 if that has not arrived yet.
func HeadLength(p []byte) (int, error) {
	i := bytes.Index(p, headEnd)
	switch {
	case i > MaxHead-len(headEnd), i < 0 && len(p) >= MaxHead:
		return 0, ErrHeadTooLarge
	case i < 0:
		return 0, nil
	}
	return i + len(headEnd), nil
}

// IsUpgrade reports whether a request head asks for a WebSocket, rightly formed or not.
func IsUpgrade(head []byte) bool {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if ok && bytes.EqualFold(name, []byte("Upgrade")) && bytes.EqualFold(bytes.TrimSpace(value), []byte("websocket")) {
			return true
		}
	}
	return false
}

// Request is what a server may want to know of an upgrade request before it agrees.
type Request struct {
	Target string // as sent: path and query
	Host   string
	Origin string // empty when the client is not a browser
}

// Refusal is a check's answer to a request that is well-formed but not wanted.
type Refusal struct {
	Status int // of the HTTP response
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

// Upgrader answers opening handshakes (RFC 6455 section 4.2), one after the other and without garbage: a crowd that
// arrives at once must not be felt by those who are there.
type Upgrader struct {
	check    func(Request) error
	upgrader ws.Upgrader
	in       bytes.Reader
	out      bytes.Buffer

	// Of the handshake at hand.
	req    Request
	agreed bool
}

// NewUpgrader makes an Upgrader. check may refuse a request with a *Refusal.
func NewUpgrader(check func(Request) error) *Upgrader {
	u := &Upgrader{check: check}
	u.upgrader = ws.Upgrader{
		ReadBufferSize:  MaxHead,
		Header:          ws.HandshakeHeaderFunc(u.header),
		OnRequest:       func(uri []byte) error { u.req.Target = string(uri); return nil },
		OnHost:          func(host []byte) error { u.req.Host = string(host); return nil },
		OnHeader:        u.onHeader,
		OnBeforeUpgrade: u.decide,
	}
	return u
}

// Upgrade answers a whole request head. The response, valid until the next call, is to be sent in either case; after an
// error the connection is to be closed behind it.
func (u *Upgrader) Upgrade(head []byte) (req Request, response []byte, err error) {
	u.req, u.agreed = Request{}, false
	u.in.Reset(head)
	u.out.Reset()
	_, err = u.upgrader.Upgrade(u)
	if err != nil && u.out.Len() == 0 {
		// The request line itself made no sense.
		u.out.WriteString("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	}
	return u.req, u.out.Bytes(), err
}

// Read and Write are the connection that gobwas/ws sees.
func (u *Upgrader) Read(p []byte) (int, error)  { return u.in.Read(p) }
func (u *Upgrader) Write(p []byte) (int, error) { return u.out.Write(p) }

func (u *Upgrader) onHeader(key, value []byte) error {
	if string(key) == "Origin" {
		u.req.Origin = string(value)
	}
	return nil
}

func (u *Upgrader) decide() (ws.HandshakeHeader, error) {
	var refusal *Refusal
	err := u.check(u.req)
	if err != nil && errors.As(err, &refusal) {
		return nil, ws.RejectConnectionError(ws.RejectionStatus(refusal.Status), ws.RejectionReason(refusal.Reason))
	}
	u.agreed = err == nil
	return nil, err
}

// header is part of every response.
func (u *Upgrader) header(w io.Writer) (int64, error) {
	if u.agreed {
		return 0, nil
	}
	return ws.HandshakeHeaderString("Connection: close\r\n").WriteTo(w)
}

// clientKey is the key every request of this package sends. It only has to be well-formed: its purpose, to make sure
// that the server understood the handshake, needs no secrecy (RFC 6455 section 1.3).
const (
	clientKey    = "cm92ZXJkIHNheXMgaGVsbA=="
	clientAccept = "eSwiLPw1yDQ/RRcBFOP2WbNn7Og="
)

// AppendRequest appends a client's opening handshake for ws://host/target to dst.
func AppendRequest(dst []byte, host, target string) []byte {
	return fmt.Appendf(dst, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", target, host, clientKey)
}

// CheckResponse tells whether a whole response head, the answer to AppendRequest, agreed to the upgrade
// (RFC 6455 section 4.1).
func CheckResponse(head []byte) error {
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("the server did not upgrade to WebSocket: it answered %q", line)
	}
	for line := range bytes.SplitSeq(rest, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if http.CanonicalHeaderKey(string(name)) == "Sec-Websocket-Accept" && string(bytes.TrimSpace(value)) == clientAccept {
			return nil
		}
	}
	return errors.New("the server's 101 response has no right Sec-WebSocket-Accept")
}
