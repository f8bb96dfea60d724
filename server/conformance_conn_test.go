package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"roverd/server/websocket"

	"github.com/gobwas/ws"
)

// RFC 6455 beyond what is said on a connection: when an answer comes, what it costs, what happens when it breaks.

// Section 5.4: control frames are answered within a message, not behind it, and section 5.6: a message as soon as it is
// complete. Each step sends something and waits for what it brings, so that what waits for more fails.
func TestConformanceAtOnce(t *testing.T) {
	addr, _ := start(t, "-echo")
	ping, pong := masked(fin|ws.OpPing, "now"), plain(ws.OpPong, "now")
	long := fill(ws.OpBinary, 100_000)
	for _, tt := range []struct {
		name  string
		steps []struct{ send, want string }
	}{
		{"5.4 a ping within a message", []struct{ send, want string }{
			{masked(ws.OpText, "Hel") + ping, pong}, {masked(fin, "lo"), helloBack},
		}},
		{"5.4 pings within a message of five fragments", []struct{ send, want string }{
			{masked(ws.OpText, "H") + ping, pong}, {masked(0, "e") + ping, pong}, {masked(0, "l") + masked(0, "") + ping, pong}, {masked(fin, "lo"), helloBack},
		}},
		{"5.4 a ping within a character", []struct{ send, want string }{
			{masked(ws.OpText, "caf\xc3") + ping, pong}, {masked(fin, "\xa9"), plain(ws.OpText, "café")},
		}},
		{"5.4 a ping within a long message", []struct{ send, want string }{
			{masked(ws.OpBinary, long) + ping, pong}, {masked(fin, long), plain(ws.OpBinary, long+long)},
		}},
		{"5.5.2 one ping after the other", []struct{ send, want string }{{ping, pong}, {ping, pong}, {ping[:3], ""}, {ping[3:], pong}}},
		{"5.6 one message after the other", []struct{ send, want string }{{hello, helloBack}, {hello + hello[:1], helloBack}, {hello[1:7], ""}, {hello[7:], helloBack}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialRaw(t, addr, "/echo")
			for i, step := range tt.steps {
				io.WriteString(c.conn, step.send)
				c.wants(fmt.Sprint("step ", i), step.want)
			}
		})
	}
}

// wants reads as much as it wants, and no more.
func (c *client) wants(when, want string) {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(hangTime))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.in, got); err != nil || string(got) != want {
		c.t.Fatalf("%s: got %s, %v, want %s", when, frames(string(got[:n])), err, frames(want))
	}
}

// Section 10.4, and groups 9 and 10 of Autobahn: messages up to the limit come back, however they are cut; longer ones
// are refused by their header.
func TestConformanceLimits(t *testing.T) {
	addr, _ := start(t, "-echo", "-log-level", "error")
	const MiB = 1 << 20
	try := func(x exchange) {
		t.Helper()
		t.Run(x.name, func(t *testing.T) { x.run(t, addr, whole) })
	}
	for _, x := range []exchange{
		{"a frame above the limit", head64(fin|ws.OpBinary, maxEcho+1), "", tooBig},
		{"a text frame above the limit", head64(fin|ws.OpText, maxEcho+1), "", tooBig},
		{"the longest frame there is", head64(fin|ws.OpBinary, 1<<63-1), "", tooBig},
		{"a first fragment above the limit", head64(ws.OpBinary, maxEcho+1), "", tooBig},
		{"a continuation above the limit", masked(ws.OpBinary, fill(ws.OpBinary, MiB)) + head64(0, maxEcho-MiB+1), "", tooBig},
		{"the longest continuation there is", masked(ws.OpBinary, "x") + head64(0, 1<<63-1), "", tooBig},
		{"above the limit after a message", hello + head64(fin|ws.OpBinary, maxEcho+1), helloBack, tooBig},
		{"above the limit, and sent all the same", head64(fin|ws.OpBinary, maxEcho+1) + "mask" + fill(ws.OpBinary, 2*MiB), "", tooBig},
	} {
		try(x)
	}
	for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary} {
		for _, size := range []int{64 << 10, 256 << 10, MiB, 4 * MiB} {
			payload := fill(op, size)
			name, back := fmt.Sprintf("%s of %d KiB", opNames[op], size>>10), plain(op, payload)
			try(exchange{name, masked(fin|op, payload), back, 0})
			for _, n := range []int{64, 4096, 65536} {
				if size <= MiB || n == 65536 { // -race makes it slow
					try(exchange{fmt.Sprintf("%s in fragments of %d", name, n), fragments(op, pieces(payload, n)...), back, 0})
				}
			}
		}
	}
	letters, blob := fill(ws.OpText, maxEcho), fill(ws.OpBinary, maxEcho)
	try(exchange{"text of 16 MiB", masked(fin|ws.OpText, letters), plain(ws.OpText, letters), 0})
	try(exchange{"binary of 16 MiB in fragments of 65536", fragments(ws.OpBinary, pieces(blob, 65536)...), plain(ws.OpBinary, blob), 0})
}

// heap returns how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Section 10.4: what a header promises costs no memory before it comes.
func TestConformanceDeclaredLengthIsNotAllocated(t *testing.T) {
	addr, _ := start(t, "-echo")
	before := heap()
	for range 50 {
		c := dialRaw(t, addr, "/echo")
		// One write and so one segment: after the pong the rest of it has been looked at, too.
		io.WriteString(c.conn, masked(fin|ws.OpPing, "")+head64(fin|ws.OpBinary, maxEcho)+"maskten bytes")
		c.wants("the pong", plain(ws.OpPong, ""))
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("50 headers cost %d bytes", after-before)
	}
}

// Whoever sends and never reads is soon not read either, costs next to nothing meanwhile and holds nobody up; once it
// does read, it gets all it has coming.
func TestConformanceClientThatNeverReads(t *testing.T) {
	addr, _ := start(t, "-echo", "-loops", "1")
	bystander := dialRaw(t, addr, "/echo")
	before := heap()
	c := dialRaw(t, addr, "/echo")
	c.conn.(*net.TCPConn).SetReadBuffer(64 << 10) // so that it is sooner full
	message, echo := masked(fin|ws.OpBinary, fill(ws.OpBinary, 1000)), plain(ws.OpBinary, fill(ws.OpBinary, 1000))
	flood := bytes.Repeat([]byte(message), 64)
	sent := 0
	for {
		c.conn.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := c.conn.Write(flood)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil || sent > 128<<20 {
			t.Fatalf("the server has taken %d bytes, %v", sent, err)
		}
		if n := sent / len(flood); n%64 == 0 {
			io.WriteString(bystander.conn, hello)
			bystander.wants("during the flood", helloBack)
		}
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("it costs %d bytes", after-before)
	}
	io.WriteString(bystander.conn, hello)
	bystander.wants("after the flood", helloBack)
	for i := range sent / len(message) {
		c.wants(fmt.Sprintf("message %d of %d", i, sent/len(message)), echo)
	}
}

// A connection may break at any point: it goes, and others are not disturbed.
func TestConformanceBrokenConnections(t *testing.T) {
	s, addr := startServer(t, "-echo", "-loops", "1")
	bystander := dialRaw(t, addr, "/echo")
	large := fill(ws.OpBinary, 4<<20)
	request := string(websocket.AppendRequest(nil, addr, "/echo"))
	for _, tt := range []struct {
		name string
		send string // and then the client is gone
		want string
		raw  bool // send begins with the handshake
	}{
		{"4 before the handshake", "", "", true},
		{"4 within the handshake's first line", request[:7], "", true},
		{"4 within the handshake", request[:len(request)-3], "", true},
		{"5.2 before the first frame", "", "", false},
		{"5.2 within a frame's head", hello[:1], "", false},
		{"5.2 within a frame's mask", hello[:4], "", false},
		{"5.2 within a frame's payload", hello[:8], "", false},
		{"5.2 within a long frame's length", head64(fin|ws.OpBinary, maxEcho)[:7], "", false},
		{"5.2 within a long frame's payload", masked(fin|ws.OpBinary, large)[:1<<20], "", false},
		{"5.4 between fragments", masked(ws.OpText, "Hel"), "", false},
		{"5.5 within a ping", masked(fin|ws.OpPing, "ping")[:8], "", false},
		{"5.6 after a message", hello, helloBack, false},
		{"5.6 after a large message", masked(fin|ws.OpBinary, large), plain(ws.OpBinary, large), false},
		{"5.6 after a message and a half", hello + hello[:5], helloBack, false},
	} {
		if t.Failed() {
			return // who has not gone would be counted with all that follow
		}
		connect := func(t *testing.T) *client {
			if !tt.raw {
				return dialRaw(t, addr, "/echo")
			}
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return &client{t: t, conn: conn, in: conn}
		}
		gone := func(t *testing.T) {
			for end := time.Now().Add(hangTime); ; runtime.Gosched() {
				s.gate.mu.Lock()
				in := s.gate.in
				s.gate.mu.Unlock()
				if in == 1 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%d connections are open, want the bystander's only", in)
				}
			}
			io.WriteString(bystander.conn, hello)
			bystander.wants("the bystander", helloBack)
		}
		t.Run(tt.name+", by FIN", func(t *testing.T) {
			c := connect(t)
			var sending sync.WaitGroup
			sending.Go(func() {
				io.WriteString(c.conn, tt.send)
				c.conn.(*net.TCPConn).CloseWrite()
			})
			c.conn.SetReadDeadline(time.Now().Add(hangTime))
			got, err := io.ReadAll(c.in)
			sending.Wait()
			if string(got) != tt.want || err != nil {
				t.Errorf("got %s, %v, want %s", frames(string(got)), err, frames(tt.want))
			}
			gone(t)
		})
		t.Run(tt.name+", by RST", func(t *testing.T) {
			c := connect(t)
			c.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // the large echo is not read
			io.WriteString(c.conn, tt.send)
			c.conn.(*net.TCPConn).SetLinger(0)
			c.conn.Close()
			gone(t)
		})
	}
}
