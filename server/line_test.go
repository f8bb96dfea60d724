package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// lineClient is a client of the line protocol.
type lineClient struct {
	t    *testing.T
	conn *net.TCPConn
	in   *bufio.Reader
}

// dialLine connects to the port for lines and returns the client with its welcome.
func dialLine(t *testing.T, addr string) (*lineClient, message) {
	t.Helper()
	c := dialLineRaw(t, addr)
	return c, c.expect("welcome", "")
}

func dialLineRaw(t *testing.T, addr string) *lineClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &lineClient{t, conn.(*net.TCPConn), bufio.NewReader(conn)}
}

// startLines is startServer with a port for lines.
func startLines(t *testing.T, args ...string) (s *server, addr, lines string) {
	t.Helper()
	s, addr = startServer(t, append([]string{"-line", "127.0.0.1:0"}, args...)...)
	return s, addr, s.lines[0].Addr().String()
}

func (c *lineClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *lineClient) next() (m message, err error) {
	c.conn.SetReadDeadline(time.Now().Add(hangTime))
	line, err := c.in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &m)
	}
	return m, err
}

// expect wants the next line to be that.
func (c *lineClient) expect(op, code string) message {
	c.t.Helper()
	m, err := c.next()
	if err != nil || m.Op != op || m.Code != code {
		c.t.Fatalf("%s %s is wanted, and came %+v, %v", op, code, m, err)
	}
	return m
}

// expectEnd wants the connection to end, in order and without another word.
func (c *lineClient) expectEnd() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(hangTime))
	if rest, err := io.ReadAll(c.in); err != nil || len(rest) > 0 {
		c.t.Fatalf("the end is wanted, and came %q, %v", rest, err)
	}
}

// expectClosed wants the connection to end, and the last line to say why.
func (c *lineClient) expectClosed(why string) {
	c.t.Helper()
	if m := c.expect("error", isClosed); !strings.Contains(m.Message, why) {
		c.t.Errorf("the last word is %q, and %q is wanted", m.Message, why)
	}
	c.expectEnd()
}

// Whatever is a message to WebSocket is one as a line, and has the same answer. States come only to who asks.
func TestLines(t *testing.T) {
	_, addr, lines := startLines(t, "-config", write(t, "drive.ttl = \"5s\"\n"))
	watcher, _ := dial(t, addr)
	c, hello := dialLine(t, lines)
	if hello.ID == "" || hello.Role != "control" || hello.Car != "simulated" {
		t.Errorf("the welcome is %+v", hello)
	}
	for i, tt := range []struct{ send, op, code string }{
		{"up 60\n", "ack", ""},
		{"ping\r\n", "pong", ""},
		{`{"op":"drive","left":-0.5,"right":0.5,"id":2}` + "\n", "ack", ""},
		{"\t{\"op\":\t\"ping\", \"x\":\"GET / HTTP/1.1\"}\n", "pong", ""},
		{"cam_up 5\n", "ack", ""},
		{"\n", "error", "unknown_command"},
		{"fly\n", "error", "unknown_command"},
		{"up fast\n", "error", badValue},
		{"up\x00\n", "error", isBinary},
		{"name caf\xe9\n", "error", isBinary},
		{"name Zoë\n", "ack", ""},
		{strings.Repeat(" ", maxMessage-4) + "ping\n", "pong", ""},
		{"grant\n", "error", "no_claim"},
		{"estop\n", "ack", ""},
		{"up\n", "error", "estop"},
		{"reset\n", "ack", ""},
	} {
		c.send(tt.send)
		if m := c.expect(tt.op, tt.code); i == 2 && (m.ID != "2" || m.Seq == 0) {
			t.Errorf("the answer is %+v", m)
		}
	}
	c.send("left 60\nstate\n")
	for range 2 { // the state need not wait for the car
		if m, err := c.next(); err != nil || m.Op != "ack" && (m.Op != "state" || m.Driver != hello.ID) {
			t.Errorf("%+v, %v", m, err)
		}
	}
	m := watcher.expectState("a line drives, and is no viewer", func(m message) bool { return m.Motion.Left == -0.6 })
	if m.Driver != hello.ID || m.Viewers != 1 {
		t.Errorf("the state is %+v", m)
	}
	c.conn.Close()
	watcher.expectState("the car stands", func(m message) bool { return m.Motion.Left == 0 && m.Cause == "disconnect" && m.Driver == "" })
}

// In whatever portions the lines come, each has its answer.
func TestLinePortions(t *testing.T) {
	_, _, lines := startLines(t, "-max-messages", "0")
	c, _ := dialLine(t, lines)
	for _, b := range []byte("up\r\nping\n{\"op\":\"ping\",\"id\":7}\n") {
		c.send(string(b))
	}
	got := map[string]bool{}
	for range 3 {
		m, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		got[m.Op+m.ID] = true
	}
	if !got["ack"] || !got["pong"] || !got["pong7"] {
		t.Errorf("the answers are %v", got)
	}
	const many = 1000
	c.send(strings.Repeat("up\n", many-1) + "stop\n")
	for range many {
		c.expect("ack", "")
	}
}

// Who sends all it has and then shuts its side down, as nc -N does, has every answer, before the connection ends; and the
// car stops.
func TestLineHalfClose(t *testing.T) {
	s, addr, lines := startLines(t, "-loops", "2", "-config", write(t, "drive.ttl = \"5s\"\n"))
	watcher, _ := dial(t, addr)
	for _, tt := range []struct {
		send    string
		answers int
		err     string
	}{
		{"", 0, ""},
		{"up\n", 1, ""},
		{strings.Repeat("up\ncam_up 1\nping\n", 20), 60, ""},
		{"up\nup 1", 2, badValue}, // perhaps it was to be 100
	} {
		c, _ := dialLine(t, lines)
		c.send(tt.send)
		c.conn.CloseWrite()
		code := ""
		for range tt.answers {
			m, err := c.next()
			if err != nil {
				t.Fatalf("%.20q: %v", tt.send, err)
			}
			code += m.Code
		}
		if c.expectEnd(); code != tt.err {
			t.Errorf("%.20q: the error is %q", tt.send, code)
		}
	}
	// The answer is waited for, however long the car takes.
	c, _ := dialLine(t, lines)
	for _, d := range s.decks {
		on(d, func() {
			for l := range d.lines {
				l.Data(l.conn, []byte("up\n"))
				l.HalfClosed(l.conn)
			}
		})
	}
	c.expect("ack", "")
	c.expectEnd()

	last, hello := dialLine(t, lines)
	last.send("up\n")
	last.expect("ack", "")
	watcher.expectState("it drives", func(m message) bool { return m.Driver == hello.ID && m.Motion.Left == 1 })
	last.conn.CloseWrite()
	last.expectEnd()
	watcher.expectState("it stands", func(m message) bool { return m.Driver == "" && m.Motion.Left == 0 && m.Cause == "disconnect" })
}

// Browsers can be made to send a request to any port, with lines of a page's choice behind the head. None of them counts.
func TestLineHTTP(t *testing.T) {
	s, _, lines := startLines(t)
	for _, tt := range []struct{ send, why string }{
		{"POST / HTTP/1.1\r\nHost: localhost:9901\r\nContent-Type: text/plain\r\n\r\nup\nestop\n", "HTTP"},
		{"GET /\nup\n", "HTTP"},
		{"up /estop HTTP/1.1\r\nup\r\n", "HTTP"},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nup\n", "HTTP"},
		{"Host: localhost\nup\n", "HTTP"},
		{"x-any:thing\nup\n", "HTTP"},
		{"\x16\x03\x01\x02\x00\x01\nup\n", "TLS"},
		{"\x00\x01\x00\x00\x21\x12\xa4\x42\nup\n", "TLS"}, // STUN
		{strings.Repeat("/", maxMessage+1) + "\nup\n", "4096 bytes"},
	} {
		c, _ := dialLine(t, lines)
		c.send(tt.send)
		c.expectClosed(tt.why)
	}
	// Later it ends the connection, too, and what is behind it does not count.
	c, _ := dialLine(t, lines)
	c.send("ping\nHost: localhost\nup\n")
	c.expect("pong", "")
	c.expectClosed("HTTP")

	if curl, err := exec.LookPath("curl"); err != nil {
		t.Log("NOT TESTED here: curl")
	} else if out, err := exec.Command(curl, "-sS", "-m", "20", "--http0.9", "--data-binary", "up\nestop\nup\n", "http://"+lines+"/").CombinedOutput(); err != nil ||
		!strings.Contains(string(out), "speaks no HTTP") {
		t.Errorf("curl says %q, %v", out, err)
	}
	if len(s.audit.list()) != 0 { // nobody has taken the helm, or pressed anything
		t.Errorf("something was done: %+v", s.audit.list())
	}
}

// Who may do what is as for WebSocket; who has no token, where one is wanted to watch, may only show it.
func TestLineRoles(t *testing.T) {
	s, _, lines := startLines(t, "-open=false", "-config", write(t, "[tokens]\ncontrol = \""+driveToken+"\"\nview = \""+watchToken+"\"\n"))
	c, hello := dialLine(t, lines)
	if hello.Role != "none" || hello.Car != "" {
		t.Errorf("the welcome is %+v", hello)
	}
	for _, tt := range []struct{ send, op, code, role string }{
		{"up", "error", notAllowed, ""},
		{"estop", "error", notAllowed, ""},
		{"state", "error", notAllowed, ""},
		{"ping", "error", notAllowed, ""},
		{"name Ann", "error", notAllowed, ""},
		{"claim", "error", notAllowed, ""},
		{"auth wrong-0123456", "error", badToken, ""},
		{"auth " + watchToken, "ack", "", "view"},
		{"state", "state", "", ""},
		{"up", "error", notAllowed, ""},
		{"stop", "error", notAllowed, ""},
		{`{"op":"auth","token":"` + driveToken + `"}`, "ack", "", "control"},
		{"up", "ack", "", ""},
	} {
		c.send(tt.send + "\n")
		if m := c.expect(tt.op, tt.code); m.Role != tt.role {
			t.Errorf("%s: the answer is %+v", tt.send, m)
		}
	}
	c.conn.Close()
	guesser, _ := dialLine(t, lines)
	for range 15 {
		guesser.send("auth wrong-0123456\n")
	}
	for i := range 15 {
		if m, err := guesser.next(); err != nil || m.Code != badToken && (i < 5 || m.Code != tooFast) || i == 14 && m.Code != tooFast {
			t.Errorf("guess %d: %+v, %v", i, m, err)
		}
	}
	refused := 0
	for _, e := range s.audit.list() {
		if e.What == "login_refused" && e.Addr == "127.0.0.1" {
			refused++
		}
	}
	if refused == 0 {
		t.Errorf("the audit is %+v", s.audit.list())
	}

	_, _, lines = startLines(t, "-open=false", "-config", write(t, "tokens.control = \""+driveToken+"\"\n"))
	watcher, hello := dialLine(t, lines)
	if hello.Role != "view" {
		t.Errorf("the role is %s", hello.Role)
	}
	watcher.send("state\nup\n")
	watcher.expect("state", "")
	watcher.expect("error", notAllowed)
}

// A line and a page have the same helm: each can ask the other for it.
func TestLineClaims(t *testing.T) {
	_, addr, lines := startLines(t, "-loops", "2")
	ann, annHello := dial(t, addr)
	bob, bobHello := dialLine(t, lines)
	bob.send("up\n")
	bob.expect("ack", "")
	ann.send("up")
	ann.expectError(notDriver)
	ann.send("claim")
	if m := bob.expect("claim", ""); m.From != annHello.ID {
		t.Errorf("the claim is %+v", m)
	}
	bob.send("refuse\n")
	bob.expect("ack", "")
	ann.expectError(isRefused)
	bob.send("release\n")
	bob.expect("ack", "")
	ann.send("up")
	ann.expect("ack", isAck)
	bob.send("up\n")
	bob.expect("error", notDriver)
	bob.send("claim\n")
	if m := bob.expect("ack", ""); m.Applied {
		t.Errorf("the claim is answered with %+v", m)
	}
	ann.expect("claim", func(m message) bool { return m.Op == "claim" && m.From == bobHello.ID })
	ann.send("refuse")
	bob.expect("error", isRefused)
	bob.conn.CloseWrite() // is owed nothing: what the refusal was, nobody is waiting for
	bob.expectEnd()
}

// At the end the car stops first; then every line is told, and so is one that comes late.
func TestLineGoodbye(t *testing.T) {
	s, _, lines := startLines(t, "-loops", "1")
	var crowd []*lineClient
	for range 50 {
		c, _ := dialLine(t, lines)
		crowd = append(crowd, c)
	}
	d := s.decks[0]
	on(d, d.dismiss)
	for left := 1; left > 0; {
		on(d, func() { left = len(d.lines) })
	}
	late, _ := dialLine(t, lines)
	for _, c := range append(crowd, late) {
		c.expectClosed(stopping)
	}

	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, t.Context(), []string{"-open", "-addr", "127.0.0.1:0", "-line", "127.0.0.1:0"}, noEnv, out, io.Discard)
		out.Close()
	}()
	said := bufio.NewReader(in)
	said.ReadString('\n')
	announced, err := said.ReadString('\n')
	_, lines, found := strings.Cut(strings.TrimSpace(announced), "tcp://")
	if !found {
		t.Fatalf("roverd says %q, %v", announced, err)
	}
	go io.Copy(io.Discard, said)
	c, _ := dialLine(t, lines)
	c.send("up\n")
	c.expect("ack", "")
	stop()
	c.expectClosed(stopping)
	c.conn.Close()
	if got := <-code; got != 0 {
		t.Errorf("exit code %d", got)
	}
}

// Two programs can't have one port, and the one that comes late is told which flag helps.
func TestLinePortInUse(t *testing.T) {
	_, _, lines := startLines(t)
	var stderr bytes.Buffer
	if code := run(t.Context(), t.Context(), []string{"-open", "-addr", "127.0.0.1:0", "-line", lines}, noEnv, io.Discard, &stderr); code != 1 ||
		!strings.Contains(stderr.String(), "-line") || !strings.Contains(stderr.String(), lines) {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}
