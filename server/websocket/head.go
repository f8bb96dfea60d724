package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
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

// AppendTo appends the response to a request, as far as that was read, which ends the connection.
func (r *Refusal) AppendTo(dst, request []byte, now time.Time) []byte {
	connection := "close"
	if r.Status == http.StatusUpgradeRequired {
		connection = "Upgrade, close" // RFC 9110 section 7.8
	}
	dst = fmt.Appendf(dst, "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%sConnection: %s\r\n\r\n",
		r.Status, http.StatusText(r.Status), now.UTC().Format(http.TimeFormat), len(r.Reason)+1, r.Fields, connection)
	if bytes.HasPrefix(request, []byte("HEAD ")) {
		return dst // RFC 9110 section 9.3.2
	}
	return append(append(dst, r.Reason...), '\n')
}

// start quotes the beginning of a request's part for a Reason, which may end up in a log: no query, it may have secrets.
func start(p []byte) string {
	p, _, _ = bytes.Cut(p, []byte("?"))
	return fmt.Sprintf("%.40q", p)
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

// Head is the head of an HTTP/1.1 request for a page or a WebSocket, as slices of it.
type Head struct {
	Method, Target, Host []byte
	URL                  *url.URL // of the target; it has a host only if the target had

	minor   byte // of the version
	body    bool // one follows
	expects bool // 100 (Continue)

	// What makes it an upgrade to WebSocket; how often, where once is right.
	upgrade, connection       bool // the options websocket and Upgrade
	subprotocol               bool // Subprotocol is among those offered
	extensions, subprotocols  bool // are lists as they should be
	keys, versions, origins   uint16
	hosts, lengths, encodings uint16
	key, version, origin      []byte
	authorization, cookie     string

	fields []byte // all of them, as they came
}

// ParseHead reads a whole head, found by HeadLength, by RFC 9112 sections 3 and 5 to 7. What other servers might
// understand in another way is refused, with a *Refusal: a request must end where whoever stands between takes it to end.
// So none may have a body, which nothing here has a use for. secure says that it came over TLS.
func ParseHead(p []byte, secure bool) (h Head, err error) {
	line, p, _ := bytes.Cut(p, crlf)
	if err := h.requestLine(line); err != nil {
		return h, err
	}
	h.fields = p
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
			name, _, _ = bytes.Cut(name, []byte(" "))
			return h, bad(start(name) + " is no header field")
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
	if err := h.method(); err != nil {
		return h, err
	}
	if h.body { // RFC 9110 section 9.3.1: it has no meaning, and may be an attempt to have it taken for a request
		return h, bad(fmt.Sprintf("%s takes no body", h.Method))
	}
	h.URL, err = h.url(secure)
	return h, err
}

var crlf = []byte("\r\n")

// requestLine reads METHOD TARGET HTTP/1.x.
func (h *Head) requestLine(line []byte) error {
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, version, _ := bytes.Cut(rest, []byte(" "))
	h.Method, h.Target = method, target
	if !isToken(method) || len(target) == 0 || len(version) != len("HTTP/1.1") || string(version[:5]) != "HTTP/" ||
		!isDigit(version[5]) || version[6] != '.' || !isDigit(version[7]) {
		return bad(start(line) + " is no request line of HTTP")
	}
	switch {
	case !isURI(target, ":/?@[]"):
		return bad(fmt.Sprintf("the target %s has bytes that must be percent-encoded", start(target)))
	case string(method) == "PRI":
		return bad("this port does not speak HTTP/2") // RFC 9113 section 3.4
	case version[5] != '1':
		return &Refusal{Status: http.StatusHTTPVersionNotSupported, Reason: "this port speaks HTTP/1.1"}
	}
	h.minor = version[7] - '0'
	return nil
}

// method refuses all methods but two (RFC 9110 section 9.1).
func (h *Head) method() error {
	switch string(h.Method) {
	case http.MethodGet, http.MethodHead:
		return nil
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return &Refusal{Status: http.StatusMethodNotAllowed, Reason: "only GET and HEAD are allowed here", Fields: "Allow: GET, HEAD\r\n"}
	}
	return &Refusal{Status: http.StatusNotImplemented, Reason: fmt.Sprintf("the method %.40q is not known here", h.Method)}
}

// url returns the target's parts (RFC 9112 section 3.2).
func (h *Head) url(secure bool) (*url.URL, error) {
	u, err := url.ParseRequestURI(string(h.Target))
	absolute := h.Target[0] != '/'
	web, socket := "http", "ws"
	if secure {
		web, socket = "https", "wss"
	}
	switch {
	case err != nil, absolute && (u.Host == "" || u.User != nil || !isHost([]byte(u.Host))):
		return nil, bad(fmt.Sprintf("the target %s is no path and no address", start(h.Target)))
	case absolute && u.Scheme != web && u.Scheme != socket: // RFC 9110 section 7.4
		return nil, &Refusal{Status: http.StatusMisdirectedRequest, Reason: fmt.Sprintf("the target %s is not of %s: or %s:", start(h.Target), web, socket)}
	case absolute && u.Path == "":
		u.Path = "/" // RFC 9110 section 4.2.3
	}
	return u, nil
}

// field reads one header field.
func (h *Head) field(name, value []byte) error {
	is := func(s string) bool { return equalFold(name, s) }
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
		if h.encodings++; !equalFold(value, "chunked") {
			return &Refusal{Status: http.StatusNotImplemented, Reason: fmt.Sprintf("the Transfer-Encoding %.40q is not known here", value)}
		}
		h.body = true
	case is("Expect"):
		if h.expects = equalFold(value, "100-continue"); !h.expects && len(value) > 0 {
			return &Refusal{Status: http.StatusExpectationFailed, Reason: fmt.Sprintf("the Expect %.40q is not known here", value)}
		}
	case is("Upgrade"):
		h.upgrade = h.upgrade || hasToken(value, "websocket")
	case is("Connection"):
		h.connection = h.connection || hasToken(value, "upgrade")
	case is("Origin"):
		h.origins, h.origin = h.origins+1, value
	case is("Authorization"):
		h.authorization = join(h.authorization, ", ", value)
	case is("Cookie"):
		h.cookie = join(h.cookie, "; ", value)
	case is("Sec-WebSocket-Key"):
		h.keys, h.key = h.keys+1, value
	case is("Sec-WebSocket-Version"):
		h.versions, h.version = h.versions+1, value
	case is("Sec-WebSocket-Protocol"):
		h.subprotocols = h.subprotocols && len(bytes.Trim(value, ", \t")) > 0
		for item := range bytes.SplitSeq(value, []byte(",")) {
			item = bytes.Trim(item, " \t")
			h.subprotocols = h.subprotocols && (len(item) == 0 || isToken(item))
			h.subprotocol = h.subprotocol || string(item) == Subprotocol
		}
	case is("Sec-WebSocket-Extensions"):
		h.extensions = h.extensions && extensionList.Match(value)
	}
	return nil
}

func join(list, separator string, value []byte) string {
	if list == "" {
		return string(value)
	}
	return list + separator + string(value)
}

// Authority returns the host that the client means, and perhaps a port: the target's goes before the field's
// (RFC 9112 section 3.2.2).
func (h *Head) Authority() string {
	if h.URL.Host != "" {
		return h.URL.Host
	}
	return string(h.Host)
}

// SetAuthority makes another host what the client means, for one whom a proxy has brought.
func (h *Head) SetAuthority(host string) { h.URL.Host = host }

// Values returns the values of the fields of that name, in their order.
func (h *Head) Values(name string) (all []string) {
	for line := range bytes.SplitSeq(h.fields, crlf) {
		if len(line) > len(name) && line[len(name)] == ':' && strings.EqualFold(string(line[:len(name)]), name) {
			all = append(all, string(bytes.Trim(line[len(name)+1:], " \t")))
		}
	}
	return all
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

// IsHost tells whether s is a host and perhaps a port.
func IsHost(s string) bool { return s != "" && isHost([]byte(s)) }

// isHost tells whether p is a host and perhaps a port (RFC 3986 sections 3.2.2 and 3.2.3), or nothing.
func isHost(p []byte) bool {
	name := p
	if colon := bytes.LastIndexByte(p, ':'); colon >= 0 && p[len(p)-1] != ']' {
		name = p[:colon]
		if len(name) == 0 || len(bytes.Trim(p[colon+1:], "0123456789")) > 0 {
			return false
		}
	}
	if literal, ok := bytes.CutPrefix(name, []byte("[")); ok {
		literal, ok = bytes.CutSuffix(literal, []byte("]"))
		addr, err := netip.ParseAddr(string(literal))
		return ok && err == nil && addr.Is6() && addr.Zone() == ""
	}
	return isURI(name, "")
}

// isURI tells whether p has only what may stand in any part of a URI (RFC 3986 section 2), and the delimiters given.
func isURI(p []byte, delimiters string) bool {
	for i, b := range p {
		switch {
		case isDigit(b), 'a' <= b|0x20 && b|0x20 <= 'z', strings.IndexByte("-._~!$&'()*+,;=", b) >= 0, strings.IndexByte(delimiters, b) >= 0:
		case b == '%' && i+2 < len(p) && isHex(p[i+1]) && isHex(p[i+2]):
		default:
			return false
		}
	}
	return true
}

func isHex(b byte) bool { return isDigit(b) || 'a' <= b|0x20 && b|0x20 <= 'f' }

// hasToken tells whether a comma-separated list has the token, in any case.
func hasToken(list []byte, token string) bool {
	for item := range bytes.SplitSeq(list, []byte(",")) {
		if equalFold(bytes.Trim(item, " \t"), token) {
			return true
		}
	}
	return false
}

// equalFold tells whether p is s, in any case. (To strings.EqualFold alone the Kelvin sign is a k.)
func equalFold(p []byte, s string) bool { return len(p) == len(s) && strings.EqualFold(string(p), s) }

// extensionList is what Sec-WebSocket-Extensions may have (RFC 6455 section 9.1; what is in quotes must be a token,
// too). As in any list, elements may be empty (RFC 9110 section 5.6.1.2).
var extensionList = func() *regexp.Regexp {
	extension := strings.NewReplacer("char", "[!#$%&'*+.^_`|~0-9A-Za-z-]", " ", `[ \t]*`).Replace(
		` char+(?: ; char+(?: = (?:char+|"(?:\\?char)+"))?)* `)
	return regexp.MustCompile(`^[, \t]*` + extension + `(?:,(?:[ \t]*|` + extension + `))*$`)
}()
