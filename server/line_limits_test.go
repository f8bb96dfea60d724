package main

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Ten seconds without a whole line end the connection, whatever comes in pieces, and stop the car.
func TestLineIdle(t *testing.T) {
	t.Parallel()
	_, addr, lines := startLines(t)
	watcher, _ := dial(t, addr)
	start := time.Now()
	silent, _ := dialLine(t, lines)
	slow, _ := dialLine(t, lines)
	driver, hello := dialLine(t, lines)
	slow.send("u")
	driver.send("up\n")
	driver.expect("ack", "")
	watcher.expectState("it drives", func(m message) bool { return m.Driver == hello.ID })
	var renewed time.Time
	done := make(chan struct{})
	time.AfterFunc(lineIdle*6/10, func() {
		defer close(done)
		io.WriteString(slow.conn, "p")
		renewed = time.Now()
		io.WriteString(driver.conn, "ping\n")
	})
	for _, c := range []*lineClient{silent, slow} {
		c.expectClosed("10s")
		if took := time.Since(start); took < lineIdle || took > lineIdle+4*time.Second {
			t.Errorf("it ended after %s", took)
		}
	}
	<-done
	driver.expect("pong", "")
	driver.expectClosed("10s")
	if took := time.Since(renewed); took < lineIdle || took > lineIdle+4*time.Second {
		t.Errorf("it ended %s after its last line", took)
	}
	watcher.expectState("free", func(m message) bool { return m.Driver == "" })
}

// Lines and viewers pass the same gate; who is one too many is told in a line.
func TestLineGate(t *testing.T) {
	_, addr, lines := startLines(t, "-max-conns", "2")
	viewer, _ := dial(t, addr)
	c, _ := dialLine(t, lines)
	third := dialLineRaw(t, lines)
	third.expectClosed("2 connections are open")
	if r, err := http.ReadResponse(dialLineRaw(t, addr).in, nil); err != nil || r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a browser is told %v, %v", r, err)
	}
	c.conn.CloseWrite()
	c.expectEnd()
	c.conn.Close()
	for end := time.Now().Add(hangTime); ; {
		again := dialLineRaw(t, lines)
		m, err := again.next()
		if err == nil && m.Op == "welcome" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nobody comes in after the first has gone: %+v, %v", m, err)
		}
		again.conn.Close()
	}
	viewer.send("up")
	viewer.expect("ack", isAck)
}

// Who sends more than is good for all is told, and let go if it goes on.
func TestLineTooFast(t *testing.T) {
	_, addr, lines := startLines(t, "-max-messages", "10", "-config", write(t, "drive.ttl = \"5s\"\n"))
	watcher, _ := dial(t, addr)
	c, _ := dialLine(t, lines)
	c.send("up\n")
	watcher.expectState("it drives", func(m message) bool { return m.Motion.Left == 1 })
	c.send(strings.Repeat("ping\n", 30) + "stop\n")
	watcher.expectState("it stands", func(m message) bool { return m.Motion.Left == 0 })
	c.send(strings.Repeat("ping\n", 100) + "up\n")
	codes := map[string]int{}
	for {
		m, err := c.next()
		if err != nil {
			break
		}
		codes[m.Op+m.Code]++
	}
	if codes["error"+tooFast] == 0 || codes["error"+isClosed] != 1 || codes["pong"] < 18 {
		t.Errorf("the answers are %v", codes)
	}
	watcher.expectState("the helm is free", func(m message) bool { return m.Driver == "" })

	noise, _ := dialLine(t, lines) // counts, too
	noise.send("ping\n" + strings.Repeat("\x00\n", 100))
	for last := (message{}); ; {
		m, err := noise.next()
		if err != nil {
			if last.Code != isClosed {
				t.Errorf("the last word to noise is %+v, %v", last, err)
			}
			break
		}
		last = m
	}
}

// A client that does not read what it is owed is let go; nobody else notices.
func TestLineRepliesNotRead(t *testing.T) {
	s, addr, lines := startLines(t, "-max-messages", "0", "-loops", "1")
	driver, _ := dial(t, addr)
	slow, _ := dialLine(t, lines)
	flooding := make(chan struct{})
	go func() {
		defer close(flooding)
		flood := []byte(strings.Repeat("state\n", 10_000))
		for err := error(nil); err == nil; {
			_, err = slow.conn.Write(flood)
		}
	}()
	end := time.Now().Add(hangTime)
	for left := 1; left > 0; {
		driver.send("cam_up")
		driver.expect("ack", func(m message) bool { return m.Op == "ack" && m.Applied })
		on(s.decks[0], func() {
			left = len(s.decks[0].lines)
			for l := range s.decks[0].lines {
				if n := l.conn.Backlog(); n > maxBacklog {
					t.Errorf("%d bytes wait for it", n)
				}
			}
		})
		if time.Now().After(end) {
			t.Fatal("it is still there")
		}
	}
	slow.conn.Close()
	<-flooding
}

// When slow clients leave more untaken than there is memory for, lines are among those who go, but not the driver.
func TestSlowLinesAreShed(t *testing.T) {
	s, _, lines := startLines(t, "-loops", "1")
	const crowd = 40
	driver, hello := dialLine(t, lines)
	driver.send("cam_up\n")
	driver.expect("ack", "")
	for range crowd {
		dialLine(t, lines)
	}
	d := s.decks[0]
	big := bytes.Repeat([]byte("x"), 1<<20)
	on(d, func() {
		for d.loop.Backlog() <= maxOwed {
			for l := range d.lines {
				l.conn.Write(big)
			}
		}
		d.shed()
		if d.loop.Backlog() > maxOwed || len(d.lines) == crowd+1 || len(d.lines) < 2 {
			t.Errorf("%d bytes are owed by %d lines", d.loop.Backlog(), len(d.lines))
		}
		driving := false
		for l := range d.lines {
			driving = driving || l.pilot.String() == hello.ID
		}
		if !driving {
			t.Error("the driver was let go")
		}
	})
}

// A line costs no garbage, as a frame does not.
func TestLinesMakeNoGarbage(t *testing.T) {
	_, _, lines := startLines(t, "-loops", "1", "-max-messages", "0", "-sim", "-config", write(t, "[motors]\npreset = \"camjam3\"\n"))
	c, _ := dialLine(t, lines)
	up, buf := []byte("up\n"), make([]byte, 4096)
	exchange := func() {
		c.conn.Write(up)
		if _, err := c.conn.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	for range 500 {
		exchange()
	}
	if per := testing.AllocsPerRun(5000, exchange); per > 0.1 {
		t.Errorf("%.3f allocations per line", per)
	}
}
