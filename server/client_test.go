package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// hangTime bounds what would otherwise hang: a busy machine takes its time.
const hangTime = time.Minute

// client is an ordinary blocking WebSocket client, on gobwas/ws and not on our own decoder.
type client struct {
	t    *testing.T
	conn net.Conn
	in   io.Reader
}

// message is any message of the server.
type message struct {
	Op      string
	ID      string // of a welcome a name, of an answer a number
	Role    string
	Car     string
	Code    string
	Message string
	Applied bool
	Seq     uint64
	US      int64
	Driver  string
	Claim   string
	From    string
	Name    string
	MS      int64
	Motion  struct{ Left, Right float64 }
	Camera  *struct{ Pan, Tilt float64 }
	Estop   bool
	Cause   string
	Fault   string
	Viewers int
	Lines   map[string]float64
	Sensors map[string]*float64 // nil: not known
}

func (m *message) UnmarshalJSON(p []byte) error {
	type plain message
	var id struct{ ID json.RawMessage }
	if err := json.Unmarshal(p, &id); err != nil {
		return err
	}
	fields := struct {
		*plain
		ID any // hides the string
	}{plain: (*plain)(m)}
	err := json.Unmarshal(p, &fields)
	m.ID = strings.Trim(string(id.ID), `"`)
	return err
}

// dial connects and returns the client with its welcome.
func dial(t *testing.T, addr string) (*client, message) {
	t.Helper()
	c := dialRaw(t, addr, "/")
	return c, c.expect("welcome", func(m message) bool { return m.Op == "welcome" })
}

func dialRaw(t *testing.T, addr, path string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hangTime)
	defer cancel()
	conn, early, _, err := ws.Dial(ctx, "ws://"+addr+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return newClient(t, conn, early)
}

// newClient makes a client of what ws.Dial returns: early is what came behind the response, if anything did.
func newClient(t *testing.T, conn net.Conn, early *bufio.Reader) *client {
	c := &client{t: t, conn: conn, in: conn}
	if early != nil {
		c.in = early
	}
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if err := wsutil.WriteClientText(c.conn, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) sendFrame(f ws.Frame) {
	c.t.Helper()
	if err := ws.WriteFrame(c.conn, ws.MaskFrame(f)); err != nil {
		c.t.Fatal(err)
	}
}

// frame returns the next frame.
func (c *client) frame() (ws.Frame, error) {
	c.conn.SetReadDeadline(time.Now().Add(hangTime))
	h, err := ws.ReadHeader(c.in)
	if err != nil {
		return ws.Frame{}, err
	}
	payload := make([]byte, h.Length)
	_, err = io.ReadFull(c.in, payload)
	return ws.Frame{Header: h, Payload: payload}, err
}

// expect reads until a message matches.
func (c *client) expect(what string, match func(message) bool) message {
	c.t.Helper()
	var seen strings.Builder
	for {
		f, err := c.frame()
		if err != nil {
			c.t.Fatalf("waiting for %s: %v; before it came:\n%s", what, err, seen.String())
		}
		if f.Header.OpCode != ws.OpText {
			continue
		}
		var m message
		if err := json.Unmarshal(f.Payload, &m); err != nil {
			c.t.Fatalf("%v in %q", err, f.Payload)
		}
		if match(m) {
			return m
		}
		seen.Write(append(f.Payload, '\n'))
	}
}

func (c *client) expectState(what string, match func(message) bool) message {
	c.t.Helper()
	return c.expect("the state: "+what, func(m message) bool { return m.Op == "state" && match(m) })
}

func (c *client) expectError(code string) message {
	c.t.Helper()
	return c.expect("the error "+code, func(m message) bool { return m.Op == "error" && m.Code == code })
}

// expectClose reads until the server closes, and wants its close frame to have that code.
func (c *client) expectClose(code ws.StatusCode) {
	c.t.Helper()
	for {
		f, err := c.frame()
		if err != nil {
			c.t.Fatalf("no close frame: %v", err)
		}
		if f.Header.OpCode == ws.OpClose {
			if got, reason := ws.ParseCloseFrameData(f.Payload); got != code {
				c.t.Errorf("closed with %d %q, want %d", got, reason, code)
			}
			if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
				c.t.Errorf("after the close frame came %q, %v", rest, err)
			}
			return
		}
	}
}

// lines returns the levels in the order: left forward, left backward, right forward, right backward.
func (m message) lines() [4]float64 {
	return [4]float64{m.Lines["left.forward"], m.Lines["left.backward"], m.Lines["right.forward"], m.Lines["right.backward"]}
}

// logBuffer is a log that a test can read while it is written.
type logBuffer struct {
	bytes chan []byte
}

func newLogBuffer() *logBuffer {
	b := &logBuffer{make(chan []byte, 1)}
	b.bytes <- nil
	return b
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.bytes <- append(<-b.bytes, p...)
	return len(p), nil
}

// expect waits until the log has the text, which another goroutine writes.
func (b *logBuffer) expect(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(hangTime); !strings.Contains(b.String(), text); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("the log lacks %q:\n%s", text, b)
		}
	}
}

func (b *logBuffer) String() string {
	p := <-b.bytes
	defer func() { b.bytes <- p }()
	return string(bytes.Clone(p))
}
