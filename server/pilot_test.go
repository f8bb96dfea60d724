package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// The answer to a message has its id, whatever the answer is.
func TestIDs(t *testing.T) {
	addr, _ := start(t)
	c, _ := dial(t, addr)
	for i, tt := range []struct{ send, op, code string }{
		{`{"op":"drive","left":0.5,"right":0.5,"id":%d}`, "ack", ""},
		{`{"op":"look","pan":10,"tilt":-5,"id":%d}`, "ack", ""},
		{`{"op":"ping","id":%d}`, "pong", ""},
		{`{"op":"name","name":"Ann","id":%d}`, "ack", ""},
		{`{"op":"claim","id":%d}`, "ack", ""},
		{`{"op":"release","id":%d}`, "ack", ""},
		{`{"op":"release","id":%d}`, "error", notDriver},
		{`{"op":"grant","id":%d}`, "error", "no_claim"},
		{`{"op":"refuse","id":%d}`, "error", "no_claim"},
		{`{"op":"stop","id":%d}`, "ack", ""},
		{`{"op":"estop","id":%d}`, "ack", ""},
		{`{"op":"drive","left":0.5,"right":0.5,"id":%d}`, "error", "estop"},
		{`{"op":"reset","id":%d}`, "ack", ""},
		{`{"op":"fly","id":%d}`, "error", "unknown_command"},
	} {
		c.send(fmt.Sprintf(tt.send, i))
		m := c.expect("an answer", func(m message) bool { return m.Op != "state" })
		if m.Op != tt.op || m.Code != tt.code || m.ID != fmt.Sprint(i) {
			t.Errorf("%s is answered with %+v", tt.send, m)
		}
	}
	c.send(`{"op":"state","id":77}`)
	c.expectState("the one asked for", func(m message) bool { return m.ID == "77" && m.Camera.Pan == 10 && m.Camera.Tilt == -5 })
	c.send("stop")
	if m := c.expect("ack", isAck); m.ID != "" {
		t.Errorf("a word is answered with the id %v", m.ID)
	}
	c.send("state")
	c.expectState("asked for", func(m message) bool { return m.Camera.Pan == 10 && m.Camera.Tilt == -5 })
}

// What is out of date by its number, or has been under way for longer than its time to live, does not move the car.
func TestStaleCommands(t *testing.T) {
	addr, _ := start(t)
	c, _ := dial(t, addr)
	for i, tt := range []struct {
		fields string
		stale  bool
	}{
		{`"seq":5`, false},
		{`"seq":4`, true},
		{`"seq":5`, false},
		{`"seq":9,"t_ms":100000`, false},
		{`"seq":10,"t_ms":110000`, false}, // ten seconds of the client's took none: the first was late, or its clock was set
		{`"seq":11,"t_ms":109999`, false}, // set back: it counts anew
		{`"seq":12,"t_ms":120000`, false}, // so this is the quickest
		{`"seq":12,"t_ms":120010`, false}, //
		{`"ttl_ms":200`, false},
	} {
		c.send(fmt.Sprintf(`{"op":"drive","left":0.5,"right":0.5,"id":%d,%s}`, i, tt.fields))
		m := c.expect("an answer", func(m message) bool { return m.Op != "state" })
		if got := m.Op == "error" && m.Code == isStale; got != tt.stale {
			t.Errorf("%s is answered with %+v", tt.fields, m)
		}
	}
}

func TestClock(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name string
		at   []float64 // by our clock, in ms
		sent []float64 // by the client's
		late float64   // of the last
	}{
		{"the first", []float64{0}, []float64{77}, 0},
		{"not told", []float64{0, 1000}, []float64{77, math.NaN()}, 0},
		{"in time", []float64{0, 50, 100}, []float64{1000, 1050, 1100}, 0},
		{"three seconds in the queue", []float64{0, 50, 3100}, []float64{1000, 1050, 1100}, 3000},
		{"and all at once", []float64{0, 3100, 3100}, []float64{1000, 1050, 3000}, 1100},
		{"the first was slow", []float64{0, 50, 100}, []float64{0, 250, 300}, 0},
		{"then as slow as the first", []float64{0, 50, 300}, []float64{0, 250, 300}, 200},
		{"set back", []float64{0, 50}, []float64{1000, 0}, 0},
		{"a clock that goes a little slower", []float64{0, 1_000_000, 2_000_000}, []float64{0, 999_500, 1_999_000}, 0},
		{"a delay that lasts is the rule some day", []float64{0, 1000, 2_000_000}, []float64{0, 0, 1_999_000}, 0},
		{"absurd", []float64{0, 1}, []float64{-1e308, 1e308}, 0},
		{"absurd, too", []float64{0, 1, 2}, []float64{0, 1e300, 1e300}, 0},
	} {
		var c clock
		late := time.Duration(-1)
		for i, at := range tt.at {
			late = c.late(tt.sent[i], now.Add(time.Duration(at*float64(time.Millisecond))))
		}
		if got := late.Seconds() * 1000; math.Abs(got-tt.late) > 5 {
			t.Errorf("%s: %v ms late, want %v", tt.name, got, tt.late)
		}
	}
}

// Who wants the helm asks; the driver grants or refuses; the car stands when it changes hands.
func TestClaim(t *testing.T) {
	addr, _ := start(t, "-loops", "2", "-config", write(t, "drive.ttl = \"5s\"\n"))
	ann, annHello := dial(t, addr)
	bob, bobHello := dial(t, addr)
	cleo, _ := dial(t, addr)
	bob.send("name Bob")
	bob.expect("ack", isAck)
	ann.send("up")
	ann.expect("ack", isAck)
	bob.send("up")
	if m := bob.expectError(notDriver); !strings.Contains(m.Message, "claim") {
		t.Errorf("the refusal is %q", m.Message)
	}
	bob.send(`{"op":"claim","id":1}`)
	if m := bob.expect("ack", isAck); m.Applied || m.ID != "1" || m.MS <= 0 || m.MS > 10_000 {
		t.Errorf("the claim is answered with %+v", m)
	}
	if m := ann.expect("claim", func(m message) bool { return m.Op == "claim" }); m.From != bobHello.ID || m.Name != "Bob" || m.MS <= 0 || m.MS > 10_000 {
		t.Errorf("the driver is asked with %+v", m)
	}
	cleo.expectState("everyone knows", func(m message) bool { return m.Claim == bobHello.ID && m.Driver == annHello.ID })
	cleo.send("claim")
	cleo.expectError("claimed")
	cleo.send("grant")
	cleo.expectError("no_claim")

	ann.send("refuse")
	ann.expect("ack", isAck)
	bob.expectError(isRefused)
	cleo.expectState("it is over", func(m message) bool { return m.Claim == "" && m.Driver == annHello.ID })
	bob.send("claim")
	bob.expectError(isRefused)

	cleo.send("claim")
	ann.expect("claim", func(m message) bool { return m.Op == "claim" })
	ann.send("up")
	ann.expect("ack", isAck)
	ann.send("grant")
	ann.expect("ack", isAck)
	cleo.expectState("it stands", func(m message) bool { return m.Motion.Left == 0 && m.Cause == causeHandover })
	ann.send("up")
	ann.expectError(notDriver)
	cleo.send("back")
	cleo.expect("ack", isAck)

	bob.conn.Close()
	ann.send("claim")
	cleo.expect("claim", func(m message) bool { return m.Op == "claim" })
	cleo.conn.Close() // the helm is the claimant's then
	m := ann.expectState("the helm is the claimant's", func(m message) bool { return m.Driver == annHello.ID })
	if m.Claim != "" {
		t.Errorf("the state is %+v", m)
	}
	ann.expectState("the car stands", func(m message) bool { return m.Motion.Left == 0 && m.Cause == "disconnect" })
	ann.send("release")
	ann.expect("ack", isAck)
	ann.expectState("free", func(m message) bool { return m.Driver == "" })
}

// A driver that does not answer loses the helm after a while, and one that is silent too.
func TestHelmByTime(t *testing.T) {
	s, addr := startServer(t)
	ann, _ := dial(t, addr)
	bob, bobHello := dial(t, addr)
	ann.send("up")
	ann.expect("ack", isAck)
	bob.send("claim")
	bob.expect("ack", isAck)
	later := func() {
		s.bridge.mu.Lock()
		h := &s.bridge.helm
		h.used, h.until = h.used.Add(-helmIdle), h.until.Add(-claimTime)
		if s.bridge.due.IsZero() {
			t.Error("nothing will have the helm settle")
		}
		s.bridge.mu.Unlock()
		s.bridge.alarm.Reset(0)
	}
	later()
	ann.expectState("the claim went through", func(m message) bool { return m.Driver == bobHello.ID && m.Claim == "" })
	later()
	ann.expectState("the helm is free", func(m message) bool { return m.Driver == "" })
}

// Time has its effect before whatever comes next, however late the alarm is: what is said of it is still so.
func TestLateAlarm(t *testing.T) {
	s, addr := startServer(t, "-config", write(t, "drive.ttl = \"5s\"\n"))
	ann, _ := dial(t, addr)
	bob, bobHello := dial(t, addr)
	cleo, _ := dial(t, addr)
	ann.send("up")
	ann.expect("ack", isAck)
	bob.send("claim")
	bob.expect("ack", isAck)
	s.bridge.mu.Lock()
	s.bridge.helm.until = time.Now()
	s.bridge.mu.Unlock()
	cleo.send("up")
	if m := cleo.expectError(notDriver); !strings.HasPrefix(m.Message, bobHello.ID+" ") {
		t.Errorf("the refusal is %q", m.Message)
	}
	cleo.expectState("it stands", func(m message) bool { return m.Driver == bobHello.ID && m.Cause == causeHandover })
	events := s.audit.list()
	i := slices.IndexFunc(events, func(e event) bool { return e.What == "driver" && e.Who == bobHello.ID })
	if i < 0 || events[i].Why != "the claim was not answered" {
		t.Errorf("the events are %+v", events)
	}
}

// In a shared helm everyone drives, and the car stops when who drove last goes.
func TestSharedHelm(t *testing.T) {
	addr, _ := start(t, "-helm", "shared", "-config", write(t, "drive.ttl = \"5s\"\n"))
	ann, annHello := dial(t, addr)
	bob, bobHello := dial(t, addr)
	for range 3 {
		ann.send("up")
		bob.expectState("one drives", func(m message) bool { return m.Driver == annHello.ID && m.Motion.Left == 1 })
		bob.send("back")
		ann.expectState("the other drives", func(m message) bool { return m.Driver == bobHello.ID && m.Motion.Left == -1 })
	}
	ann.conn.Close()
	watcher, _ := dial(t, addr)
	watcher.expectState("still driving", func(m message) bool { return m.Motion.Left == -1 })
	bob.conn.Close()
	watcher.expectState("it stands", func(m message) bool { return m.Motion.Left == 0 && m.Cause == "disconnect" && m.Driver == "" })
}

// Who turns the camera, or claims what is everyone's, has not driven: the car still stops when who drives goes.
func TestSharedHelmOfADriver(t *testing.T) {
	addr, _ := start(t, "-helm", "shared", "-config", write(t, "drive.ttl = \"5s\"\n"))
	ann, annHello := dial(t, addr)
	bob, _ := dial(t, addr)
	ann.send("up")
	ann.expect("ack", isAck)
	for _, word := range []string{"cam_left", "claim"} {
		bob.send(word)
		if m := bob.expect("ack", isAck); !m.Applied {
			t.Errorf("%s is answered with %+v", word, m)
		}
	}
	bob.expectState("one drives", func(m message) bool { return m.Driver == annHello.ID && m.Motion.Left == 1 })
	ann.conn.Close()
	bob.expectState("it stands", func(m message) bool { return m.Motion.Left == 0 && m.Cause == "disconnect" && m.Driver == "" })
}

// Who sends more than is good for all is told, and let go if it goes on; its stops count all the same.
func TestTooManyMessages(t *testing.T) {
	addr, _ := start(t, "-max-messages", "10", "-config", write(t, "drive.ttl = \"5s\"\n"))
	watcher, _ := dial(t, addr)
	c, _ := dial(t, addr)
	c.send("up")
	watcher.expectState("it drives", func(m message) bool { return m.Motion.Left == 1 })
	for range 30 {
		c.send("ping")
	}
	c.send("stop")
	c.expectError(tooFast)
	watcher.expectState("it stands", func(m message) bool { return m.Motion.Left == 0 })
	for range 40 {
		c.send("ping")
	}
	c.expectClose(ws.StatusPolicyViolation)
	// WebSocket's own pings count, too.
	c, _ = dial(t, addr)
	for range 70 {
		c.sendFrame(ws.NewPingFrame(nil))
	}
	c.expectClose(ws.StatusPolicyViolation)
}

// The message that is one too many may be the stop that matters: the connection ends, but the car is held. The limit is
// on messages of all kinds.
func TestLastMessageIsAStop(t *testing.T) {
	addr, _ := start(t, "-max-messages", "10")
	watcher, _ := dial(t, addr)
	c, _ := dial(t, addr)
	const most = 20 + tooManyTimes*20 // the burst, and what is too much beyond it
	var all []byte
	for range most {
		all = append(all, ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("ping"))))...)
	}
	all = append(all, ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("estop"))))...)
	if _, err := c.conn.Write(all); err != nil {
		t.Fatal(err)
	}
	c.expectClose(ws.StatusPolicyViolation)
	watcher.expectState("held", func(m message) bool { return m.Estop })

	c, _ = dial(t, addr)
	all = nil
	for range most + 10 {
		all = append(all, ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame(nil)))...)
	}
	if _, err := c.conn.Write(all); err != nil {
		t.Fatal(err)
	}
	c.expectClose(ws.StatusPolicyViolation)
}

// talk is a connection that keeps what is said on it.
type talk chan message

func (t talk) say(p []byte) {
	var m message
	json.Unmarshal(p, &m)
	t <- m
}

func (talk) close(ws.StatusCode, string) {}
func (talk) drives(bool)                 {}
func (talk) peer() netip.Addr            { return netip.Addr{} }

// What a command took counts from when it was read, however long it was under way before; that counts for how long it
// moves the car.
func TestLateCommand(t *testing.T) {
	s, _ := startServer(t)
	said := make(talk, 10)
	p := newPilot(s.decks[0], said, 1, control)
	now := time.Now()
	s.decks[0].loop.Post(func() {
		p.message([]byte(`{"op":"drive","left":0,"right":0,"t_ms":1000,"ttl_ms":5000}`), now.Add(-5*time.Second))
		p.message([]byte(`{"op":"drive","left":1,"right":1,"t_ms":3000,"ttl_ms":5000,"id":1}`), now) // 3 s late
		p.message([]byte(`{"op":"drive","left":1,"right":1,"t_ms":3000,"ttl_ms":2900,"id":2}`), now)
	})
	for range 3 {
		m := <-said
		switch {
		case m.ID == "1" && (m.Op != "ack" || m.US > 2_000_000):
			t.Errorf("a late command is answered with %+v", m)
		case m.ID == "2" && (m.Op != "error" || m.Code != isStale):
			t.Errorf("one that is too late is answered with %+v", m)
		}
	}
	s.bridge.leave(p, now)
}

// However rarely one may say something or come in, one may.
func TestLowLimits(t *testing.T) {
	s, addr := startServer(t, "-max-messages", "0.1", "-max-new-per-addr", "0.1")
	c, _ := dial(t, addr)
	c.send("ping")
	c.expect("pong", func(m message) bool { return m.Op == "pong" })
	c.send("ping")
	c.expectError(tooFast)
	if _, err := s.gate.enter(netip.MustParseAddr("192.0.2.1"), time.Now()); err != nil {
		t.Error(err)
	}
}
