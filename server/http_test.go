package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// What a client sends can neither forge log lines nor flood the log.
func TestLogIsNotTheClients(t *testing.T) {
	addr, log := start(t)
	for i := range 50 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, upgradeTo("/", fmt.Sprintf("Origin: http://\x9b2J %d\r\n", i)))
		io.Copy(io.Discard, conn)
		conn.Close()
	}
	c, _ := dial(t, addr)
	c.send("up")
	if log.expect(t, "it was free"); strings.Contains(log.String(), "\x9b") || strings.Count(log.String(), "turned a request away") != 1 {
		t.Errorf("the log is %q", log)
	}
}

// A log that nobody reads holds nothing up, not even the end of the program.
func TestLogThatBlocks(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	logIn, logOut := io.Pipe() // nobody reads it
	code := make(chan int, 1)
	go func() { code <- run(ctx, t.Context(), []string{"-open", "-addr", "127.0.0.1:0"}, noEnv, out, logOut) }()
	addr := announced(t, in)
	for range 3 {
		c, _ := dial(t, addr)
		c.send("up")
		c.expect("the ack", func(m message) bool { return m.Op == "ack" && m.Applied })
		c.conn.Close()
		watcher, _ := dial(t, addr)
		watcher.expectState("free", func(m message) bool { return m.Driver == "" })
		watcher.conn.Close()
	}
	stop()
	if got := <-code; got != 0 {
		t.Errorf("exit code %d", got)
	}
	out.Close()
	logIn.Close() // lets the writer go
}

func TestHTTP(t *testing.T) {
	addr, _ := start(t)
	for _, tt := range []struct {
		request string // as sent
		status  int
		says    string
	}{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200, "<title>"},
		{"GET /?camera=1 HTTP/1.1\r\nHost: x\r\n\r\n", 200, "<title>"},
		{"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""},
		{"GET /app.js HTTP/1.1\r\nHost: x\r\n\r\n", 200, "WebSocket"},
		{"GET /state HTTP/1.1\r\nHost: x\r\n\r\n", 200, `"op":"state"`},
		{"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, `"status":"ok"`},
		{"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426, "WebSocket"},
		{"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not found"},
		{"POST /state HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, "only GET and HEAD"},
		{"nonsense\r\n\r\n", 400, ""},
		{upgradeTo("/nowhere", ""), 404, "no WebSocket at /nowhere"},
		{upgradeTo("/", "Origin: http://evil.example\r\n"), 403, "http://evil.example"},
		{upgradeTo("/", "Origin: null\r\n"), 403, "null"},
		{upgradeTo("/", "Origin:\r\n"), 400, "Origin"},
		{upgradeTo("/", "Origin: //car.local:9900\r\n"), 403, ""},
		{upgradeTo("/", "Origin: ftp://car.local:9900\r\n"), 403, ""},
		{upgradeTo("/", "Origin: http://car.local:9900/\r\n"), 403, ""},
		{upgradeTo("/", "Origin: http://u@car.local:9900\r\n"), 403, ""},
		{upgradeTo("/", "Origin: http://car.local:9900 http://car.local:9900\r\n"), 403, ""},
		{upgradeTo("/", "Origin: http://CAR.local:9900\r\n"), 101, ""},
		{upgradeTo("/", "Origin: https://car.local:9900\r\n"), 101, ""}, // of a proxy that speaks TLS
		{"GET / HTTP/1.1\r\nUpgrade: websocket\r\nHost: x\r\n\r\n", 400, ""},
		{upgradeTo("/w%73?a", ""), 101, ""},
		{upgradeTo("http://car.local:9900/ws", "Origin: http://car.local:9900\r\n"), 101, ""},
		{upgradeTo("http://other.example/ws", "Origin: http://car.local:9900\r\n"), 403, "other.example"}, // the Host does not count then
		{"\r\nGET /state HTTP/1.1\r\nHost: x\r\n\r\n", 200, `"op":"state"`},
		{"\r\n\r\nGET /state HTTP/1.1\r\nHost: x\r\n\r\n", 200, `"op":"state"`},
		{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "TLS"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "HTTP/2"},
		{"GET / HTTP/1.1\nHost: x\n\n", 400, "line feed"},
		{upgradeTo("/", "X: y\r\n z\r\n"), 400, "next line"},
		{upgradeTo("/nowhere", "") + "GET /state HTTP/1.1\r\nHost: x\r\n\r\n", 404, "no WebSocket at /nowhere"},
		{"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("x", 9000), 431, "8192 bytes"},
	} {
		name, _, _ := strings.Cut(tt.request, "\r\n")
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, tt.request)
		method, _, _ := strings.Cut(tt.request, " ")
		from := bufio.NewReader(conn)
		response, err := http.ReadResponse(from, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var body []byte
		if response.StatusCode != 101 {
			body, err = io.ReadAll(response.Body)
		}
		if response.StatusCode != tt.status || !strings.Contains(string(body), tt.says) || err != nil {
			t.Errorf("%s: %d, %v, %.200q", name, response.StatusCode, err, body)
		}
		if response.StatusCode >= 400 && response.Close { // nothing is answered behind it
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			if n, err := from.Read(make([]byte, 1)); n > 0 || err != io.EOF {
				t.Errorf("%s: the connection goes on: %d bytes, %v", name, n, err)
			}
		}
		conn.Close()
	}
}

func upgradeTo(path, headers string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: car.local:9900\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" + headers + "\r\n"
}

func TestStateOverHTTP(t *testing.T) {
	addr, _ := start(t)
	c, _ := dial(t, addr)
	c.send("cam_left 30")
	c.expect("ack", func(m message) bool { return m.Op == "ack" })
	response, err := http.Get("http://" + addr + "/state")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var m message
	if err := json.NewDecoder(response.Body).Decode(&m); err != nil || m.Camera.Pan != -30 {
		t.Errorf("the state is %+v, %v", m, err)
	}
}
