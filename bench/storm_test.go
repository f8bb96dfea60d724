package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestStormMeasuresConnecting(t *testing.T) {
	f := &fake{}
	got := runScenario(t, "storm", "-rate", "100", "-d", "500ms", f.serve(t))
	figures{"connects": 50, "failed": 0, "unanswered": 0}.check(t, got)
	if c := got.measured("connect"); c.Count != 50 || c.Min <= 0 || got.Connections.Lost != 0 {
		t.Errorf("connect %+v, %+v", c, got.Connections)
	}
}

// A server that is stalled must be felt by all who wanted in while it was.
func TestStormFeelsAStall(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := &fake{upgraded: func(n int, _ net.Conn) {
		if n == 50 {
			time.Sleep(300 * time.Millisecond) // with the lock that each upgrade takes
		}
	}}
	got := runScenario(t, "storm", "-rate", "100", "-n", "5", "-d", "2s", f.serve(t))
	if c := got.measured("connect"); c.Count != 200 || c.Max < 280_000 || c.P99 < 260_000 || c.P90 < 90_000 {
		t.Errorf("connect %+v: want p90, p99 and maximum of about 100, 280 and 300 ms", c)
	}
}

func TestStormReportsRefusals(t *testing.T) {
	url := plain(t, func(n int, conn net.Conn) {
		conn.Read(make([]byte, 4096))
		if n%2 == 0 {
			conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: eSwiLPw1yDQ/RRcBFOP2WbNn7Og=\r\n\r\n"))
			conn.Read(make([]byte, 4096)) // until the client goes
			return
		}
		conn.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))
	})
	r := runBench(t, t.Context(), "storm", "-warmup", "0s", "-rate", "100", "-d", "500ms", url)
	if r.code != 1 || r.value("connects")+r.value("failed") != 50 || r.value("failed") < 20 || !strings.Contains(r.stderr, "of 50 did not get in") {
		t.Errorf("exit code %d, %v got in, %v failed; want 25 of each", r.code, r.value("connects"), r.value("failed"))
	}
}

func TestStormSaysWhyNobodyGotIn(t *testing.T) {
	addr := answer(t, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
	r := runBench(t, t.Context(), "storm", "-warmup", "0s", "-rate", "50", "-d", "100ms", "ws://"+addr)
	if r.code != 1 || !strings.Contains(r.stderr, "401 Unauthorized") || !strings.Contains(r.stderr, "set the variable ROVERD_TOKEN") {
		t.Errorf("exit code %d, %q; want 1, why, and the remedy", r.code, r.stderr)
	}
}

// A server that is slow to close its side has not left the connections open.
func TestStormWaitsForTheServerToClose(t *testing.T) {
	f := &fake{left: func(int) { time.Sleep(200 * time.Millisecond) }}
	got := runScenario(t, "storm", "-rate", "100", "-d", "200ms", "-pid", fmt.Sprint(os.Getpid()), f.serve(t))
	if n := got.value("server_files_left"); n > 0 || got.value("connects") != 20 {
		t.Errorf("%v files are left of %v connections; want 0 of 20", n, got.value("connects"))
	}
}

func TestStormRaw(t *testing.T) {
	url := plain(t, func(_ int, conn net.Conn) { conn.Read(make([]byte, 10)) })
	figures{"connects": 20, "failed": 0}.check(t, runScenario(t, "storm", "-raw", "-rate", "100", "-d", "200ms", url))
}
