package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

func TestIdleHolds(t *testing.T) {
	f := &fake{}
	r := runBench(t, t.Context(), "idle", "-n", "200", "-hold", "100ms", "-rate", "2000", "-pid", fmt.Sprint(os.Getpid()), f.serve(t))
	if r.code != 0 {
		t.Fatalf("exit code %d", r.code)
	}
	c, h := r.Connections, r.measured("handshake")
	if c.Opened != 200 || c.Failed != 0 || c.Lost != 0 || h.Count != 200 || h.P50 <= 0 {
		t.Errorf("got %+v, %+v; want 200 opened", c, h)
	}
	if c.OpenSeconds < 199./2000 {
		t.Errorf("opened in %v s; want no more than 2000/s", c.OpenSeconds)
	}
	if r.Seconds < 0.1 {
		t.Errorf("held for %v s; want 0.1", r.Seconds)
	}
	p := r.Process
	if p == nil || p.Before.Resident <= 0 || p.End.Resident <= 0 || p.End.Anonymous <= 0 || p.End.Threads <= 0 || p.End.Files < 200 || p.End.CPU < p.Before.CPU {
		t.Errorf("the process is %+v", p)
	}
	if r.report.Scenario != "idle" || r.report.Machine.CPUs != runtime.NumCPU() || !strings.HasPrefix(r.report.Machine.Kernel, "Linux ") {
		t.Errorf("the report's head is %+v", r.report)
	}
	for _, want := range []string{"200 of 200 opened", "0 lost", "handshake", "resident"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
}

func TestIdleReportsLost(t *testing.T) {
	f := &fake{}
	f.upgraded = func(n int, _ net.Conn) {
		if n < 200 {
			return
		}
		for _, conn := range f.conns[:30] {
			conn.Close()
		}
		for _, conn := range f.conns[30:50] {
			ws.WriteFrame(conn, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusGoingAway, "bye")))
			conn.(*net.TCPConn).CloseWrite()
		}
	}
	r := runBench(t, t.Context(), "idle", "-n", "200", "-hold", "1s", f.serve(t))
	got := r.Connections
	if r.code != 1 || got == nil || got.Opened != 200 || got.Lost != 50 {
		r.skipUnlessBelievable(t)
		t.Fatalf("exit code %d, figures %+v; want 1, and 50 of 200 lost", r.code, got)
	}
	figures{"viewers_held": 150}.check(t, r.run)
	if n := got.Reasons["the server closed the connection: 1001 bye"]; n != 20 {
		t.Errorf("%d were told goodbye; want 20", n)
	}
	if !strings.Contains(r.stderr, "0 of 200 viewers did not get in, 50 were lost") {
		t.Errorf("stderr is %q", r.stderr)
	}
}

// When the server is gone nobody waits for the end of the run.
func TestIdleEndsWhenAllAreLost(t *testing.T) {
	f := &fake{}
	f.upgraded = func(n int, _ net.Conn) {
		if n == 20 {
			for _, conn := range f.conns {
				conn.Close()
			}
		}
	}
	r := runBench(t, t.Context(), "idle", "-n", "20", "-hold", "5m", f.serve(t))
	if want := "20 were lost: the server at 127.0.0.1:"; r.code != 1 || !strings.Contains(r.stderr, want) || r.Connections.Lost != 20 {
		t.Errorf("exit code %d, %q, %+v; want 1, %q", r.code, r.stderr, r.Connections, want)
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, unix.ENOSPC }

func TestFiguresThatCanNotBeWritten(t *testing.T) {
	var stderr strings.Builder
	f := &fake{}
	code := program(t.Context(), []string{"idle", "-n", "1", "-hold", "1ms", f.serve(t)}, full{}, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), "no space left on device") {
		t.Errorf("exit code %d, %q; want 1, and why", code, stderr.String())
	}
}

func TestIdleChurns(t *testing.T) {
	f := &fake{}
	r := runBench(t, t.Context(), "idle", "-n", "20", "-hold", "500ms", "-churn", "100", f.serve(t))
	if r.code != 0 || r.Connections.Lost != 0 || r.Connections.Wanted != 20 {
		t.Fatalf("exit code %d, %+v; want 0, and nobody lost", r.code, r.Connections)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	replaced := r.value("viewers_replaced")
	if r.value("viewers_held") != 20 || replaced != 50 && r.believable() || int(replaced) != len(f.conns)-20 {
		t.Errorf("%v held, %v replaced, %d came; want 20 and 50", r.value("viewers_held"), replaced, len(f.conns))
	}
}

// Who comes does so only for one who leaves, also when the schedule is ahead of both.
func TestChurnKeepsTheCrowd(t *testing.T) {
	f := &fake{}
	r := runBench(t, t.Context(), "idle", "-n", "2", "-hold", "200ms", "-churn", "10000", f.serve(t))
	if held, replaced := r.value("viewers_held"), r.value("viewers_replaced"); r.code != 0 || held != 2 || replaced < 1 {
		t.Errorf("exit code %d, %v held, %v replaced; want 2, and some", r.code, held, replaced)
	}
}

func TestInterruptedRunReports(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	f := &fake{upgraded: func(n int, _ net.Conn) {
		if n == 20 {
			cancel()
		}
	}}
	r := runBench(t, ctx, "idle", "-n", "10000", "-rate", "100", "-hold", "1m", f.serve(t))
	if r.code != 1 || !r.found() || !strings.Contains(r.report.Error, "canceled") || !r.marked("handshake") {
		t.Fatalf("exit code %d, report %+v", r.code, r.report)
	}
	if n := r.Connections.Opened; n < 1 || n >= 10000 || !strings.Contains(r.stdout, fmt.Sprintf("%d of 10000 opened", n)) {
		t.Errorf("%d opened", n)
	}
}

// answer serves a fixed answer to every connection.
func answer(t *testing.T, text string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, text)
			conn.Close()
		}
	}()
	return ln.Addr().String()
}

func TestNoSuchServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := ln.Addr().String()
	ln.Close()
	for name, test := range map[string]struct{ addr, want string }{
		"nobody listens": {free, "connection refused: is roverd running at " + free + "?"},
		"no WebSocket":   {answer(t, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), `it answered "HTTP/1.1 403 Forbidden"`},
		"silence":        {answer(t, ""), "closed the connection without a word"},
	} {
		for _, sc := range scenarios {
			t.Run(name+" "+sc.name, func(t *testing.T) {
				args := []string{sc.name}
				if sc != &failsafe {
					args = append(args, "-n", "1000")
				}
				r := runBench(t, t.Context(), append(args, "http://"+test.addr)...)
				if r.code != 1 || !strings.Contains(r.stderr, test.want) {
					t.Errorf("exit code %d, %q; want 1 and %q", r.code, r.stderr, test.want)
				}
				if r.stdout != "" || len(r.report.Runs) > 0 || len(r.report.Summary) > 0 {
					t.Errorf("there are figures of a run that never began: %s", r.stdout)
				}
			})
		}
	}
}

func TestGoroutinesEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("run", func(t *testing.T) {
		url := fakeCar(0, nil).serve(t)
		runBench(t, t.Context(), "idle", "-n", "10", "-hold", "0s", url)
		runBench(t, t.Context(), "drive", "-n", "10", "-d", "100ms", "-warmup", "0s", url)
		runBench(t, t.Context(), "echo", "-n", "10", "-d", "100ms", "-warmup", "0s", url)
		runBench(t, t.Context(), "broadcast", "-n", "10", "-d", "100ms", "-warmup", "0s", "-words", "up,stop", url)
		runBench(t, t.Context(), "slow", "-n", "10", "-slow", "10", "-d", "100ms", "-warmup", "0s", url)
		runBench(t, t.Context(), "storm", "-d", "100ms", "-warmup", "0s", "-rate", "100", url)
	})
	tick := time.NewTicker(10 * time.Millisecond) // those of easygo's poller end a little after its Close
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for runtime.NumGoroutine() > before {
		select {
		case <-tick.C:
		case <-deadline:
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}
