package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// RFC 9110 and 9112 by section: a request is answered alike whether it is the first on its connection or a later one;
// and what stands behind it is another request, or nothing at all.
func TestConformanceHTTP(t *testing.T) {
	addr, _ := start(t)
	inner := "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" // stands in a body
	length := fmt.Sprintf("Content-Length: %d\r\n", len(inner))
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(inner), inner)
	sized := func(n int) string { // a head of n bytes
		const head, end = "GET /state HTTP/1.1\r\nHost:x\r\nCookie:", "\r\n\r\n"
		return head + strings.Repeat("x", n-len(head)-len(end)) + end
	}
	for _, tt := range []struct {
		name, head, body string
		status           int
		last             bool // nothing that stands behind it is answered
	}{
		{"9112-2.2 line feeds alone", "GET /state HTTP/1.1\nHost: x\n\n", "", 400, true},
		{"9112-2.2 a line feed alone", "GET /state HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", "", 400, true},
		{"9112-2.2 a line feed alone at the end", "GET /state HTTP/1.1\r\nHost: x\r\n\n", "", 400, true},
		{"9112-2.2 a carriage return alone", "GET /state HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", "", 400, true},
		{"9112-2.2 carriage returns alone", "GET /state HTTP/1.1\rHost: x\r\r", "", 400, true},
		{"9112-2.2 space in front", " GET /state HTTP/1.1\r\nHost: x\r\n\r\n", "", 400, true},
		{"9112-2.3 a later version", "GET /state HTTP/1.2\r\nHost: x\r\n\r\n", "", 200, false},
		{"9112-2.3 a later major version", "GET /state HTTP/2.0\r\nHost: x\r\n\r\n", "", 505, true},
		{"9112-3 a target with bytes that no URI has", "GET /<script> HTTP/1.1\r\nHost: x\r\n\r\n", "", 400, true},
		{"9112-3 percent without hex", "GET /?%zz HTTP/1.1\r\nHost: x\r\n\r\n", "", 400, true},
		{"9112-3.2 no Host", "GET /state HTTP/1.1\r\n\r\n", "", 400, true},
		{"9112-3.2 an empty Host", "GET /state HTTP/1.1\r\nHost:\r\n\r\n", "", 200, false},
		{"9112-3.2 a Host that is cut", "GET /state HTTP/1.1\r\nHost: [::1\r\n\r\n", "", 400, true},
		{"9112-3.2 a port that is none", "GET /state HTTP/1.1\r\nHost: a:b\r\n\r\n", "", 400, true},
		{"9112-3.2.2 an address", "GET http://y/state HTTP/1.1\r\nHost: x\r\n\r\n", "", 200, false},
		{"9112-3.2.2 an address of no host", "GET http:///state HTTP/1.1\r\nHost: x\r\n\r\n", "", 400, true},
		{"9112-3.2.3 authority", "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", "", 405, true},
		{"9112-3.2.4 asterisk", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "", 405, true},
		{"9112-5.1 space before the colon", "GET /state HTTP/1.1\r\nHost: x\r\nX : y\r\n\r\n", "", 400, true},
		{"9112-5.2 a folded line", "GET /state HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n", "", 400, true},
		{"9112-6.1 both lengths", "GET /state HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", chunked, 400, true},
		{"9112-6.1 an unknown coding", "GET /state HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", chunked, 501, true},
		{"9112-6.3 a body", "POST /state HTTP/1.1\r\nHost: x\r\n" + length + "\r\n", inner, 405, true},
		{"9112-6.3 a body in chunks", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", chunked, 405, true},
		{"9112-6.3 a body that does not come", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", "", 405, true},
		{"9112-6.3 a length of zero", "GET /state HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "", 200, false},
		{"9112-6.3 two lengths of zero", "GET /state HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", "", 400, true},
		{"9112-9.3 HTTP/1.0", "GET /state HTTP/1.0\r\n\r\n", "", 200, true},
		{"9112-9.3 HTTP/1.0 that would go on", "GET /state HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", "", 200, true},
		{"9112-9.6 close", "GET /state HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "", 200, true},
		{"9110-4.2.3 an address without a path", "GET http://y HTTP/1.1\r\nHost: x\r\n\r\n", "", 200, false},
		{"9110-4.2.3 an address without a path, but a query", "GET http://y?z HTTP/1.1\r\nHost: x\r\n\r\n", "", 200, false},
		{"9110-5.4 as much as is taken", sized(8192), "", 200, false},
		{"9110-5.4 more than that", sized(8193), "", 431, true},
		{"9110-5.5 NUL", "GET /state HTTP/1.1\r\nHost: x\r\nX: \x00\r\n\r\n", "", 400, true},
		{"9110-7.4 an address of another scheme", "GET https://x/state HTTP/1.1\r\nHost: x\r\n\r\n", "", 421, true},
		{"9110-7.8 another Upgrade", "GET /state HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "", 200, false},
		{"9110-9.1 an unknown method", "BREW /state HTTP/1.1\r\nHost: x\r\n\r\n", "", 501, true},
		{"9110-9.1 the method of a recall", "RECALL / HTTP/1.1\r\nHost:\r\n\r\n", "", 501, true},
		{"9110-9.1 methods have a case", "get /state HTTP/1.1\r\nHost: x\r\n\r\n", "", 501, true},
		{"9110-9.1 a method that is not allowed", "DELETE /state HTTP/1.1\r\nHost: x\r\n\r\n", "", 405, true},
		{"9110-9.3.1 GET with a body", "GET /state HTTP/1.1\r\nHost: x\r\n" + length + "\r\n", inner, 400, true},
		{"9110-9.3.1 GET with a body in chunks", "GET /state HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", chunked, 400, true},
		{"9110-9.3.2 HEAD", "HEAD /state HTTP/1.1\r\nHost: x\r\n\r\n", "", 200, false},
		{"9110-9.3.2 HEAD that is refused", "HEAD /state HTTP/1.1\r\nHost: [\r\n\r\n", "", 400, true},
		{"9110-9.3.2 HEAD with a body", "HEAD /state HTTP/1.1\r\nHost: x\r\n" + length + "\r\n", inner, 400, true},
		{"9110-10.1.1 100 (Continue) for a body", "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + length + "\r\n", inner, 405, true},
		{"9110-10.1.1 100 (Continue) for no body", "GET /state HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", "", 200, false},
		{"9110-10.1.1 another expectation", "GET /state HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", "", 417, true},
	} {
		for prefix, waits := range map[string]bool{"": false, getNowhere: false, "\r\n" + getNowhere: true, getNowhere + "\r\n\r\n": true} {
			t.Run(tt.name, func(t *testing.T) {
				c := dialHTTP(t, addr)
				c.send(prefix)
				if waits {
					c.answer("GET")
				}
				behind := getNowhere
				if strings.Contains(tt.head, "1000000") {
					behind = "" // it would be the body
				}
				c.send(tt.head + tt.body + behind)
				if prefix != "" && !waits {
					c.answer("GET")
				}
				method, _, _ := strings.Cut(tt.head, " ")
				r, body := c.answer(method)
				if r.StatusCode != tt.status || r.Close != tt.last || (method == "HEAD") != (body == "") {
					t.Errorf("behind %q: %d, close %v, %q, want %d, %v", prefix, r.StatusCode, r.Close, body, tt.status, tt.last)
				}
				if allow := r.Header.Get("Allow"); (allow == "GET, HEAD") != (tt.status == 405) { // RFC 9110 section 15.5.6
					t.Errorf("behind %q: Allow: %s", prefix, allow)
				}
				if tt.last {
					c.expectEnd()
				} else if r, _ := c.answer("GET"); r.StatusCode != 404 || r.Close {
					t.Errorf("behind %q: what follows is answered with %d, close %v", prefix, r.StatusCode, r.Close)
				}
				if _, err := http.ParseTime(r.Header.Get("Date")); err != nil { // RFC 9110 section 6.6.1
					t.Errorf("behind %q: the Date: %v", prefix, err)
				}
			})
		}
	}
}
