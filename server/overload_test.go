package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"roverd/netpoll"
	"roverd/server/websocket"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

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
			ghost.conn.SetWriteDeadline(time.Now().Add(hangTime))
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

// A client that does not read the replies it is owed is let go; nobody else notices.
func TestRepliesNotRead(t *testing.T) {
	addr, _ := start(t, "-max-messages", "0")
	slow, _ := dial(t, addr)
	driver, _ := dial(t, addr)
	driver.expectState("both are here", func(m message) bool { return m.Viewers == 2 })
	flooding := make(chan struct{})
	go func() {
		defer close(flooding)
		ping := ws.MustCompileFrame(ws.MaskFrame(ws.NewPingFrame(bytes.Repeat([]byte("x"), 125))))
		flood := bytes.Repeat(ping, 500)
		for range 2000 { // 128 MB: far more than the kernel's buffers hold
			slow.conn.SetWriteDeadline(time.Now().Add(hangTime))
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
	const crowd = 200
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

// Who has been let go, and still has its last bytes to take, is in the same memory: it is the first to go altogether.
func TestThoseLetGoCountToo(t *testing.T) {
	s, addr := startServer(t, "-loops", "1")
	const crowd, owed = 40, 2 << 20
	for range crowd {
		dial(t, addr)
	}
	driver, hello := dial(t, addr)
	driver.send("cam_up")
	driver.expectState("it drives", func(m message) bool { return m.Driver == hello.ID })
	d := s.decks[0]
	on(d, func() {
		for _, v := range slices.Clone(d.viewers) {
			if viewerName(v.id) != hello.ID {
				v.conn.Write(make([]byte, owed)) // nobody reads it
				v.close(tryAgainLater, repliesUnread)
			}
		}
		if owed := d.loop.Backlog(); owed < 2*maxOwed {
			t.Errorf("only %d bytes are owed, so the test shows nothing", owed)
		}
		d.shed()
		if owed := d.loop.Backlog(); owed > maxOwed {
			t.Errorf("%d bytes are owed", owed)
		}
	})
	driver.send("cam_down")
	driver.expectState("it still drives", func(m message) bool { return m.Driver == hello.ID && m.Viewers == 1 })
}

// Where all may drive at once, none of those who do is let go for what it owes.
func TestNoDriverIsShed(t *testing.T) {
	s, addr := startServer(t, "-loops", "1", "-helm", "shared")
	d := s.decks[0]
	for range 20 {
		dial(t, addr)
	}
	for range 3 {
		driver, _ := dial(t, addr)
		driver.send("up")
		driver.expect("the ack", func(m message) bool { return m.Op == "ack" })
	}
	on(d, func() {
		drivers := 0
		for _, v := range slices.Clone(d.viewers) {
			v.conn.Write(make([]byte, 2<<20)) // nobody reads it
			if v.driving {
				drivers++
				v.conn.Write(make([]byte, 1<<20))
			}
		}
		d.shed()
		for _, v := range d.viewers {
			if v.driving {
				drivers--
			}
		}
		if drivers != 0 || len(d.viewers) > 20 {
			t.Errorf("%d drivers were let go; %d viewers are left", drivers, len(d.viewers))
		}
	})
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
	d := newDeck(s)
	d.loop = loop
	d.walkFn, d.slice = func() {}, 0 // the test takes the steps itself, as short as they can be
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
		for range 200 {
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
		d.next = 64 // a walk starts where the last one ended
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

// adopted gives a deck's loop one end of a new connection, from which those bytes have been read already, and returns the
// other.
func adopted(t *testing.T, d *deck, read []byte, open func(*netpoll.Conn, netip.AddrPort) netpoll.Handler) *os.File {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	peer := os.NewFile(uintptr(fds[1]), "peer")
	t.Cleanup(func() { peer.Close() })
	peer.SetDeadline(time.Now().Add(hangTime))
	d.loop.Adopt(fds[0], netip.AddrPort{}, read, open)
	return peer
}

// Whose request does not arrive within its time is let go, and told why if it has sent anything.
func TestSlowHeads(t *testing.T) {
	s, _ := startServer(t)
	d := s.decks[0]
	for sent, want := range map[string]string{"": "", "GET / HTTP/1.1\r\nHost: x\r\nX: ": "HTTP/1.1 408 "} {
		var guest netpoll.Handler
		var conn *netpoll.Conn
		peer := adopted(t, d, []byte(sent), func(c *netpoll.Conn, from netip.AddrPort) netpoll.Handler {
			guest, conn = newGuest(d, c, from.Addr()), c
			return guest
		})
		on(d, func() {
			if n := reflect.ValueOf(d.loop).Elem().FieldByName("deadlines").Int(); n == 0 {
				t.Error("it has all the time in the world")
			}
			guest.Expired(conn) // in headTime
		})
		answer := make([]byte, 1000)
		n, err := peer.Read(answer)
		if !strings.HasPrefix(string(answer[:n]), want) || want == "" && err != io.EOF {
			t.Errorf("%q is answered with %q, %v", sent, answer[:n], err)
		}
		peer.Close()
		on(d, func() {})
	}
}
