package websocket

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

// example is the handshake of RFC 6455 section 1.2, without its subprotocols.
const example = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\nSec-WebSocket-Version: 13\r\n\r\n"

// parse reads the response to a request as net/http does and checks that it is complete, and nothing but it is there.
func parse(t *testing.T, request, response []byte) (r *http.Response, body string) {
	t.Helper()
	from := bufio.NewReader(bytes.NewReader(response))
	method, _, _ := bytes.Cut(request, []byte(" "))
	r, err := http.ReadResponse(from, &http.Request{Method: string(method)})
	if err != nil {
		t.Fatalf("net/http does not understand %q: %v", response, err)
	}
	p, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("the body of %q: %v", response, err)
	}
	if rest, _ := io.ReadAll(from); len(rest) > 0 {
		t.Errorf("%q follows the response", rest)
	}
	if r.StatusCode == http.StatusSwitchingProtocols {
		return r, string(p)
	}
	if r.ContentLength != int64(len(p)) && string(method) != http.MethodHead || r.ContentLength < 1 || !r.Close {
		t.Errorf("Content-Length %d and close %v in %q", r.ContentLength, r.Close, response)
	}
	if date := r.Header.Get("Date"); date != "Fri, 13 Feb 2009 23:31:30 GMT" { // RFC 9110 section 6.6.1
		t.Errorf("the Date is %q", date)
	}
	return r, string(p)
}

// now is when everything is answered, in a zone that is not Greenwich's.
var now = time.Unix(1234567890, 0).In(time.FixedZone("elsewhere", 3600))

// answer answers one handshake, as a server does.
func answer(head []byte, check func(Request) error) (response []byte, err error) {
	n, err := HeadLength(head)
	if err == nil && n != len(head) {
		return nil, fmt.Errorf("%d of %d bytes are the head", n, len(head))
	}
	var h Head
	if err == nil {
		h, err = ParseHead(head, false)
	}
	if err == nil {
		_, response, err = NewUpgrader(check).Upgrade(&h)
	}
	if err != nil {
		response = AsRefusal(err).AppendTo(nil, head, now)
	}
	return response, err
}

// TestUpgraderMakesLittleGarbage holds an Upgrader to what its doc says: what is left are the parsed
// target, the key, two strings, and what gobwas makes of the reply.
func TestUpgraderMakesLittleGarbage(t *testing.T) {
	u := NewUpgrader(func(Request) error { return nil })
	head := AppendRequest(nil, "rover:9900", "/ws")
	if n := testing.AllocsPerRun(100, func() {
		h, err := ParseHead(head, false)
		if err == nil {
			_, _, err = u.Upgrade(&h)
		}
		if err != nil {
			t.Fatal(err)
		}
	}); n > 6 { // 5 without the race detector
		t.Errorf("%v allocations", n)
	}
}

func TestUpgrade(t *testing.T) {
	head := []byte(example)
	var asked []Request
	response, err := answer(head, func(r Request) error { asked = append(asked, r); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if len(asked) != 1 || asked[0].URL.Path != "/chat" || asked[0].Host != "server.example.com" || asked[0].Origin != "http://example.com" {
		t.Errorf("the check was asked %+v", asked)
	}
	if string(head) != example {
		t.Errorf("the head was changed to %q", head)
	}
	r, _ := parse(t, head, response) // RFC 6455 section 4.2.2
	if r.StatusCode != http.StatusSwitchingProtocols || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") ||
		len(r.Header["Connection"]) != 1 || !strings.EqualFold(r.Header.Get("Connection"), "Upgrade") ||
		r.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // section 1.3
		t.Errorf("got %q", response)
	}
	if n, err := HeadLength(response); n != len(response) || err != nil {
		t.Errorf("the response of %d bytes has a head of %d, error %v", len(response), n, err)
	}
}

// TestUpgradeAccepts has requests that are as good as the example (RFC 6455 section 4.2.1).
func TestUpgradeAccepts(t *testing.T) {
	names := func(f func(string) string) string {
		return regexp.MustCompile(`(?m)^[\w-]+:`).ReplaceAllStringFunc(example, f)
	}
	for name, head := range map[string]string{
		"names in lower case":       names(strings.ToLower),
		"names in upper case":       names(strings.ToUpper),
		"more connection options":   strings.Replace(example, "Connection: Upgrade", "Connection: keep-alive, upgrade", 1),
		"no spaces":                 strings.ReplaceAll(example, ": ", ":"),
		"more spaces":               strings.ReplaceAll(example, ": ", ": \t "),
		"WebSocket":                 strings.Replace(example, "websocket", "WebSocket", 1),
		"extensions it has not":     strings.Replace(example, "Origin", "Sec-WebSocket-Extensions: permessage-deflate\r\nOrigin", 1),
		"subprotocols it has not":   strings.Replace(example, "Origin", "Sec-WebSocket-Protocol: chat, superchat\r\nOrigin", 1),
		"the largest head":          strings.Replace(example, "Origin", "X: "+strings.Repeat("x", MaxHead-len(example)-5)+"\r\nOrigin", 1),
		"HTTP/1.2":                  strings.Replace(example, "HTTP/1.1", "HTTP/1.2", 1),
		"bytes that are not ASCII":  strings.Replace(example, "Origin", "X: \xff\t\x80\r\nOrigin", 1),
		"more to upgrade to":        strings.Replace(example, "websocket", "h2c, websocket", 1),
		"two Connections":           strings.Replace(example, "Origin", "Connection: keep-alive\r\nOrigin", 1),
		"two Upgrades":              strings.Replace(example, "Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: websocket", 1),
		"spaces at the end":         strings.Replace(example, "websocket", "websocket \t", 1),
		"an empty body":             strings.Replace(example, "Origin", "Content-Length: 0\r\nOrigin", 1),
		"an empty field":            strings.Replace(example, "Origin", "X:\r\nOrigin", 1),
		"an empty subprotocol":      strings.Replace(example, "Origin", "Sec-WebSocket-Protocol: ,chat,, superchat\r\nOrigin", 1),
		"the whole address":         strings.Replace(example, "/chat", "http://server.example.com/chat", 1),
		"the whole address alone":   strings.NewReplacer("/chat", "http://server.example.com/chat", "Host: server.example.com", "Host:").Replace(example),
		"quoted extension":          strings.Replace(example, "Origin", "Sec-WebSocket-Extensions: x; y=\"z\", permessage-deflate; client_max_window_bits\r\nOrigin", 1),
		"more headers than needed":  strings.Replace(example, "Origin", strings.Repeat("X: y\r\n", 100)+"Origin", 1),
		"two headers of other name": strings.Replace(example, "Origin", "Cookie: a\r\nCookie: b\r\nOrigin", 1),
	} {
		var origin string
		response, err := answer([]byte(head), func(r Request) error { origin = r.Origin; return nil })
		if err != nil || origin != "http://example.com" {
			t.Errorf("%s: origin %q, error %v", name, origin, err)
			continue
		}
		if r, _ := parse(t, []byte(head), response); r.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ||
			len(r.Header["Sec-Websocket-Extensions"]) > 0 || len(r.Header["Sec-Websocket-Protocol"]) > 0 {
			t.Errorf("%s: got %q", name, response)
		}
	}
}

// Who expects 100 (Continue) is told it first (RFC 9110 section 7.8).
func TestUpgradeContinues(t *testing.T) {
	head := []byte(strings.Replace(example, "Origin", "Expect: 100-Continue\r\nOrigin", 1))
	response, err := answer(head, func(Request) error { return nil })
	rest, ok := bytes.CutPrefix(response, []byte("HTTP/1.1 100 Continue\r\n\r\n"))
	if err != nil || !ok {
		t.Fatalf("got %q, %v", response, err)
	}
	if r, _ := parse(t, head, rest); r.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("then %q", rest)
	}
}

// No content is in the answer to HEAD, whatever is wrong with it; only its length (RFC 9110 section 9.3.2).
func TestRefusalOfHEAD(t *testing.T) {
	for request, content := range map[string]string{"HEAD / HTTP/1.1\n": "", "HEADS": "no\n", "GET / HTTP/1.1\n": "no\n", "": "no\n"} {
		response := string((&Refusal{Status: 400, Reason: "no"}).AppendTo([]byte("dst"), []byte(request), now))
		head, body, _ := strings.Cut(response, "\r\n\r\n")
		if !strings.HasPrefix(head, "dstHTTP/1.1 400 Bad Request\r\n") || !strings.Contains(head, "Content-Length: 3\r\n") || body != content {
			t.Errorf("to %q: %q", request, response)
		}
	}
}

// TestUpgradeRefuses has requests that fall short of RFC 6455 section 4.2.1.
func TestUpgradeRefuses(t *testing.T) {
	without := func(line string) string { return strings.Replace(example, line+"\r\n", "", 1) }
	with := func(old, new string) string { return strings.Replace(example, old, new, 1) }
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	for _, c := range []struct {
		name, head string
		status     int
	}{
		{"POST", with("GET", "POST"), 405},
		{"lower case method", with("GET", "get"), 501},
		{"HEAD", with("GET", "HEAD"), 400},
		{"HTTP/1.0", with("HTTP/1.1", "HTTP/1.0"), 400},
		{"no Upgrade", without("Upgrade: websocket"), 400},
		{"other Upgrade", with("Upgrade: websocket", "Upgrade: h2c"), 400},
		{"an Upgrade with the Kelvin sign", with("websocket", "websoc\u212aet"), 400}, // in any case means in that of ASCII
		{"an Upgrade with a long s", with("websocket", "web\u017focket"), 400},
		{"no Connection", without("Connection: Upgrade"), 400},
		{"other Connection", with("Connection: Upgrade", "Connection: keep-alive"), 400},
		{"empty Host", with("Host: server.example.com", "Host:"), 400},
		{"no key", without("Sec-WebSocket-Key: " + key), 400},
		{"empty key", with(key, ""), 400},
		{"short key", with(key, "dGhlIHNhbXBsZQ=="), 400},
		{"long key", with(key, key+"="), 400},
		{"key of 24 characters that are no base64", with(key, "dGhlIHNhbXBsZSBub25jZ-=="), 400},
		{"key of 17 bytes", with(key, "dGhlIHNhbXBsZSBub25jZSE="), 400},
		{"key of 18 bytes", with(key, "dGhlIHNhbXBsZSBub25jZSEh"), 400},
		{"two keys", with("Origin", "Sec-WebSocket-Key: "+key+"\r\nOrigin"), 400},
		{"no version", without("Sec-WebSocket-Version: 13"), 426},
		{"version 8", with("Version: 13", "Version: 8"), 426},
		{"version 130", with("Version: 13", "Version: 130"), 426},
		{"version 013", with("Version: 13", "Version: 013"), 426},
		{"two versions", with("Origin", "Sec-WebSocket-Version: 13\r\nOrigin"), 400},
		{"two Origins", with("Origin", "Origin: http://example.com\r\nOrigin"), 400},
		{"a body", with("Origin", "Content-Length: 5\r\nOrigin"), 400},
		{"a chunked body", with("Origin", "Transfer-Encoding: chunked\r\nOrigin"), 400},
		{"malformed extensions", with("Origin", "Sec-WebSocket-Extensions: ;;\r\nOrigin"), 400},
		{"malformed extensions behind others", with("Origin", "Sec-WebSocket-Extensions: x\r\nSec-WebSocket-Extensions: ;;\r\nOrigin"), 400},
		{"no subprotocol", with("Origin", "Sec-WebSocket-Protocol:\r\nOrigin"), 400},
		{"no subprotocol in a list", with("Origin", "Sec-WebSocket-Protocol: , \t,\r\nOrigin"), 400},
		{"empty Origin", with("Origin: http://example.com", "Origin:"), 400},
		{"an expectation", with("Origin", "Expect: x\r\nOrigin"), 417},
		{"malformed subprotocols", with("Origin", "Sec-WebSocket-Protocol: a b\r\nOrigin"), 400},
		{"asterisk", with("GET /chat", "OPTIONS *"), 405},
	} {
		response, err := answer([]byte(c.head), func(Request) error { t.Errorf("%s: the check was asked", c.name); return nil })
		if err == nil {
			t.Errorf("%s: accepted", c.name)
		}
		r, _ := parse(t, []byte(c.head), response)
		if r.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.name, r.StatusCode, c.status)
		}
		if version := r.Header.Get("Sec-WebSocket-Version"); (version == "13") != (c.status == 426) { // section 4.4
			t.Errorf("%s: Sec-WebSocket-Version %q", c.name, version)
		}
	}
}

// The check's refusal is the answer.
func TestUpgradeCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		err    error
		status int
		body   string
	}{
		{"refusal", &Refusal{Status: http.StatusForbidden, Reason: "not from there"}, 403, "not from there\n"},
		{"refusal in another error", errors.Join(&Refusal{Status: http.StatusNotFound, Reason: "no such place"}), 404, "no such place\n"},
		{"long refusal", &Refusal{Status: http.StatusForbidden, Reason: strings.Repeat("no ", 1000)}, 403, strings.Repeat("no ", 1000) + "\n"},
		{"other error", errors.New("broken"), 500, "broken\n"},
	} {
		response, err := answer([]byte(example), func(Request) error { return c.err })
		if err == nil || err.Error()+"\n" != c.body {
			t.Errorf("%s: error %v, want %q", c.name, err, c.body)
		}
		if r, body := parse(t, []byte(example), response); r.StatusCode != c.status || body != c.body {
			t.Errorf("%s: got %d %q, want %d %q", c.name, r.StatusCode, body, c.status, c.body)
		}
	}
}

func TestSubprotocol(t *testing.T) {
	for offer, want := range map[string]string{
		"Sec-WebSocket-Protocol: roverd.v1":                                 "roverd.v1",
		"Sec-WebSocket-Protocol: chat,  roverd.v1 ,x":                       "roverd.v1",
		"Sec-WebSocket-Protocol: chat\r\nsec-websocket-protocol: roverd.v1": "roverd.v1",
		"Sec-WebSocket-Protocol: ROVERD.V1":                                 "", // section 4.1: case matters
		"Sec-WebSocket-Protocol: chat":                                      "",
		"X: roverd.v1":                                                      "",
	} {
		response, err := answer([]byte(strings.Replace(example, "Origin", offer+"\r\nOrigin", 1)), func(Request) error { return nil })
		if err != nil {
			t.Errorf("%s: %v", offer, err)
			continue
		}
		if r, _ := parse(t, []byte(example), response); r.Header.Get("Sec-WebSocket-Protocol") != want || len(r.Header["Sec-Websocket-Protocol"]) > 1 {
			t.Errorf("%s: %q", offer, response)
		}
	}
}

// RFC 6455 section 9.1: what does not conform to its grammar fails the connection.
func TestExtensions(t *testing.T) {
	for value, want := range map[string]bool{
		"x": true, "permessage-deflate; client_max_window_bits": true, "x;y;z=1": true, "x; y=\"z\", a; b": true, "\t x ;\ty = z\t, a ": true,
		`x; y="\z"`: true, "x; y=\"!#$%&'*+-.^_`|~\"": true, ",x": true, "x,,a": true, "x, ": true,
		"": false, " ": false, ",": false, ", ,": false, ";": false, "=": false, "x;": false, "x;;y": false, "x;,a": false, "x, ;y": false, "x y": false,
		"x=y": false, "x;=y": false, "x;y=": false, "x;y==z": false, "x;y=z=z": false, "x;y=z z": false, "x/y": false, "x;y@=z": false, "\xe4": false,
		`"x"`: false, `x;"y"`: false, `x;y="`: false, `x;y=""`: false, `x;y="z`: false, `x;y=z"`: false, `x;y="z"z`: false, `x;y="z" z`: false,
		`x;y="z z"`: false, `x;y="z,z"`: false, `x;y="z;z"`: false, `x;y="\"`: false, `x;y="\\"`: false, `x;y="z\,z"`: false, `x;y="\"z"`: false,
	} {
		head := strings.Replace(example, "Origin", "Sec-WebSocket-Extensions:"+value+"\r\nOrigin", 1)
		if _, err := answer([]byte(head), func(Request) error { return nil }); (err == nil) != want || !want && refused(t, err) != 400 {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// TestClientHandshake has AppendRequest, Upgrade and CheckResponse agree, also in net/http's opinion.
func TestClientHandshake(t *testing.T) {
	request := AppendRequest([]byte("dst"), "rover:8080", "/ws?a=b")
	request, ok := bytes.CutPrefix(request, []byte("dst"))
	if !ok {
		t.Fatalf("dst was lost: %q", request)
	}
	if n, err := HeadLength(request); n != len(request) || err != nil {
		t.Errorf("the request of %d bytes has a head of %d, error %v", len(request), n, err)
	}
	parsed, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	if err != nil {
		t.Fatal(err)
	}
	if key, err := base64.StdEncoding.DecodeString(parsed.Header.Get("Sec-WebSocket-Key")); len(key) != 16 || err != nil { // RFC 6455 section 4.1
		t.Errorf("the key is %q, error %v", key, err)
	}
	var asked Request
	response, err := answer(request, func(r Request) error { asked = r; return nil })
	if err != nil || asked.URL.RequestURI() != "/ws?a=b" || asked.Host != "rover:8080" || asked.Origin != "" {
		t.Errorf("Upgrade understood %+v, error %v", asked, err)
	}
	if err := CheckResponse(response); err != nil {
		t.Errorf("%q: %v", response, err)
	}
}

// TestClientHandshakeWithServer lets a server of net/http answer AppendRequest.
func TestClientHandshakeWithServer(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws" {
			http.NotFound(w, r)
			return
		}
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 section 1.3
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Sec-WebSocket-Accept", base64.StdEncoding.EncodeToString(sum[:]))
		w.WriteHeader(http.StatusSwitchingProtocols)
	})
	for target, want := range map[string]bool{"/ws": true, "/elsewhere": false} {
		request, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(AppendRequest(nil, "rover", target))))
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, request)
		var response bytes.Buffer
		if err := w.Result().Write(&response); err != nil {
			t.Fatal(err)
		}
		n, err := HeadLength(response.Bytes())
		if err != nil || n == 0 {
			t.Fatalf("%q has no head, error %v", response.Bytes(), err)
		}
		if err := CheckResponse(response.Bytes()[:n]); (err == nil) != want {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestCheckResponse(t *testing.T) {
	const status, accept = "HTTP/1.1 101 Switching Protocols\r\n", "Sec-WebSocket-Accept: eSwiLPw1yDQ/RRcBFOP2WbNn7Og=\r\n"
	const upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
	for _, c := range []struct {
		name, head string
		ok         bool
	}{
		{"right", status + upgrade + accept + "\r\n", true},
		{"names in lower case", status + strings.ToLower(upgrade) + strings.Replace(accept, "Sec-WebSocket-Accept", "sec-websocket-accept", 1) + "\r\n", true},
		{"no spaces", status + upgrade + strings.Replace(accept, ": ", ":", 1) + "\r\n", true},
		{"other reason", "HTTP/1.1 101 Web Socket Protocol Handshake\r\n" + upgrade + accept + "\r\n", true},
		{"wrong accept", status + upgrade + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", false},
		{"accept in other case", status + upgrade + strings.Replace(accept, "eSwi", "eswi", 1) + "\r\n", false},
		{"no accept", status + upgrade + "\r\n", false},
		{"Connection in a list", status + strings.Replace(upgrade, ": Upgrade", ": keep-alive, upgrade", 1) + accept + "\r\n", true},
		{"no Upgrade", status + strings.Replace(upgrade, "Upgrade: websocket", "X: y", 1) + accept + "\r\n", false},
		{"other Upgrade", status + strings.Replace(upgrade, "websocket", "h2c", 1) + accept + "\r\n", false},
		{"no Connection", status + strings.Replace(upgrade, "Connection: Upgrade", "X: y", 1) + accept + "\r\n", false},
		{"other Connection", status + strings.Replace(upgrade, ": Upgrade", ": close", 1) + accept + "\r\n", false},
		{"an extension", status + upgrade + accept + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", false},
		{"a subprotocol", status + upgrade + accept + "Sec-WebSocket-Protocol: roverd.v1\r\n\r\n", false},
		{"other status", "HTTP/1.1 200 OK\r\n" + accept + "\r\n", false},
		{"status 1010", "HTTP/1.1 1010 No\r\n" + accept + "\r\n", false},
		{"HTTP/1.0", strings.Replace(status, "1.1", "1.0", 1) + upgrade + accept + "\r\n", false},
		{"garbage", "\x81\x05Hello\r\n\r\n", false},
		{"nothing", "", false},
	} {
		if err := CheckResponse([]byte(c.head)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	refused, err := answer(AppendRequest(nil, "rover", "/"), func(Request) error { return &Refusal{Status: 403, Reason: "no"} })
	if err == nil {
		t.Fatal("not refused")
	}
	if err := CheckResponse(refused); err == nil || !strings.Contains(err.Error(), "403 Forbidden") {
		t.Errorf("of a refusal: %v", err)
	}
}
