package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
)

// httpClient speaks HTTP as the test spells it.
type httpClient struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dialHTTP(t *testing.T, addr string) *httpClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(hangTime))
	return &httpClient{t, conn, bufio.NewReader(conn)}
}

func (c *httpClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads the answer to a request of that method.
func (c *httpClient) answer(method string) (*http.Response, string) {
	c.t.Helper()
	r, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no answer to %s: %v", method, err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatalf("%v after %q", err, body)
	}
	return r, string(body)
}

// ask sends a request without body and reads the answer.
func (c *httpClient) ask(method, path, headers string) (*http.Response, string) {
	c.t.Helper()
	c.send(method + " " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n")
	return c.answer(method)
}

// expectEnd wants the server to close, and to have said nothing more.
func (c *httpClient) expectEnd() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.in); len(rest) > 0 || err != nil {
		c.t.Errorf("instead of the end came %q, %v", rest, err)
	}
}

// until waits for what other goroutines do.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(hangTime); !is(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

const (
	getNowhere = "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
	getState   = "GET /state HTTP/1.1\r\nHost: x\r\n\r\n"
)

// However a request is cut over packets, net/http gets all of it and in order: what the reactor has read, once, and then
// what is still on its way.
func TestHandoverOfAnyPortions(t *testing.T) {
	s, addr := startServer(t, "-loops", "1")
	text := "\r\n\r\n\r\n" + getState + getNowhere + "HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	cuts := [][]string{strings.Split(text, "")}
	for i := range text {
		cuts = append(cuts, []string{text[:i], text[i:]})
	}
	for _, pieces := range cuts {
		c := dialHTTP(t, addr)
		until(t, "the reactor has the connection", func() bool {
			s.gate.mu.Lock()
			defer s.gate.mu.Unlock()
			return s.gate.in == 1
		})
		for _, piece := range pieces {
			c.send(piece)
			for range 2 { // a turn may have begun before the piece was there
				on(s.decks[0], func() {})
			}
		}
		for _, want := range []struct {
			method string
			status int
		}{{"GET", 200}, {"GET", 404}, {"HEAD", 200}} {
			if r, body := c.answer(want.method); r.StatusCode != want.status {
				t.Fatalf("the pieces %q: %s is answered with %d, %q", pieces, want.method, r.StatusCode, body)
			}
		}
		c.expectEnd()
		c.conn.Close()
	}
}

// Several requests over one connection are answered in order, whether or not they wait for one another.
func TestKeepAlive(t *testing.T) {
	addr, _ := start(t)
	type exchange struct {
		send, method string
		status       int
		says         string
	}
	state := exchange{getState, "GET", 200, `"op":"state"`}
	nowhere := exchange{getNowhere, "GET", 404, "not found"}
	for name, all := range map[string][]exchange{
		"GET": {state, nowhere, {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET", 200, "<title>"}, state},
		"HEAD": {
			{"HEAD /state HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD", 200, ""}, state,
			{"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD", 200, ""}, nowhere,
			{"HEAD / HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", "HEAD", 200, ""}, state,
			{"HEAD /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "HEAD", 404, ""}, nowhere,
		},
		"not modified": {{"GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n", "GET", 304, ""}, nowhere},
	} {
		t.Run(name, func(t *testing.T) {
			waiting, pipelined := dialHTTP(t, addr), dialHTTP(t, addr)
			var packet strings.Builder
			for _, x := range all {
				packet.WriteString(x.send)
			}
			pipelined.send(packet.String())
			for _, x := range all {
				waiting.send(x.send)
				for _, c := range []*httpClient{waiting, pipelined} {
					r, body := c.answer(x.method)
					if r.StatusCode != x.status || !strings.Contains(body, x.says) || r.Close {
						t.Errorf("%q is answered with %d, %q, close %v", x.send, r.StatusCode, body, r.Close)
					}
				}
			}
		})
	}
}

// Of a body nothing is taken for a request, and the answer arrives although the client is still sending.
func TestKeepAliveEndsAtABody(t *testing.T) {
	addr, _ := start(t)
	for _, kept := range []bool{false, true} {
		c := dialHTTP(t, addr)
		if kept {
			c.ask("GET", "/nowhere", "")
		}
		body := strings.Repeat(getState, 100_000)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			io.WriteString(c.conn, "POST /state HTTP/1.1\r\nHost: x\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
		}()
		if r, body := c.answer("POST"); r.StatusCode != 405 || !r.Close {
			t.Errorf("answered with %d, %q, close %v", r.StatusCode, body, r.Close)
		}
		c.expectEnd()
		c.conn.Close()
		<-sent
	}
}

// Where the server closes, what it has said arrives although the client sends on (RFC 9112 section 9.6).
func TestLastAnswerArrives(t *testing.T) {
	s, addr := startServer(t)
	before := files(t)
	for _, request := range []string{
		"GET /style.css HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "GET /style.css HTTP/1.0\r\n\r\n",
	} {
		for _, kept := range []bool{false, true} {
			c := dialHTTP(t, addr)
			if kept {
				c.ask("GET", "/nowhere", "")
			}
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				io.WriteString(c.conn, request+strings.Repeat(getState, 100_000))
			}()
			if r, body := c.answer("GET"); r.StatusCode != 200 || !r.Close || !strings.Contains(body, "{") {
				t.Errorf("answered with %d, %d bytes, close %v", r.StatusCode, len(body), r.Close)
			}
			c.expectEnd()
			c.conn.Close()
			<-sent
		}
	}
	until(t, "all descriptors and places are back", func() bool {
		s.gate.mu.Lock()
		defer s.gate.mu.Unlock()
		return files(t) <= before && s.handover.live.Load() == 0 && s.gate.turned == 0
	})
}

// A connection is kept for idleTime after each answer, and its place comes back once, however it ends. (In a bubble whose clock jumps to whatever all wait for.)
func TestKeepAliveIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{cfg: &config{}, publisher: newPublisher(), handover: newHandover(&net.TCPAddr{})}
		web := s.newHTTPServer()
		ended := make(chan error)
		go func() { ended <- web.Serve(s.handover) }()
		connect := func() *httpClient {
			ours, theirs := net.Pipe()
			s.handover.reserve()
			s.handover.conns <- &handedConn{Conn: theirs, tcp: new(net.TCPConn), from: s.handover, read: []byte(getNowhere)}
			c := &httpClient{t, ours, bufio.NewReader(ours)}
			c.answer("GET")
			return c
		}
		c := connect()
		<-time.After(idleTime - time.Second)
		c.ask("GET", "/nowhere", "")
		answered := time.Now()
		c.expectEnd()
		if kept := time.Since(answered); kept != idleTime {
			t.Errorf("it was kept for %s, want %s", kept, idleTime)
		}
		c = connect()
		synctest.Wait() // it is idle
		web.Close()     // closes it, and so does the goroutine that serves it
		c.expectEnd()
		<-ended
		synctest.Wait()
		if n := s.handover.live.Load(); n != 0 {
			t.Errorf("in the end %d places are taken", n)
		}
	})
}

// Connections that are kept for nothing hold half of the places at most.
func TestKeepAliveLeavesRoom(t *testing.T) {
	s, addr := startServer(t)
	var kept []*httpClient
	for range maxHTTP / 2 {
		c := dialHTTP(t, addr)
		if r, _ := c.ask("GET", "/nowhere", ""); r.Close {
			t.Fatalf("connection %d is not kept", len(kept)+1)
		}
		kept = append(kept, c)
	}
	for range 3 {
		c := dialHTTP(t, addr)
		if r, body := c.ask("GET", "/state", ""); !r.Close || r.StatusCode != 200 {
			t.Errorf("a newcomer is answered with %d, %q, close %v", r.StatusCode, body, r.Close)
		}
		c.expectEnd()
	}
	if r, _ := kept[0].ask("GET", "/nowhere", ""); r.Close {
		t.Error("one that was kept is closed though no place beyond half is taken")
	}
	kept[1].conn.Close()
	until(t, "its place is free", func() bool { return s.handover.live.Load() < maxHTTP/2 })
	if r, _ := dialHTTP(t, addr).ask("GET", "/nowhere", ""); r.Close {
		t.Error("a newcomer to the free place is not kept")
	}
}

// files counts the descriptors of the process.
func files(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// When all places are taken the next is told so. All come back, and all that they held.
func TestHandoverPlaces(t *testing.T) {
	s, addr := startServer(t)
	filesBefore, goroutinesBefore := files(t), runtime.NumGoroutine()
	for range 2 {
		var all []*httpClient
		for range maxHTTP / 2 {
			c := dialHTTP(t, addr)
			c.ask("GET", "/nowhere", "")
			all = append(all, c)
		}
		for range maxHTTP / 2 { // which are not kept
			s.handover.reserve()
		}
		late := dialHTTP(t, addr)
		if r, body := late.ask("GET", "/state", ""); r.StatusCode != 503 || !strings.Contains(body, strconv.Itoa(maxHTTP)) || !r.Close {
			t.Errorf("one too many is answered with %d, %q, close %v", r.StatusCode, body, r.Close)
		}
		late.expectEnd()
		for _, c := range append(all, late) {
			c.conn.Close()
			s.handover.release()
		}
		s.handover.live.Add(1) // released once too often: late had no place
		until(t, "all places are free", func() bool { return s.handover.live.Load() == 0 })
	}
	until(t, "all descriptors are back", func() bool { return files(t) <= filesBefore })
	until(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutinesBefore })
	dialHTTP(t, addr).ask("GET", "/state", "")
}

// However many requests have a body that never comes, none holds a place.
func TestUnfinishedBodiesHoldNoPlace(t *testing.T) {
	s, addr := startServer(t)
	for i := range 2 * maxHTTP {
		c := dialHTTP(t, addr)
		if i%2 > 0 {
			c.ask("GET", "/nowhere", "")
		}
		c.send("POST /state HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
		if r, body := c.answer("POST"); r.StatusCode != 405 || !r.Close {
			t.Fatalf("answered with %d, %q, close %v", r.StatusCode, body, r.Close)
		}
		until(t, "its place is free", func() bool { return s.handover.live.Load() == 0 })
	}
	dialHTTP(t, addr).ask("GET", "/state", "")
}

// Clients that are gone before they are answered leave nothing behind, wherever their connection is then.
func TestResetLeaksNoDescriptor(t *testing.T) {
	s, addr := startServer(t, "-loops", "1")
	before := files(t)
	for _, tt := range []struct {
		kept    bool // the request is not the first
		request string
	}{
		{false, "GET http://x/state HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n"},
		{false, "GET /state HTTP/1.1\r\nHost:\r\nUpgrade: h2c\r\n\r\n"},
		{true, "GET http://x/state HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n\r\n"},
		{true, upgradeTo("/", "")},
		{true, "POST / HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		for range 300 {
			c := dialHTTP(t, addr)
			if tt.kept {
				c.ask("GET", "/nowhere", "")
			}
			c.send(tt.request)
			c.conn.(*net.TCPConn).SetLinger(0)
			c.conn.Close()
		}
		last := dialHTTP(t, addr)
		last.ask("GET", "/nowhere", "") // by now all of them have been accepted
		last.conn.Close()
		until(t, "all descriptors are back", func() bool { return files(t) <= before && s.handover.live.Load() == 0 })
	}
}

// A connection that carried ordinary requests may ask for a WebSocket as well, as the pools of proxies do: the reactor has
// it back, with what the client has sent meanwhile, and it is answered as the first request would have been.
func TestKeptConnectionBecomesWebSocket(t *testing.T) {
	const key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	const upgrade = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n" + key
	s, addr := startServer(t, "-echo", "-max-conns", "1")
	hello := string(ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("hello")))))
	for _, waits := range []bool{true, false} {
		for _, tt := range []struct {
			path, headers, behind string
			status                int
			then                  string // what the answer is followed by
		}{
			{"/echo", upgrade, hello, 101, "\x81\x05hello"},
			{"/echo", "Sec-WebSocket-Protocol: x, roverd.v1\r\n" + upgrade, strings.Repeat(hello, 3), 101, strings.Repeat("\x81\x05hello", 3)},
			{"/", upgrade, "", 101, "\x81"},
			{"http://x/echo", upgrade, hello, 101, "\x81\x05hello"},
			{"ws://y", "Origin: http://y\r\n" + upgrade, "", 101, "\x81"},
			{"/nowhere", upgrade, "", 404, ""},
			{"/ws", "Origin: http://elsewhere\r\n" + upgrade, "", 403, ""},
			{"/ws", "Upgrade: websocket\r\n", "", 400, ""},
			{"/ws", key, "", 400, ""}, // a proxy took the rest
		} {
			c := dialHTTP(t, addr)
			request := "GET " + tt.path + " HTTP/1.1\r\nHost: x\r\n" + tt.headers + "\r\n" + tt.behind
			if waits {
				for range 3 {
					c.ask("GET", "/state", "")
				}
				c.send(request)
			} else {
				c.send(getState + getState + getState + request)
				for range 3 {
					c.answer("GET")
				}
			}
			r, err := http.ReadResponse(c.in, nil)
			if err != nil || r.StatusCode != tt.status {
				t.Fatalf("%s, %q: %v, %v", tt.path, tt.headers, r, err)
			}
			if tt.status != 101 {
				r.Body.Close()
			}
			got := make([]byte, len(tt.then))
			if _, err := io.ReadFull(c.in, got); err != nil || string(got) != tt.then {
				t.Errorf("%s, %q: then %q, %v", tt.path, tt.headers, got, err)
			}
			until(t, "its place is free", func() bool { return s.handover.live.Load() == 0 })
			c.conn.Close()
			until(t, "the gate is free", func() bool {
				s.gate.mu.Lock()
				defer s.gate.mu.Unlock()
				return s.gate.in == 0
			})
		}
	}
}

// What a kept connection asks for is given back for a WebSocket only: the rest is served where it is.
func TestOtherUpgradesAreIgnored(t *testing.T) {
	addr, _ := start(t)
	c := dialHTTP(t, addr)
	for range 2 {
		for _, target := range []string{"/state", "http://y/state"} {
			if r, _ := c.ask("GET", target, "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n"); r.StatusCode != 200 || r.Close {
				t.Errorf("Upgrade: h2c at %s is answered with %d, close %v", target, r.StatusCode, r.Close)
			}
		}
	}
}

// A path that speaks WebSocket says so to those that don't.
func TestUpgradeRequired(t *testing.T) {
	addr, _ := start(t, "-echo")
	c := dialHTTP(t, addr)
	for _, path := range []string{"/ws", "/echo"} {
		r, body := c.ask("GET", path, "")
		if r.StatusCode != 426 || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" ||
			!strings.Contains(body, "speaks WebSocket") {
			t.Errorf("%s is answered with %d, %v, %q", path, r.StatusCode, r.Header, body)
		}
	}
	addr, _ = start(t)
	if r, _ := dialHTTP(t, addr).ask("GET", "/echo", ""); r.StatusCode != 404 {
		t.Errorf("without -echo, /echo is answered with %d", r.StatusCode)
	}
}

// Behind a proxy of Go, whose connections are shared by all its clients, pages and WebSockets follow one another.
func TestBehindReverseProxy(t *testing.T) {
	_, addr := startServer(t, "-echo")
	proxy := httptest.NewServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr}))
	defer proxy.Close()
	at := proxy.Listener.Addr().String()
	for range 5 {
		if r, _ := dialHTTP(t, at).ask("GET", "/state", "Connection: close\r\n"); r.StatusCode != 200 {
			t.Errorf("the page is answered with %d", r.StatusCode)
		}
		c := dialRaw(t, at, "/echo")
		c.sendFrame(ws.NewTextFrame([]byte("x")))
		if f, err := c.frame(); err != nil || string(f.Payload) != "x" {
			t.Errorf("the echo is %q, %v", f.Payload, err)
		}
		c.conn.Close()
	}
}

// What TLS has to say before the first request may wait for the client; a request is handed to net/http only behind it.
func TestHandoverWaitsForOutput(t *testing.T) {
	s, _ := startServer(t, "-loops", "1")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	d := s.decks[0]
	before := make([]byte, 8<<20) // more than the kernel's buffers hold
	place, err := s.gate.enter(netip.Addr{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	on(d, func() {
		if _, err := d.loop.Dial(netip.Addr{}, ln.Addr().(*net.TCPAddr).AddrPort(), before, &guest{deck: d, place: place}); err != nil {
			t.Error(err)
		}
	})
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(hangTime))
	c := &httpClient{t, conn, bufio.NewReader(conn)}
	c.send(getState)
	for range 3 {
		on(d, func() {})
	}
	if n := s.handover.live.Load(); n != 0 {
		t.Error("it was handed over with output that is still to be sent")
	}
	if _, err := io.CopyN(io.Discard, c.in, int64(len(before))); err != nil {
		t.Fatal(err)
	}
	if r, body := c.answer("GET"); r.StatusCode != 200 || !strings.Contains(body, `"op":"state"`) {
		t.Errorf("the answer is %d, %q", r.StatusCode, body)
	}
}
