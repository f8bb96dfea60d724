package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"roverd/server/websocket"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

// TestMain lets the test binary be roverd itself, so that tests can start it as a process of its own, be its guard, and attack
// it.
func TestMain(m *testing.M) {
	if os.Getenv("ROVERD_TEST_MAIN") != "" || len(os.Args) > 1 && os.Args[1] == "guard" {
		if last := len(os.Args) - 1; os.Args[last] == blockable {
			os.Exit(exitCode(runBlockable(os.Args[1:last]), os.Stdout, os.Stderr))
		}
		main()
	}
	if what := os.Getenv(attackEnv); what != "" {
		attack(what)
	}
	goleak.VerifyTestMain(m)
}

// command is roverd as a process of its own.
func command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "ROVERD_TEST_MAIN=1")
	t.Cleanup(func() {
		if cmd.Process != nil {
			cmd.Process.Kill() // else it would outlive a test that failed
		}
	})
	return cmd
}

// start runs the program in this process and returns its address and its log. When the test ends it must end well.
func start(t *testing.T, args ...string) (addr string, log *logBuffer) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	log = newLogBuffer()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, t.Context(), append([]string{"-open", "-addr", "127.0.0.1:0"}, args...), noEnv, out, log)
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
func startServer(t testing.TB, args ...string) (s *server, addr string) {
	t.Helper()
	cfg, err := loadConfig(append([]string{"-open", "-addr", "127.0.0.1:0"}, args...), noEnv)
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

var announcement = regexp.MustCompile(`open https?://(.*)/(\?token=.*)? in a browser`)

// announced reads the address from what the program prints, and keeps reading.
func announced(t testing.TB, stdout io.Reader) string {
	t.Helper()
	addr, _ := announcedWith(t, stdout)
	return addr
}

// announcedWith returns what shows the token that was made, too.
func announcedWith(t testing.TB, stdout io.Reader) (addr, query string) {
	t.Helper()
	r := bufio.NewReader(stdout)
	line, err := r.ReadString('\n')
	m := announcement.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("roverd says %q, %v", line, err)
	}
	go io.Copy(io.Discard, r)
	return m[1], m[2]
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
		lines       [4]float64
		camera      pose
	}{
		{"up", 1, 1, [4]float64{1, 0, 1, 0}, pose{}},
		{"back", -1, -1, [4]float64{0, 1, 0, 1}, pose{}},
		{"left", -1, 1, [4]float64{0, 1, 1, 0}, pose{}},
		{"right 60", 0.6, -0.6, [4]float64{1, 0, 0, 1}, pose{}},
		{"stop", 0, 0, [4]float64{}, pose{}},
		{"cam_up", 0, 0, [4]float64{}, pose{0, 10}},
		{"cam_down 25", 0, 0, [4]float64{}, pose{0, -15}},
		{"cam_left", 0, 0, [4]float64{}, pose{-10, -15}},
		{"cam_right 40.5", 0, 0, [4]float64{}, pose{30.5, -15}},
		{"cam_init", 0, 0, [4]float64{}, pose{}},
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
	driver.expectState("driving", func(m message) bool { return m.Motion.Left == 1 && m.lines() == [4]float64{1, 0, 1, 0} })
	driver.expectState("stopped", func(m message) bool { return m.Cause == "ttl" && m.lines() == [4]float64{} })
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
			if m.Cause != "disconnect" || m.lines() != [4]float64{} {
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
	for _, want := range []string{`driver	{"who": "` + hello.ID + `"`, "the driver disconnected", `driver	{"who": "` + hello2.ID + `"`} {
		log.expect(t, want)
	}
}

// Anyone with the right to control presses the emergency stop and resets it, driver or not; until then nobody drives.
func TestEmergencyStop(t *testing.T) {
	addr, log := start(t)
	driver, _ := dial(t, addr)
	other, hello := dial(t, addr)
	driver.send("up")
	other.expectState("driving", func(m message) bool { return m.Motion.Left == 1 })
	other.send("estop")
	m := driver.expectState("stopped", func(m message) bool { return m.Estop && m.Motion.Left == 0 })
	if m.Cause != "estop" || m.lines() != [4]float64{} {
		t.Errorf("the state is %+v", m)
	}
	driver.send("up")
	driver.expectError("estop")
	other.send("reset")
	driver.expectState("reset", func(m message) bool { return !m.Estop })
	driver.send("up")
	driver.expectState("driving again", func(m message) bool { return m.Motion.Left == 1 })
	log.expect(t, `estop	{"who": "`+hello.ID+`"}`)
}

// Who drives is preferred, and nobody else: not who was silent for too long, nor who may only stop. A typing mistake
// changes nothing.
func TestPreferenceFollowsTheHelm(t *testing.T) {
	s, addr := startServer(t, "-loops", "1")
	d := s.decks[0]
	ack := func(m message) bool { return m.Op == "ack" }
	preferred := func(when string, want ...bool) {
		t.Helper()
		on(d, func() {
			for i, v := range d.viewers {
				if reflect.ValueOf(v.conn).Elem().FieldByName("preferred").Bool() != want[i] {
					t.Errorf("%s: %s is preferred: %v", when, viewerName(v.id), !want[i])
				}
			}
		})
	}
	first, _ := dial(t, addr)
	second, _ := dial(t, addr)
	preferred("nobody drives", false, false)
	first.send("up")
	first.expect("ack", ack)
	second.send("stop")
	second.expect("ack", ack)
	preferred("the first drives, the second stops", true, false)
	first.send("nonsense")
	first.expectError("unknown_command")
	preferred("the first makes a mistake", true, false)
	second.send("up")
	second.expectError(notDriver)
	preferred("the second may not", true, false)
	s.bridge.mu.Lock()
	s.bridge.helm.used = s.bridge.helm.used.Add(-helmIdle)
	s.bridge.mu.Unlock()
	second.send("up")
	second.expect("ack", ack)
	first.send("up")
	first.expectError(notDriver)
	preferred("the second took the helm of the silent first", false, true)
	on(d, func() { d.viewers[1].Expired(d.viewers[1].conn) })
	second.send("stop")
	second.expect("ack", ack)
	preferred("the second was silent, and stops", false, false)
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
		{ws.NewTextFrame([]byte(`{"op":"drive"}`)), "bad_value", `throttle`},
		{ws.NewTextFrame([]byte(`{"op":`)), "bad_json", `JSON`},
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
	if log.expect(t, "it was free"); strings.Count(log.String(), "a client broke the WebSocket protocol") != 1 {
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

func TestPortInUse(t *testing.T) {
	addr, _ := start(t)
	var stderr bytes.Buffer
	code := run(t.Context(), t.Context(), []string{"-open", "-addr", addr}, noEnv, io.Discard, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), addr+" is in use") {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}

// An address that is none of this computer's is named with its flag.
func TestNoSuchAddress(t *testing.T) {
	for _, args := range [][]string{{"-addr", "192.0.2.1:0"}, {"-addr", "127.0.0.1:99999"}, {"-addr", "127.0.0.1:0", "-line", "127.0.0.1:99999"}} {
		var stderr bytes.Buffer
		code := run(t.Context(), t.Context(), append(args, "-open"), noEnv, io.Discard, &stderr)
		if want := fmt.Sprintf("%s %q: ", args[len(args)-2], args[len(args)-1]); code != 1 || !strings.Contains(stderr.String(), want) {
			t.Errorf("exit code %d, %q, without %q", code, stderr.String(), want)
		}
	}
}

func TestVersionAndHelp(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"help"}, {"-h"}, {"serve", "-h"}} {
		var stdout bytes.Buffer
		if code := run(t.Context(), t.Context(), args, noEnv, &stdout, io.Discard); code != 0 || !strings.Contains(stdout.String(), "roverd") {
			t.Errorf("%v: exit code %d, %q", args, code, stdout.String())
		}
		if args[0] != "version" && !strings.Contains(stdout.String(), "(default info)") {
			t.Errorf("%v does not say where the log begins", args)
		}
	}
}

func write(t testing.TB, text string) (file string) {
	t.Helper()
	file = t.TempDir() + "/car.toml"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
