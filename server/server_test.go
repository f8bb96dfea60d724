package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"roverd/hardware"
	"roverd/netpoll"
	"roverd/server/websocket"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

// TestMain lets the test binary be roverd itself, so that tests can start it as a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("ROVERD_TEST_MAIN") != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// start runs the program in this process and returns its address and its log. When the test ends it must end well.
func start(t *testing.T, args ...string) (addr string, log *logBuffer) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	log = newLogBuffer()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, t.Context(), append([]string{"-addr", "127.0.0.1:0"}, args...), noEnv, out, log)
		out.Close()
	}()
	addr = announced(t, in)
	t.Cleanup(func() {
		stop()
		if c := <-code; c != 0 {
			t.Errorf("exit code %d; the log:\n%s", c, log)
		}
	})
	return addr, log
}

func noEnv(string) string { return "" }

// startServer is start for tests that look inside.
func startServer(t *testing.T, args ...string) (s *server, addr string) {
	t.Helper()
	cfg, err := loadConfig(append([]string{"-addr", "127.0.0.1:0"}, args...), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	s, listeners, err := newServer(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	in, out := io.Pipe()
	go func() { ended <- s.run(ctx, t.Context(), listeners, out) }()
	addr = announced(t, in)
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		out.Close()
	})
	return s, addr
}

// on runs f on the deck's loop and waits for it.
func on(d *deck, f func()) {
	done := make(chan struct{})
	d.loop.Post(func() { defer close(done); f() })
	<-done
}

var announcement = regexp.MustCompile(`open http://(.*)/ in a browser`)

// announced reads the address from what the program prints, and keeps reading.
func announced(t *testing.T, stdout io.Reader) string {
	t.Helper()
	r := bufio.NewReader(stdout)
	line, err := r.ReadString('\n')
	m := announcement.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("roverd says %q, %v", line, err)
	}
	go io.Copy(io.Discard, r)
	return m[1]
}

func TestWords(t *testing.T) {
	addr, _ := start(t)
	driver, hello := dial(t, addr)
	watcher, _ := dial(t, addr)
	if hello.ID == "" || hello.Role != "control" || hello.Car != "simulated" {
		t.Errorf("the welcome is %+v", hello)
	}
	type pose struct{ pan, tilt float64 }
	for _, tt := range []struct {
		word        string
		left, right float64
		lines       [4]int
		camera      pose
	}{
		{"up", 1, 1, [4]int{1, 0, 1, 0}, pose{}},
		{"back", -1, -1, [4]int{0, 1, 0, 1}, pose{}},
		{"left", -1, 1, [4]int{0, 1, 1, 0}, pose{}},
		{"right 60", 1, -1, [4]int{1, 0, 0, 1}, pose{}},
		{"stop", 0, 0, [4]int{}, pose{}},
		{"cam_up", 0, 0, [4]int{}, pose{0, 10}},
		{"cam_down 25", 0, 0, [4]int{}, pose{0, -15}},
		{"cam_left", 0, 0, [4]int{}, pose{-10, -15}},
		{"cam_right 40.5", 0, 0, [4]int{}, pose{30.5, -15}},
		{"cam_init", 0, 0, [4]int{}, pose{}},
	} {
		driver.send(tt.word)
		// The dead time may outlast a command's time to live; a held button repeats.
		ack := driver.expect("the ack of "+tt.word, func(m message) bool { return m.Op == "ack" })
		if !ack.Applied {
			t.Errorf("%s: %+v", tt.word, ack)
		}
		for _, c := range []*client{driver, watcher} {
			m := c.expectState(tt.word, func(m message) bool {
				return m.Motion.Left == tt.left && m.Motion.Right == tt.right && m.lines() == tt.lines &&
					m.Camera.Pan == tt.camera.pan && m.Camera.Tilt == tt.camera.tilt
			})
			if m.Seq < ack.Seq || m.Driver != hello.ID || m.Viewers > 2 {
				t.Errorf("%s: acknowledged with %+v, the state is %+v", tt.word, ack, m)
			}
		}
	}
}

func TestCarStopsWhenTheDriverFallsSilent(t *testing.T) {
	addr, _ := start(t)
	driver, _ := dial(t, addr)
	driver.send("up")
	driver.expectState("driving", func(m message) bool { return m.Motion.Left == 1 && m.lines() == [4]int{1, 0, 1, 0} })
	driver.expectState("stopped", func(m message) bool { return m.Cause == "ttl" && m.lines() == [4]int{} })
}

// However the driver goes, the car stops at once: the time to live here is far longer than the test waits.
func TestCarStopsWhenTheDriverGoes(t *testing.T) {
	for how, leave := range map[string]func(*client){
		"FIN":         func(c *client) { c.conn.Close() },
		"RST":         func(c *client) { c.conn.(*net.TCPConn).SetLinger(0); c.conn.Close() },
		"close frame": func(c *client) { c.sendFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "bye"))) },
		"bad frame":   func(c *client) { c.conn.Write([]byte{0xff, 0xff, 0, 0, 0, 0}) },
		"half frame":  func(c *client) { c.conn.Write([]byte{0x81}); c.conn.Close() },
	} {
		t.Run(how, func(t *testing.T) {
			addr, _ := start(t, "-config", write(t, "[drive]\nttl = \"5s\"\n"))
			driver, _ := dial(t, addr)
			watcher, _ := dial(t, addr)
			driver.send("up")
			watcher.expectState("driving", func(m message) bool { return m.Motion.Left == 1 })
			leave(driver)
			m := watcher.expectState("stopped and free", func(m message) bool { return m.Motion.Left == 0 && m.Driver == "" })
			if m.Cause != "disconnect" || m.lines() != [4]int{} {
				t.Errorf("the state is %+v", m)
			}
		})
	}
}

func TestOneDrivesOthersWait(t *testing.T) {
	addr, log := start(t)
	first, hello := dial(t, addr)
	second, hello2 := dial(t, addr)
	first.send("up")
	first.expect("ack", func(m message) bool { return m.Op == "ack" && m.Applied })
	second.send("back")
	if m := second.expectError("not_driver"); !strings.Contains(m.Message, hello.ID) {
		t.Errorf("the refusal does not name the driver: %q", m.Message)
	}
	second.send("stop") // needs no helm
	second.expect("ack", func(m message) bool { return m.Op == "ack" && m.Applied })
	first.conn.Close()
	second.expectState("free", func(m message) bool { return m.Driver == "" })
	second.send("back")
	second.expectState("the second drives", func(m message) bool { return m.Driver == hello2.ID && m.Motion.Left == -1 })
	for _, want := range []string{`driver	{"now": "` + hello.ID + `"`, "the driver disconnected", `driver	{"now": "` + hello2.ID + `"`} {
		log.expect(t, want)
	}
}

// Whatever a client gets wrong, it is told so by name, and it and all others go on.
func TestBadMessages(t *testing.T) {
	addr, _ := start(t)
	c, _ := dial(t, addr)
	for _, tt := range []struct {
		send ws.Frame
		code string
		says string
	}{
		{ws.NewTextFrame([]byte("fly")), "unknown_command", `"fly"`},
		{ws.NewTextFrame([]byte("")), "unknown_command", `""`},
		{ws.NewTextFrame([]byte("UP")), "unknown_command", `"UP"`},
		{ws.NewTextFrame([]byte(`{"op":"drive"}`)), "unknown_command", `op`},
		{ws.NewTextFrame([]byte("up fast")), "bad_value", `"fast"`},
		{ws.NewTextFrame([]byte("up NaN")), "bad_value", `"NaN"`},
		{ws.NewTextFrame([]byte("cam_up 1e999")), "bad_value", `"1e999"`},
		{ws.NewTextFrame([]byte("stop 5")), "bad_value", `stop takes no number`},
		{ws.NewBinaryFrame([]byte("up")), "binary", "2 bytes"},
	} {
		c.sendFrame(tt.send)
		if m := c.expectError(tt.code); !strings.Contains(m.Message, tt.says) {
			t.Errorf("%q: the message is %q", tt.send.Payload, m.Message)
		}
	}
	c.send(" up  ")
	c.expect("ack", func(m message) bool { return m.Op == "ack" && m.Applied })
}

func TestBadFramesCloseTheirConnectionOnly(t *testing.T) {
	addr, log := start(t)
	bystander, _ := dial(t, addr)
	for name, tt := range map[string]struct {
		frame []byte
		code  ws.StatusCode
	}{
		"too long":     {[]byte{0x81, 0xfe, 0x10, 0x01, 0, 0, 0, 0}, ws.StatusMessageTooBig},
		"not masked":   {[]byte{0x81, 0x02, 'u', 'p'}, ws.StatusProtocolError},
		"reserved bit": {[]byte{0xc1, 0x80, 0, 0, 0, 0}, ws.StatusProtocolError},
		"not UTF-8":    {[]byte{0x81, 0x81, 0, 0, 0, 0, 0xff}, ws.StatusInvalidFramePayloadData},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := dial(t, addr)
			c.conn.Write(tt.frame)
			c.expectClose(tt.code)
		})
	}
	bystander.send("up")
	bystander.expect("ack", func(m message) bool { return m.Op == "ack" && m.Applied })
	if log.expect(t, "took the free helm"); strings.Count(log.String(), "a client broke the WebSocket protocol") != 1 {
		t.Errorf("the log should name this class of fault, and only once:\n%s", log)
	}
}

func TestPingIsAnswered(t *testing.T) {
	addr, _ := start(t)
	c, _ := dial(t, addr)
	c.sendFrame(ws.NewPingFrame([]byte("are you there?")))
	for {
		f, err := c.frame()
		if err != nil {
			t.Fatal(err)
		}
		if f.Header.OpCode == ws.OpPong {
			if string(f.Payload) != "are you there?" {
				t.Errorf("pong %q", f.Payload)
			}
			return
		}
	}
}

// What a client sends can neither forge log lines nor flood the log.
func TestLogIsNotTheClients(t *testing.T) {
	addr, log := start(t)
	for i := range 50 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, upgradeTo("/", fmt.Sprintf("Origin: http://\x1b[2J\rINFO forged %d\r\n", i)))
		io.Copy(io.Discard, conn)
		conn.Close()
	}
	c, _ := dial(t, addr)
	c.send("up")
	if log.expect(t, "took the free helm"); strings.ContainsAny(log.String(), "\x1b\r") || strings.Count(log.String(), "refused an upgrade") != 1 {
		t.Errorf("the log is %q", log)
	}
}

// A log that nobody reads holds nothing up, not even the end of the program.
func TestLogThatBlocks(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	logIn, logOut := io.Pipe() // nobody reads it
	code := make(chan int, 1)
	go func() { code <- run(ctx, t.Context(), []string{"-addr", "127.0.0.1:0"}, noEnv, out, logOut) }()
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

// A viewer that is let go in the middle of what it sent does not drive with the rest of it: its driving would outlast
// the stop that its going caused, and the helm would stay with nobody.
func TestNoCommandAfterBeingLetGo(t *testing.T) {
	addr, _ := start(t)
	ghost, _ := dial(t, addr)
	watcher, hello := dial(t, addr)
	watcher.expectState("both are here", func(m message) bool { return m.Viewers == 2 })
	// One segment's worth: more pongs than may be owed, and then a command.
	ping := ws.MustCompileFrame(ws.MaskFrame(ws.NewPingFrame(bytes.Repeat([]byte("x"), 125))))
	up := ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("up"))))
	flood := bytes.Repeat(append(bytes.Repeat(ping, 100), up...), 50)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			ghost.conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
			if _, err := ghost.conn.Write(flood); err != nil {
				return
			}
		}
	}()
	watcher.expectState("it is let go", func(m message) bool { return m.Viewers == 1 })
	watcher.send("back")
	watcher.expect("the ack", func(m message) bool {
		if m.Op == "error" {
			t.Fatalf("%s: %s", m.Code, m.Message)
		}
		return m.Op == "ack"
	})
	watcher.expectState("the one who is left drives", func(m message) bool { return m.Driver == hello.ID })
	<-done
}

func TestEcho(t *testing.T) {
	addr, _ := start(t, "-echo")
	c := dialRaw(t, addr, "/echo")
	for _, f := range []ws.Frame{
		ws.NewTextFrame([]byte("grüezi")), ws.NewBinaryFrame(bytes.Repeat([]byte{0xff}, 1<<20)), ws.NewTextFrame(nil), ws.NewPingFrame([]byte("p")),
	} {
		out := ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(f.Header.OpCode, true, bytes.Clone(f.Payload))))
		go c.conn.Write(out) // it may be longer than what fits on the way
		want := f.Header.OpCode
		if want == ws.OpPing {
			want = ws.OpPong
		}
		if got, err := c.frame(); err != nil || got.Header.OpCode != want || !bytes.Equal(got.Payload, f.Payload) {
			t.Errorf("%d bytes of opcode %d came back as %d bytes of opcode %d, %v", len(f.Payload), f.Header.OpCode, len(got.Payload), got.Header.OpCode, err)
		}
	}
	c.sendFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(4000, "enough")))
	c.expectClose(4000)
	c = dialRaw(t, addr, "/echo")
	c.conn.Write([]byte{0x81, 0xff, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0}) // 16 MiB + 1
	c.expectClose(ws.StatusMessageTooBig)
}

// A client that does not read its echoes is not read either, and costs no more than what was under way.
func TestEchoIsNotReadAhead(t *testing.T) {
	addr, _ := start(t, "-echo")
	c := dialRaw(t, addr, "/echo")
	const frames, size = 600, 100_000
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range frames {
			c.conn.Write(ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame(bytes.Repeat([]byte{byte(i)}, size)))))
		}
	}()
	for i := range frames {
		f, err := c.frame()
		if err != nil || len(f.Payload) != size || f.Payload[0] != byte(i) {
			t.Fatalf("frame %d: %d bytes, %v", i, len(f.Payload), err)
		}
	}
	<-sent
}

// A client may send its request and its first commands in one piece, or a byte at a time.
func TestAnyPortions(t *testing.T) {
	addr, _ := start(t)
	request := websocket.AppendRequest(nil, addr, "/ws?x=1")
	request = websocket.AppendMasked(request, ws.OpText, []byte("cam_up 1"), [4]byte{1, 2, 3, 4})
	request = websocket.AppendMasked(request, ws.OpText, []byte("cam_up 2"), [4]byte{5, 6, 7, 8})
	for _, size := range []int{len(request), 1, 7} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		for rest := request; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			conn.Write(rest[:min(size, len(rest))])
		}
		r := bufio.NewReader(conn)
		if _, err := http.ReadResponse(r, nil); err != nil {
			t.Fatal(err)
		}
		c := &client{t: t, conn: conn, in: r}
		c.expectState("both commands", func(m message) bool { return m.Camera.Tilt == 3 })
		c.send("cam_init")
		c.expectState("home", func(m message) bool { return m.Camera.Tilt == 0 })
		conn.Close()
		other, _ := dial(t, addr)
		other.expectState("free", func(m message) bool { return m.Driver == "" })
	}
}

func TestHTTP(t *testing.T) {
	addr, _ := start(t)
	for _, tt := range []struct {
		request string // as sent
		status  int
		says    string
	}{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200, "<title>"},
		{"GET /?token=1 HTTP/1.1\r\nHost: x\r\n\r\n", 200, "<title>"},
		{"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", 200, ""},
		{"GET /app.js HTTP/1.1\r\nHost: x\r\n\r\n", 200, "WebSocket"},
		{"GET /state HTTP/1.1\r\nHost: x\r\n\r\n", 200, `"op":"state"`},
		{"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, `"status":"ok"`},
		{"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426, "WebSocket"},
		{"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not found"},
		{"POST /state HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, "Not Allowed"},
		{"nonsense\r\n\r\n", 400, ""},
		{upgradeTo("/nowhere", ""), 404, "no WebSocket at /nowhere"},
		{upgradeTo("/", "Origin: http://evil.example\r\n"), 403, "http://evil.example"},
		{upgradeTo("/", "Origin: null\r\n"), 403, "null"},
		{upgradeTo("/", "Origin: http://CAR.local:9900\r\n"), 101, ""},
		{"GET / HTTP/1.1\r\nUpgrade: websocket\r\nHost: x\r\n\r\n", 400, ""},
		{"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("x", 9000), 431, "8192 bytes"},
	} {
		name, _, _ := strings.Cut(tt.request, "\r\n")
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, tt.request)
		method, _, _ := strings.Cut(tt.request, " ")
		response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
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

func TestStoppingSaysGoodbye(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	code := make(chan int, 1)
	log := newLogBuffer()
	go func() {
		code <- run(ctx, t.Context(), []string{"-addr", "127.0.0.1:0", "-loops", "3"}, noEnv, out, log)
	}()
	c, _ := dial(t, announced(t, in))
	c.send("up")
	c.expectState("driving", func(m message) bool { return m.Motion.Left == 1 })
	stop()
	c.expectState("the car stands before the connection goes", func(m message) bool { return m.Motion.Left == 0 })
	c.expectClose(ws.StatusGoingAway)
	if got := <-code; got != 0 {
		t.Errorf("exit code %d", got)
	}
	out.Close()
	for _, want := range []string{"started", "stopped"} {
		if strings.Count(log.String(), "\t"+want) != 1 {
			t.Errorf("the log should say %q once:\n%s", want, log)
		}
	}
}

// A client that does not read the replies it is owed is let go; nobody else notices.
func TestRepliesNotRead(t *testing.T) {
	addr, _ := start(t)
	slow, _ := dial(t, addr)
	driver, _ := dial(t, addr)
	driver.expectState("both are here", func(m message) bool { return m.Viewers == 2 })
	flooding := make(chan struct{})
	go func() {
		defer close(flooding)
		ping := ws.MustCompileFrame(ws.MaskFrame(ws.NewPingFrame(bytes.Repeat([]byte("x"), 125))))
		flood := bytes.Repeat(ping, 500)
		for range 2000 { // 128 MB: far more than the kernel's buffers hold
			slow.conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
			if _, err := slow.conn.Write(flood); err != nil {
				return
			}
		}
		t.Error("the server took 128 MB of pings without being read")
	}()
	driver.send("cam_up")
	driver.expect("ack", func(m message) bool { return m.Op == "ack" && m.Applied })
	driver.expectState("the slow one is let go", func(m message) bool { return m.Viewers == 1 })
	<-flooding
}

// A viewer that reads slowly misses states instead of queueing them, and has the newest in the end.
func TestSlowViewerSkipsToTheNewest(t *testing.T) {
	s, addr := startServer(t, "-loops", "1")
	c, _ := dial(t, addr)
	const frames, size = 64, 1 << 20 // more than the kernel's buffers hold
	d := s.decks[0]
	for i := range uint32(frames) {
		text := fmt.Sprintf("%d %s", i, strings.Repeat("x", size))
		d.publish(&frame{1000 + i, websocket.AppendFrame(nil, ws.OpText, []byte(text))})
		shown := make(chan int)
		d.loop.Post(func() {
			backlog := 0
			for _, v := range d.viewers {
				backlog += v.conn.Backlog()
			}
			shown <- backlog
		})
		if backlog := <-shown; backlog > size+1000 {
			t.Fatalf("%d bytes wait for one viewer", backlog)
		}
	}
	got := 0
	for last := -1; last < frames-1; got++ {
		f, err := c.frame()
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscan(string(f.Payload[:min(20, len(f.Payload))]), &n); err != nil {
			continue // an ordinary state
		}
		if n <= last {
			t.Fatalf("frame %d after %d", n, last)
		}
		last = n
	}
	if got >= frames {
		t.Errorf("%d of %d frames came: none was skipped, so the test shows nothing", got, frames)
	}
}

// A walk through the crowd gives way after each slice, and still shows everyone the newest state, also those who
// change places because others leave meanwhile.
func TestFanOutReachesEveryone(t *testing.T) {
	addr, _ := start(t, "-loops", "2")
	const crowd = 3 * fanSlice
	var viewers []*client
	for range crowd {
		c, _ := dial(t, addr)
		viewers = append(viewers, c)
	}
	driver, _ := dial(t, addr)
	for i, c := range viewers {
		if i%3 == 0 {
			c.conn.Close()
		}
		driver.send("cam_right 1")
		driver.expect("ack", func(m message) bool { return m.Op == "ack" })
	}
	driver.send("cam_up 7")
	for i, c := range viewers {
		if i%3 != 0 {
			c.expectState("the last", func(m message) bool { return m.Camera.Tilt == 7 })
		}
	}
}

func TestPortInUse(t *testing.T) {
	addr, _ := start(t)
	var stderr bytes.Buffer
	code := run(t.Context(), t.Context(), []string{"-addr", addr}, noEnv, io.Discard, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), addr+" is in use") {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}

func TestVersionAndHelp(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"help"}, {"-h"}, {"serve", "-h"}} {
		var stdout bytes.Buffer
		if code := run(t.Context(), t.Context(), args, noEnv, &stdout, io.Discard); code != 0 || !strings.Contains(stdout.String(), "roverd") {
			t.Errorf("%v: exit code %d, %q", args, code, stdout.String())
		}
	}
}

func write(t *testing.T, text string) (file string) {
	t.Helper()
	file = t.TempDir() + "/car.toml"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// failingLines can be set once the test lets them, and not afterwards.
type failingLines struct{ broken atomic.Bool }

func (l *failingLines) Set([]int) error {
	if l.broken.Load() {
		return errors.New("input/output error")
	}
	return nil
}

func (l *failingLines) Close() error { return nil }

// If the lines can't be set low at the end, the log does not say that the car stands, nor the exit code that all is well.
func TestStoppingTellsOfAFault(t *testing.T) {
	cfg, err := loadConfig([]string{"-addr", "127.0.0.1:0"}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	log := newLogBuffer()
	logger, closeLog := newLogger(cfg.LogLevel, log)
	s, listeners, err := newServer(cfg, logger)
	if err != nil {
		t.Fatal(err)
	}
	lines := &failingLines{}
	s.car = hardware.New(cfg.car(), lines, s.carChanged)
	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, context.Background(), listeners, out) }()
	c, _ := dial(t, announced(t, in))
	c.send("up")
	c.expectState("driving", func(m message) bool { return m.Motion.Left == 1 })
	lines.broken.Store(true)
	stop()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("run returned %v", err)
	}
	out.Close()
	if closeLog(); strings.Contains(log.String(), "the car stands") || !strings.Contains(log.String(), "the car may not stand") {
		t.Errorf("the log says\n%s", log)
	}
}

// `roverd 2>&1 | tee log`, and tee goes: by default the next line logged would end the process, with the wheels turning.
func TestClosedPipeIsSurvived(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "ROVERD_TEST_MAIN=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var addr string
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); { // the log stands among them
		if m := announcement.FindStringSubmatch(lines.Text()); m != nil {
			addr = m[1]
		}
	}
	out.Close()
	driver, hello := dial(t, addr)
	driver.send("up") // is logged
	driver.expectState("driving", func(m message) bool { return m.Driver == hello.ID && m.Motion.Left == 1 })
	driver.conn.Close() // is logged
	watcher, _ := dial(t, addr)
	watcher.expectState("free", func(m message) bool { return m.Driver == "" })
	cmd.Process.Signal(syscall.SIGHUP)
	watcher.expectClose(ws.StatusGoingAway)
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGHUP it ended with %v", err)
	}
}

func TestTooManyConnections(t *testing.T) {
	addr, _ := start(t, "-max-conns", "2")
	first, _ := dial(t, addr)
	second, _ := dial(t, addr)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "2 connections are open") {
		t.Errorf("the third is told %d, %q", response.StatusCode, body)
	}
	first.conn.Close()
	second.expectState("the first has gone", func(m message) bool { return m.Viewers == 1 })
	dial(t, addr)
}

// A viewer that says nothing is asked whether it is there: one that answers stays, one that went without a word is let
// go. (The test plays the clock.)
func TestSilentViewersArePinged(t *testing.T) {
	s, addr := startServer(t, "-loops", "1")
	c, _ := dial(t, addr)
	d := s.decks[0]
	expire := func() {
		on(d, func() {
			for _, v := range d.viewers {
				v.Expired(v.conn)
			}
		})
	}
	pinged := func() bool {
		is := false
		on(d, func() { is = d.viewers[0].pinged })
		return is
	}
	expire()
	for {
		f, err := c.frame()
		if err != nil {
			t.Fatal(err)
		}
		if f.Header.OpCode == ws.OpPing {
			break
		}
	}
	c.sendFrame(ws.NewPongFrame(nil))
	for pinged() {
	}
	expire() // asked again: it did answer
	if !pinged() {
		t.Error("it was not asked again")
	}
	expire()
	for {
		if _, err := c.frame(); err != nil {
			break // closed
		}
	}
}

// When viewers leave more untaken than there is memory for, those who owe most go, until it fits, but not the driver.
func TestSlowestAreShed(t *testing.T) {
	s, addr := startServer(t, "-loops", "1")
	const size, crowd = 1 << 20, 40
	driver, hello := dial(t, addr) // does not read, either
	driver.send("cam_up")
	driver.expectState("it drives", func(m message) bool { return m.Driver == hello.ID })
	for range crowd {
		dial(t, addr)
	}
	d := s.decks[0]
	payload := websocket.AppendFrame(nil, ws.OpBinary, make([]byte, size))
	// Every viewer is sent as much as the kernel takes for it, and then one megabyte more.
	for version := uint32(1000); ; version++ {
		d.publish(&frame{version, payload})
		blocked, backlog, left := 0, 0, 0
		for walking := true; walking; {
			on(d, func() { walking = d.walking || d.posted.Load() })
		}
		on(d, func() {
			backlog, left = d.loop.Backlog(), len(d.viewers)
			for _, v := range d.viewers {
				if v.conn.Blocked() {
					blocked++
				}
			}
		})
		if backlog > maxOwed {
			t.Fatalf("%d bytes are owed", backlog)
		}
		if left < crowd {
			break
		}
		if blocked == crowd+1 {
			t.Fatal("all are blocked and none was let go")
		}
	}
	driving := false
	on(d, func() {
		for _, v := range d.viewers {
			driving = driving || viewerName(v.id) == hello.ID
		}
	})
	if !driving {
		t.Error("the driver was let go")
	}
}

// At the end everyone in a crowd, larger than one slice, hears that the car stands, and goodbye.
func TestGoodbyeToACrowd(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, t.Context(), []string{"-addr", "127.0.0.1:0"}, noEnv, out, io.Discard)
		out.Close()
	}()
	addr := announced(t, in)
	var crowd []*client
	for range 3 * fanSlice {
		c, _ := dial(t, addr)
		crowd = append(crowd, c)
	}
	crowd[0].send("up")
	for _, c := range crowd {
		c.expectState("driving", func(m message) bool { return m.Motion.Left == 1 })
	}
	stop()
	for _, c := range crowd {
		c.expectState("it stands", func(m message) bool { return m.Motion.Left == 0 })
		c.expectClose(ws.StatusGoingAway)
		c.conn.Close()
	}
	if got := <-code; got != 0 {
		t.Errorf("exit code %d", got)
	}
}

// Who joins during a walk through the crowd takes nobody's place in it.
func TestWalkSeesEveryoneWhileOthersJoin(t *testing.T) {
	s := &server{publisher: newPublisher()}
	loop, err := netpoll.NewLoop(netpoll.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	// Each viewer has a connection whose other end nobody reads: what counts is which version it was sent.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	d := newDeck(s, loop)
	d.walkFn = func() {} // the test takes the steps itself
	at := ln.Addr().(*net.TCPAddr).AddrPort()
	join := func() {
		v := &viewer{deck: d, id: 1}
		c, err := loop.Dial(netip.Addr{}, at, nil, &guest{deck: d})
		if err != nil {
			t.Error(err)
			return
		}
		v.conn = c
		d.add(v)
	}
	on(d, func() {
		for range 3*fanSlice + 10 {
			join()
		}
	})
	for connecting := true; connecting; {
		on(d, func() {
			connecting = slices.ContainsFunc(d.viewers, func(v *viewer) bool { return v.conn.Blocked() })
		})
	}
	on(d, func() {
		old := len(d.viewers) - 10
		newcomers := d.viewers[old:]
		d.viewers = d.viewers[:old]
		d.next = fanSlice // a walk starts where the last one ended
		f := &frame{1, nil}
		d.topic.Store(f)
		d.begin()
		for _, v := range newcomers {
			d.add(v)
			v.shown = f.version
		}
		for d.walking {
			d.walk()
		}
		for i, v := range d.viewers[:old] {
			if v.shown != f.version {
				t.Errorf("viewer %d of %d was passed over", i, old)
			}
		}
	})
}
