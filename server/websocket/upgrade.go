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

// Upgrade answers the opening handshake (RFC 6455 section 4.2). head is a whole request head; check may refuse it with
// a *Refusal. The response is to be sent in either case; after an error the connection is to be closed behind it.
func Upgrade(head []byte, check func(Request) error) (response []byte, err error) {
	var req Request
	agreed := false
	u := ws.Upgrader{
		ReadBufferSize: MaxHead,
		Header: ws.HandshakeHeaderFunc(func(w io.Writer) (int64, error) {
			if agreed {
				return 0, nil
			}
			return ws.HandshakeHeaderString("Connection: close\r\n").WriteTo(w)
		}),
		OnRequest: func(uri []byte) error { req.Target = string(uri); return nil },
		OnHost:    func(host []byte) error { req.Host = string(host); return nil },
		OnHeader: func(key, value []byte) error {
			if string(key) == "Origin" {
				req.Origin = string(value)
			}
			return nil
		},
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			var refusal *Refusal
			err := check(req)
			if errors.As(err, &refusal) {
				return nil, ws.RejectConnectionError(ws.RejectionStatus(refusal.Status), ws.RejectionReason(refusal.Reason))
			}
			agreed = err == nil
			return nil, err
		},
	}
	var out bytes.Buffer
	_, err = u.Upgrade(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(head), &out})
	if err != nil && out.Len() == 0 {
		// The request line itself made no sense.
		out.WriteString("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	}
	return out.Bytes(), err
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
