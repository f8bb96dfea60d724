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
		{"HEAD", "HEAD /x HTTP/1.1\r\nHost: a\r\nContent-Length: 00", 0},
		{"HTTP/1.0", "GET / HTTP/1.0", 0},
		{"whole address", "GET http://a:80/x?y HTTP/1.1\r\nHost: a", 0},
		{"whole address of WebSocket", "GET WS://a HTTP/1.1\r\nHost: a", 0},
		{"whole address of an IPv6 host", "GET http://[::1]:80?y HTTP/1.1\r\nHost: a", 0},
		{"expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue", 0},
		{"no expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect:", 0},
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
		{"quotes", "GET /\" HTTP/1.1\r\nHost: a", 400},
		{"less", "GET /< HTTP/1.1\r\nHost: a", 400},
		{"greater", "GET /> HTTP/1.1\r\nHost: a", 400},
		{"backslash", "GET /\\ HTTP/1.1\r\nHost: a", 400},
		{"caret", "GET /?^ HTTP/1.1\r\nHost: a", 400},
		{"grave accent", "GET /` HTTP/1.1\r\nHost: a", 400},
		{"braces", "GET /{ HTTP/1.1\r\nHost: a", 400},
		{"braces, closing", "GET /} HTTP/1.1\r\nHost: a", 400},
		{"bar", "GET /?a|b HTTP/1.1\r\nHost: a", 400},
		{"percent without hex in the query", "GET /?%4g HTTP/1.1\r\nHost: a", 400},
		{"percent cut short in the query", "GET /?%2 HTTP/1.1\r\nHost: a", 400},
		{"no host but a port in the address", "GET http://:80/ HTTP/1.1\r\nHost: a", 400},
		{"no IPv6 address in the address", "GET http://[zz]/ HTTP/1.1\r\nHost: a", 400},
		{"address of no host", "GET mailto:a HTTP/1.1\r\nHost: a", 400},
		{"https", "GET https://a/ HTTP/1.1\r\nHost: a", 421}, // RFC 9110 section 7.4
		{"wss", "GET wss://a/ HTTP/1.1\r\nHost: a", 421},
		{"ftp", "GET ftp://a/ HTTP/1.1\r\nHost: a", 421},
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
		{"no Host, of another method", "POST / HTTP/1.1", 400},
		{"path in the Host", "GET / HTTP/1.1\r\nHost: a/b", 400},
		{"user in the Host", "GET / HTTP/1.1\r\nHost: u@a", 400},
		{"two words in the Host", "GET / HTTP/1.1\r\nHost: a b", 400},

		// RFC 9110 section 9.1
		{"POST", "POST / HTTP/1.1\r\nHost: a", 405},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: a", 405},
		{"CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80", 405},
		{"lower case method", "get / HTTP/1.1\r\nHost: a", 501},
		{"unknown method", "BREW / HTTP/1.1\r\nHost: a", 501},
		// sections 9.3 and 10.1.1
		{"body of POST", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5", 405},
		{"chunked body of PUT", "PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked", 405},
		{"body of GET", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1", 400},
		{"chunked body of GET", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", 400},
		{"body of HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 10", 400},
		{"other expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok", 417},
		{"two expectations", "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, x", 417},

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
		{"chunked with the Kelvin sign", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chun\u212aed", 501},
		{"other encoding", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked", 501},
	} {
		h, err := ParseHead([]byte(c.head+"\r\n\r\n"), false)
		if status := refused(t, err); status != c.status {
			t.Errorf("%s: status %d (%v), want %d", c.name, status, err, c.status)
		}
		if err == nil && h.IsUpgrade() {
			t.Errorf("%s: taken for an upgrade", c.name)
		}
	}
}

// RFC 3986 section 3.2, for the field and for the target (RFC 9112 section 3.2).
func TestHost(t *testing.T) {
	for host, want := range map[string]bool{
		"a": true, "a:": true, "A.b-c_d~:8080": true, "127.0.0.1": true, "a,b": true, "[::1]": true, "[::1]:80": true,
		"[::ffff:192.0.2.1]:": true, "a:99999999": true, "x%20y": true, "%C3%A4": true,
		":80": false, ":": false, "a:b": false, "a:80:90": false, "a:-1": false, "::1": false, "[::1": false, "::1]": false,
		"[]": false, "[]:80": false, "[zz]": false, "[127.0.0.1]": false, "[::1]x": false, "[::1]:x": false, "x[::1]": false,
		"[fe80::1%eth0]": false, "[fe80::1%25eth0]": false, "[v1.a]": false, "a]": false, "a[": false, "%": false, "%4": false,
		"%zz": false, "u@a": false, "a/b": false, "a?b": false, "a b": false, "a\\b": false, "\"a\"": false, "\xff": false,
	} {
		if _, err := ParseHead([]byte("GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"), false); (err == nil) != want {
			t.Errorf("Host: %s: %v", host, err)
		}
		// The target is parsed by net/url, to which some of the above is no host, either.
		if h, err := ParseHead([]byte("GET http://"+host+" HTTP/1.1\r\nHost: x\r\n\r\n"), false); err == nil &&
			(!want && !strings.ContainsAny(host, "/?") || h.URL.Path != "/" && h.URL.Path != "/b") {
			t.Errorf("http://%s is taken for %+v", host, h.URL)
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
		h, err := ParseHead([]byte("GET /Upgrade:websocket HTTP/1.1\r\nHost: a\r\n"+fields+"\r\n\r\n"), false)
		if got := h.IsUpgrade(); got != want || err != nil {
			t.Errorf("with %q: %v, %v", fields, got, err)
		}
	}
}
