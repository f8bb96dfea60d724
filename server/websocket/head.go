package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gobwas/httphead"
)

// MaxHead is the largest head of a request that is taken, in bytes.
const MaxHead = 8 << 10

// Refusal is the answer to a request that is wrong, or right but not wanted.
type Refusal struct {
	Status int    // of the HTTP response
	Reason string // for people
	Fields string // further header fields of the response, each with its line end
}

func (r *Refusal) Error() string { return r.Reason }

// AsRefusal returns what a client is to be told of an error: if it is no *Refusal, that the fault is ours.
func AsRefusal(err error) *Refusal {
	r := &Refusal{Status: http.StatusInternalServerError, Reason: err.Error()}
	errors.As(err, &r)
	return r
}

// AppendTo appends the response, which ends the connection.
func (r *Refusal) AppendTo(dst []byte) []byte {
	connection := "close"
	if r.Status == http.StatusUpgradeRequired {
		connection = "Upgrade, close" // RFC 9110 section 7.8
	}
	return fmt.Appendf(dst, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%sConnection: %s\r\n\r\n%s\n",
		r.Status, http.StatusText(r.Status), len(r.Reason)+1, r.Fields, connection, r.Reason)
}

func bad(reason string) *Refusal { return &Refusal{Status: http.StatusBadRequest, Reason: reason} }

// HeadLength returns the length of the HTTP head (request or response) that p begins with, its blank line included, or 0
// if that has not arrived yet. What can't become one is a *Refusal as soon as it shows: a line feed without a carriage
// return or the other way around, which others would take for a line end (RFC 9112 section 2.2), a control character
// (RFC 9110 section 5.5), too much of it.
func HeadLength(p []byte) (int, error) {
	for i, b := range p[:min(len(p), MaxHead)] {
		afterCR := i > 0 && p[i-1] == '\r'
		switch {
		case b == '\n' && !afterCR:
			return 0, bad("a line of the request ends in a line feed without a carriage return")
		case b == '\n':
			if i >= 3 && p[i-2] == '\n' {
				return i + 1, nil
			}
		case afterCR:
			return 0, bad("a carriage return in the request is not followed by a line feed")
		case i == 0 && b == tlsHandshake:
			return 0, bad("this port does not speak TLS: use http:// and ws://")
		case b < ' ' && b != '\t' && b != '\r' || b == 0x7f:
			return 0, bad(fmt.Sprintf("the head of the request has a control character (%#02x)", b))
		}
	}
	switch {
	case len(p) < MaxHead:
		return 0, nil
	case bytes.IndexByte(p[:MaxHead], '\n') < 0:
		return 0, &Refusal{Status: http.StatusRequestURITooLong, Reason: fmt.Sprintf("the first line of the request is longer than %d bytes", MaxHead)}
	default:
		return 0, &Refusal{Status: http.StatusRequestHeaderFieldsTooLarge, Reason: fmt.Sprintf("the head of the request is larger than %d bytes", MaxHead)}
	}
}

// tlsHandshake begins a TLS connection (RFC 8446 section 5.1).
const tlsHandshake = 22

// Head is the head of an HTTP/1.1 request, as slices of it.
type Head struct {
	Method, Target, Host []byte

	minor byte // of the version
	body  bool // one follows

	// What makes it an upgrade to WebSocket; how often, where once is right.
	upgrade, connection       bool // the options websocket and Upgrade
	key, version, origin      []byte
	keys, versions, origins   int
	subprotocol               bool // Subprotocol is among those offered
	extensions, subprotocols  bool // are lists as they should be
	hosts, lengths, encodings int
}

// ParseHead reads a whole head, found by HeadLength, by RFC 9112 sections 3 and 5 to 7. What other servers might
// understand in another way is refused, with a *Refusal: a request must end where whoever stands between takes it to end.
func ParseHead(p []byte) (h Head, err error) {
	line, p, _ := bytes.Cut(p, crlf)
	if err := h.requestLine(line); err != nil {
		return h, err
	}
	h.extensions, h.subprotocols = true, true
	for {
		line, p, _ = bytes.Cut(p, crlf)
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			return h, bad("a header field goes on in the next line") // section 5.2
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !isToken(name) {
			return h, bad(fmt.Sprintf("%.40q is no header field", line))
		}
		if err := h.field(name, bytes.Trim(value, " \t")); err != nil {
			return h, err
		}
	}
	switch {
	case h.hosts > 1, h.hosts == 0 && h.minor > 0: // section 3.2
		return h, bad(fmt.Sprintf("the request has %d Host fields", h.hosts))
	case h.lengths > 1:
		return h, bad("the request has two Content-Lengths")
	case h.encodings > 0 && h.lengths > 0:
		return h, bad("the request has a Content-Length and a Transfer-Encoding") // section 6.1
	case h.encodings > 1, h.encodings > 0 && h.minor == 0:
		return h, bad("the request has a Transfer-Encoding where none can be")
	}
	return h, nil
}

var crlf = []byte("\r\n")

// requestLine reads METHOD TARGET HTTP/1.x.
func (h *Head) requestLine(line []byte) error {
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, version, _ := bytes.Cut(rest, []byte(" "))
	h.Method, h.Target = method, target
	if !isToken(method) || len(target) == 0 || len(version) != len("HTTP/1.1") || string(version[:5]) != "HTTP/" ||
		!isDigit(version[5]) || version[6] != '.' || !isDigit(version[7]) {
		return bad(fmt.Sprintf("%.40q is no request line of HTTP", line))
	}
	for _, b := range target {
		if b <= ' ' || b >= 0x7f || b == '#' {
			return bad(fmt.Sprintf("the target %.40q has bytes that must be percent-encoded", target))
		}
	}
	switch {
	case string(method) == "PRI":
		return bad("this port does not speak HTTP/2") // RFC 9113 section 3.4
	case version[5] != '1':
		return &Refusal{Status: http.StatusHTTPVersionNotSupported, Reason: "this port speaks HTTP/1.1"}
	case string(method) == http.MethodConnect:
		return &Refusal{Status: http.StatusMethodNotAllowed, Reason: "this is no proxy", Fields: "Allow: GET, HEAD\r\n"}
	}
	h.minor = version[7] - '0'
	_, err := h.url()
	return err
}

// url returns the target's parts (RFC 9112 section 3.2).
func (h *Head) url() (*url.URL, error) {
	if string(h.Target) == "*" && string(h.Method) == http.MethodOptions {
		return &url.URL{Path: "*"}, nil
	}
	u, err := url.ParseRequestURI(string(h.Target))
	if err != nil || h.Target[0] != '/' && (u.Host == "" || u.User != nil) {
		return nil, bad(fmt.Sprintf("the target %.40q is no path and no address", h.Target))
	}
	return u, nil
}

// field reads one header field.
func (h *Head) field(name, value []byte) error {
	is := func(s string) bool { return len(name) == len(s) && strings.EqualFold(string(name), s) }
	switch {
	case is("Host"):
		h.hosts++
		if h.Host = value; !isHost(value) {
			return bad(fmt.Sprintf("the Host %.40q is none", value))
		}
	case is("Content-Length"):
		h.lengths++
		if len(value) == 0 || len(value) > 18 || len(bytes.Trim(value, "0123456789")) > 0 {
			return bad(fmt.Sprintf("the Content-Length %.40q is no number", value))
		}
		h.body = h.body || len(bytes.Trim(value, "0")) > 0
	case is("Transfer-Encoding"):
		if h.encodings++; !strings.EqualFold(string(value), "chunked") {
			return &Refusal{Status: http.StatusNotImplemented, Reason: fmt.Sprintf("the Transfer-Encoding %.40q is not known here", value)}
		}
		h.body = true
	case is("Upgrade"):
		h.upgrade = h.upgrade || hasToken(value, "websocket")
	case is("Connection"):
		h.connection = h.connection || hasToken(value, "upgrade")
	case is("Origin"):
		h.origins, h.origin = h.origins+1, value
	case is("Sec-WebSocket-Key"):
		h.keys, h.key = h.keys+1, value
	case is("Sec-WebSocket-Version"):
		h.versions, h.version = h.versions+1, value
	case is("Sec-WebSocket-Protocol"):
		for item := range bytes.SplitSeq(value, []byte(",")) {
			item = bytes.Trim(item, " \t")
			h.subprotocols = h.subprotocols && (len(item) == 0 || isToken(item))
			h.subprotocol = h.subprotocol || string(item) == Subprotocol
		}
	case is("Sec-WebSocket-Extensions"):
		h.extensions = h.extensions && httphead.ScanOptions(value, func(int, []byte, []byte, []byte) httphead.Control {
			return httphead.ControlContinue
		})
	}
	return nil
}

// IsUpgrade reports whether the request asks for a WebSocket, rightly or not.
func (h *Head) IsUpgrade() bool { return h.upgrade || h.keys > 0 }

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

// isToken tells whether p is a token of RFC 9110 section 5.6.2.
func isToken(p []byte) bool {
	for _, b := range p {
		if !isDigit(b) && !('a' <= b|0x20 && b|0x20 <= 'z') && strings.IndexByte("!#$%&'*+-.^_`|~", b) < 0 {
			return false
		}
	}
	return len(p) > 0
}

// isHost tells whether p is a host and perhaps a port (RFC 3986 section 3.2.2), by its characters.
func isHost(p []byte) bool {
	for _, b := range p {
		if !isDigit(b) && !('a' <= b|0x20 && b|0x20 <= 'z') && strings.IndexByte("-._~%!$&'()*+,;=:[]", b) < 0 {
			return false
		}
	}
	return true
}

// hasToken tells whether a comma-separated list has the token, in any case.
func hasToken(list []byte, token string) bool {
	for item := range bytes.SplitSeq(list, []byte(",")) {
		if strings.EqualFold(string(bytes.Trim(item, " \t")), token) {
			return true
		}
	}
	return false
}
