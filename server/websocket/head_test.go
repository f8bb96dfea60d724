package websocket

import (
	"errors"
	"strings"
	"testing"
)

// refused returns the status of a *Refusal, 0 for no error.
func refused(t *testing.T, err error) int {
	t.Helper()
	if err == nil {
		return 0
	}
	var r *Refusal
	if !errors.As(err, &r) || r.Reason == "" {
		t.Errorf("%#v is no refusal", err)
		return -1
	}
	return r.Status
}

func TestHeadLength(t *testing.T) {
	long := func(n int) string { return "G\r\n" + strings.Repeat("x", n-3) }
	for _, c := range []struct {
		name, in string
		want     int
		status   int
	}{
		{"nothing", "", 0, 0},
		{"incomplete", example[:len(example)-1], 0, 0},
		{"complete", example, len(example), 0},
		{"with a tail", example + "\x81\x85\n\x00", len(example), 0},
		{"with another head", example + example, len(example), 0},
		{"largest", long(MaxHead-4) + "\r\n\r\n", MaxHead, 0},
		{"largest, with a tail", long(MaxHead-4) + "\r\n\r\n" + long(MaxHead), MaxHead, 0},
		{"largest, but for a byte", long(MaxHead-4) + "\r\n\r", 0, 0},
		{"too large, end in sight", long(MaxHead-3) + "\r\n\r\n", 0, 431},
		{"too large, end far behind", long(2*MaxHead) + "\r\n\r\n", 0, 431},
		{"too large, no end", long(MaxHead), 0, 431},
		{"too large, nearly an end", long(MaxHead-3) + "\r\n\r", 0, 431},
		{"endless first line", strings.Repeat("x", MaxHead), 0, 414},

		// RFC 9112 section 2.2: what others might take for a line end.
		{"line feeds alone", "GET / HTTP/1.1\n", 0, 400},
		{"a line feed first", "\n", 0, 400},
		{"a line feed in the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 0, 400},
		{"a carriage return alone", "GET / HTTP/1.1\rHost: a", 0, 400},
		{"carriage return twice", "GET / HTTP/1.1\r\r", 0, 400},
		// RFC 9110 section 5.5.
		{"NUL", "GET / HTTP/1.1\r\nX: \x00", 0, 400},
		{"escape", "GET / HTTP/1.1\r\nX: \x1b[2J", 0, 400},
		{"delete", "GET /\x7f", 0, 400},
		{"tab and obsolete text", "GET / HTTP/1.1\r\nX: \t\x80\xff\r\n\r\n", 26, 0},
		{"TLS", "\x16\x03\x01\x02\x00\x01", 0, 400},
		{"a frame", "\x81\x85", 0, 0}, // a head that never ends, as far as can be told
	} {
		got, err := HeadLength([]byte(c.in))
		if status := refused(t, err); got != c.want || status != c.status {
			t.Errorf("%s: got %d, status %d (%v), want %d, %d", c.name, got, status, err, c.want, c.status)
		}
	}
	for i := range len(example) { // whichever way it arrives
		if n, err := HeadLength([]byte(example[:i])); n != 0 || err != nil {
			t.Errorf("of %d bytes: got %d, error %v", i, n, err)
		}
	}
}

func TestParseHead(t *testing.T) {
	for _, c := range []struct {
		name, head string // without the blank line
		status     int
	}{
		{"GET", "GET / HTTP/1.1\r\nHost: a", 0},
		{"POST", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5", 0},
		{"chunked", "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked", 0},
		{"HTTP/1.0", "GET / HTTP/1.0", 0},
		{"whole address", "GET http://a:80/x?y HTTP/1.1\r\nHost: a", 0},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a", 0},
		{"percent", "GET /%20 HTTP/1.1\r\nHost: [::1]:80", 0},
		{"empty Host", "GET / HTTP/1.1\r\nHost:", 0},

		// RFC 9112 section 3
		{"nothing", "", 400},
		{"one word", "garbage", 400},
		{"two words", "GET /", 400},
		{"two spaces", "GET  / HTTP/1.1", 400},
		{"space at the end", "GET / HTTP/1.1 ", 400},
		{"space in the target", "GET /a b HTTP/1.1", 400},
		{"space first", " GET / HTTP/1.1", 400},
		{"method", "G(T / HTTP/1.1", 400},
		{"fragment", "GET /#a HTTP/1.1", 400},
		{"not ASCII", "GET /\xff HTTP/1.1", 400},
		{"percent cut short", "GET /%2 HTTP/1.1", 400},
		{"no path", "GET x HTTP/1.1", 400},
		{"asterisk of GET", "GET * HTTP/1.1", 400},
		{"no host in the address", "GET http:///x HTTP/1.1", 400},
		{"user in the address", "GET http://u@a/x HTTP/1.1", 400},
		{"CONNECT", "CONNECT a:80 HTTP/1.1", 405},
		{"HTTP/2", "PRI * HTTP/2.0", 400},
		{"HTTP/2 in other words", "GET / HTTP/2.0", 505},
		{"HTTP/0.9", "GET / HTTP/0.9", 505},
		{"version", "GET / HTTP/1.x", 400},
		{"long version", "GET / HTTP/1.10", 400},
		{"lower case version", "GET / http/1.1", 400},
		{"other protocol", "GET / HTTPS/1.1", 400},

		// section 3.2
		{"no Host", "GET / HTTP/1.1", 400},
		{"two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nhost: a", 400},
		{"two Hosts of HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nhost: a", 400},
		{"path in the Host", "GET / HTTP/1.1\r\nHost: a/b", 400},
		{"user in the Host", "GET / HTTP/1.1\r\nHost: u@a", 400},
		{"two words in the Host", "GET / HTTP/1.1\r\nHost: a b", 400},

		// section 5
		{"no colon", "GET / HTTP/1.1\r\nHost: a\r\nX", 400},
		{"no name", "GET / HTTP/1.1\r\nHost: a\r\n: x", 400},
		{"space before the colon", "GET / HTTP/1.1\r\nHost : a", 400},
		{"space in the name", "GET / HTTP/1.1\r\nHost: a\r\nX Y: z", 400},
		{"folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z", 400},
		{"folded first line", "GET / HTTP/1.1\r\n Host: a", 400},
		{"folded with a tab", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz", 400},

		// section 6
		{"Content-Length twice", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5", 400},
		{"Content-Length in a list", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5", 400},
		{"Content-Length with a sign", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5", 400},
		{"negative Content-Length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5", 400},
		{"hexadecimal Content-Length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5", 400},
		{"empty Content-Length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:", 400},
		{"huge Content-Length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999", 400},
		{"both", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked", 400},
		{"both, the other way", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5", 400},
		{"chunked twice", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400},
		{"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked", 400},
		{"other encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", 501},
	} {
		h, err := ParseHead([]byte(c.head + "\r\n\r\n"))
		if status := refused(t, err); status != c.status {
			t.Errorf("%s: status %d (%v), want %d", c.name, status, err, c.status)
		}
		if err == nil && h.IsUpgrade() {
			t.Errorf("%s: taken for an upgrade", c.name)
		}
	}
}

func TestIsUpgrade(t *testing.T) {
	for fields, want := range map[string]bool{
		"Upgrade: websocket":                 true, // rightly formed or not
		"UPGRADE: \t WebSocket ":             true,
		"Upgrade: h2c, websocket":            true,
		"Upgrade: h2c\r\nUpgrade: websocket": true,
		"Sec-WebSocket-Key: x":               true,
		"Upgrade: h2c":                       false,
		"Upgrade: websockets":                false,
		"X-Upgrade: websocket":               false,
		"X: Upgrade: websocket":              false,
		"Connection: Upgrade":                false,
	} {
		h, err := ParseHead([]byte("GET /Upgrade:websocket HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n\r\n"))
		if got := h.IsUpgrade(); got != want || err != nil {
			t.Errorf("with %q: %v, %v", fields, got, err)
		}
	}
}
