// Package websocket is the WebSocket protocol (RFC 6455) as pure functions of bytes, on github.com/gobwas/ws: the
// opening handshake of a server and of a client, a decoder that takes input in any portions, and frame writers. It
// has no descriptor, no goroutine and no clock; who calls it owns the I/O.
package websocket

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/gobwas/ws"
)

// Subprotocol is the name of roverd's messages (RFC 6455 section 1.9), selected when a client offers it.
const Subprotocol = "roverd.v1"

// Request is what a server may want to know of an upgrade request before it agrees.
type Request struct {
	URL    *url.URL
	Host   string
	Origin string // empty when the client is not a browser
	// The fields of these names, as they came; several are joined as RFC 9110 section 5.2 and RFC 6265 section 5.4 have it.
	Authorization, Cookie string
}

// Upgrader answers opening handshakes (RFC 6455 section 4.2), one after the other: a crowd that arrives at once must not
// be felt by those who are there. What a client may ask is decided here, to the letter; gobwas/ws is then shown the
// request in the simplest form, and agrees.
type Upgrader struct {
	check    func(Request) error
	upgrader ws.Upgrader
	in       bytes.Buffer
	out      bytes.Buffer
}

// NewUpgrader makes an Upgrader. check may refuse a request, best with a *Refusal.
func NewUpgrader(check func(Request) error) *Upgrader {
	u := &Upgrader{check: check}
	u.upgrader = ws.Upgrader{ReadBufferSize: MaxHead, Protocol: func([]byte) bool { return true }}
	return u
}

// Upgrade returns the response that makes the connection a WebSocket, valid until the next call, or why it is refused.
func (u *Upgrader) Upgrade(h *Head) (req Request, response []byte, err error) {
	if req, err = h.handshake(); err != nil {
		return req, nil, err
	}
	if err := u.check(req); err != nil {
		return req, nil, err
	}
	u.in.Reset()
	u.out.Reset()
	u.in.WriteString("GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nHost: rover\r\nSec-WebSocket-Key: ")
	u.in.Write(h.key)
	if h.subprotocol {
		u.in.WriteString("\r\nSec-WebSocket-Protocol: " + Subprotocol)
	}
	u.in.WriteString("\r\n\r\n")
	if h.expects {
		u.out.WriteString("HTTP/1.1 100 Continue\r\n\r\n") // RFC 9110 section 7.8
	}
	_, err = u.upgrader.Upgrade(u)
	return req, u.out.Bytes(), err
}

// Read and Write are the connection that gobwas/ws sees.
func (u *Upgrader) Read(p []byte) (int, error)  { return u.in.Read(p) }
func (u *Upgrader) Write(p []byte) (int, error) { return u.out.Write(p) }

// handshake checks what RFC 6455 section 4.2.1 demands.
func (h *Head) handshake() (req Request, err error) {
	key, _ := base64.StdEncoding.DecodeString(string(h.key))
	host := h.Authority()
	switch {
	case string(h.Method) != http.MethodGet:
		return req, bad("a WebSocket begins with GET")
	case h.minor == 0:
		// RFC 9110 section 7.8 has the Upgrade ignored; but who asks for a WebSocket is better told why it gets none
		// (RFC 6455 section 4.2.1).
		return req, bad("a WebSocket needs HTTP/1.1")
	case host == "":
		return req, bad("the Host is empty")
	case !h.upgrade || !h.connection:
		return req, bad("a WebSocket needs the fields Upgrade: websocket and Connection: Upgrade")
	case h.versions > 1:
		return req, bad("the request has two Sec-WebSocket-Versions")
	case string(h.version) != "13":
		return req, &Refusal{Status: http.StatusUpgradeRequired, Reason: fmt.Sprintf("the Sec-WebSocket-Version is %.40q: it must be 13", h.version),
			Fields: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"} // section 4.4
	case h.keys != 1:
		return req, bad(fmt.Sprintf("the request has %d Sec-WebSocket-Keys", h.keys))
	case len(key) != 16 || len(h.key) != 24:
		return req, bad(fmt.Sprintf("the Sec-WebSocket-Key %.40q is not 16 bytes in base64", h.key))
	case !h.extensions:
		return req, bad("the Sec-WebSocket-Extensions are malformed")
	case !h.subprotocols:
		return req, bad("the Sec-WebSocket-Protocols are malformed")
	case h.origins > 1:
		return req, bad("the request has two Origins")
	case h.origins == 1 && len(h.origin) == 0: // RFC 6454 section 7.1: who must not tell says null
		return req, bad("the Origin is empty")
	}
	return Request{h.URL, host, string(h.origin), h.authorization, h.cookie}, nil
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
	line, rest, _ := bytes.Cut(head, crlf)
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("the server did not upgrade to WebSocket: it answered %q", line)
	}
	var upgrade, connection, accept bool
	for line := range bytes.SplitSeq(rest, crlf) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.Trim(value, " \t")
		switch {
		case equalFold(name, "Upgrade"):
			upgrade = equalFold(value, "websocket")
		case equalFold(name, "Connection"):
			connection = connection || hasToken(value, "upgrade")
		case equalFold(name, "Sec-WebSocket-Accept"):
			accept = string(value) == clientAccept
		case equalFold(name, "Sec-WebSocket-Extensions"), equalFold(name, "Sec-WebSocket-Protocol"):
			return fmt.Errorf("the server's 101 response has %q, which nobody asked for", line)
		}
	}
	switch {
	case !upgrade || !connection:
		return errors.New("the server's 101 response lacks Upgrade: websocket or Connection: Upgrade")
	case !accept:
		return errors.New("the server's 101 response has no right Sec-WebSocket-Accept")
	}
	return nil
}
