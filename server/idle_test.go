package main

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"roverd/netpoll"
	"roverd/server/websocket"
)

// Ten thousand viewers, in a process of their own, are held without a goroutine for any of them, and a driver among
// them still drives. (What they cost in memory is measured by `go run ./bench idle`: -race would spoil it here.)
func TestTenThousandViewers(t *testing.T) {
	const crowd, goroutines = 10_000, 30
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < crowd+500 {
		t.Fatalf("this test needs %d open files, but the hard limit is %d: raise it with `ulimit -Hn %d` as root", crowd+500, limit.Max, crowd+500)
	}
	cmd := command(t, "-open", "-addr", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	addr := announced(t, out)

	loop, err := netpoll.NewLoop(netpoll.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	c := &crowdTest{t: t, loop: loop, addr: netip.MustParseAddrPort(addr), all: make(chan struct{}), want: crowd}
	for range 200 { // handshakes in flight
		loop.Post(c.dial)
	}
	select {
	case <-c.all:
	case <-time.After(10 * time.Minute): // against hanging only
		t.Fatalf("only %d of %d viewers are here", c.here.Load(), crowd)
	}

	response, err := http.Get("http://" + addr + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var health struct{ Goroutines int }
	if err := json.NewDecoder(response.Body).Decode(&health); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d viewers, %d goroutines", c.here.Load(), health.Goroutines)
	if health.Goroutines >= goroutines || health.Goroutines == 0 {
		t.Errorf("%d goroutines for %d viewers, want less than %d", health.Goroutines, crowd, goroutines)
	}
	driver, _ := dial(t, addr)
	driver.send("up")
	// On a busy machine it may take longer to show everyone a state than the car drives: then nobody sees it drive.
	driver.expectState("it drove, and stopped", func(m message) bool { return m.Cause == "ttl" && m.Viewers > crowd*9/10 })
	if lost := c.lost.Load(); lost > 0 {
		t.Errorf("%d viewers were lost", lost)
	}
}

// crowdTest opens viewers, each when one before it is in, until there are enough.
type crowdTest struct {
	t          *testing.T
	loop       *netpoll.Loop
	addr       netip.AddrPort
	want       int
	dialled    int // of the loop's goroutine
	here, lost atomic.Int64
	all        chan struct{}
}

func (c *crowdTest) dial() {
	if c.dialled == c.want {
		return
	}
	c.dialled++
	request := websocket.AppendRequest(nil, c.addr.String(), "/")
	if _, err := c.loop.Dial(netip.Addr{}, c.addr, request, &crowdMember{crowd: c}); err != nil {
		c.t.Error(err)
	}
}

type crowdMember struct {
	crowd *crowdTest
	here  bool
}

func (m *crowdMember) Data(*netpoll.Conn, []byte) {
	if !m.here {
		m.here = true
		if m.crowd.here.Add(1) == int64(m.crowd.want) {
			close(m.crowd.all)
		}
		m.crowd.dial()
	}
}

func (m *crowdMember) Drained(*netpoll.Conn) {}
func (m *crowdMember) Expired(*netpoll.Conn) {}

func (m *crowdMember) Closed(_ *netpoll.Conn, err error) {
	if err != netpoll.ErrLoopClosed {
		m.crowd.lost.Add(1)
	}
}
