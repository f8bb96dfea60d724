package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func runEcho(t *testing.T, args ...string) *run {
	t.Helper()
	return runScenario(t, "echo", args...)
}

func TestEchoMeasuresTheDelay(t *testing.T) {
	f := &fake{echo: true, delay: 5 * time.Millisecond}
	got := runEcho(t, "-n", "4", "-d", "500ms", "-pid", fmt.Sprint(os.Getpid()), f.serve(t))
	l, messages := got.measured("latency"), int64(got.value("messages"))
	if l.Min < 5000 || l.Count == 0 {
		t.Errorf("latency %+v: want 5 ms or more", l)
	}
	// One message at a time on each connection, of 5 ms or more. The last ones are answered after the measurement.
	if messages < 1 && got.believable() || float64(messages) > 4*got.Seconds/0.005+4 || l.Count > messages+4 {
		t.Errorf("%d messages, %d latencies", messages, l.Count)
	}
	if got.Seconds < 0.5 || got.value("bench_cores") <= 0 || got.Connections.Opened != 4 {
		t.Errorf("got %+v", got)
	}
	figures{"unanswered": 0}.check(t, got)
	if messages == 0 {
		return
	}
	for _, name := range []string{"messages_per_s", "server_cpu_us_per_message", "server_cores", "server_voluntary_switches_per_s"} {
		if got.value(name) <= 0 {
			t.Errorf("%s is %v", name, got.value(name))
		}
	}
}

func TestInterruptedEchoReports(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := &fake{reply: func(i int) string {
		if i == 100 {
			cancel()
		}
		return strings.Repeat("x", 64)
	}}
	r := runBench(t, ctx, "echo", "-n", "1", "-rate", "1000", "-warmup", "0s", "-d", "1m", f.serve(t))
	if r.code != 1 || !r.found() || !strings.Contains(r.report.Error, "canceled") || !r.marked("messages_per_s") {
		t.Fatalf("exit code %d, report %+v", r.code, r.report)
	}
	if r.value("messages") < 50 || r.Seconds <= 0 || r.Seconds > 50 || r.value("messages_per_s") <= 0 {
		t.Errorf("got %+v; want about 100 messages", r.Figures)
	}
}

// The open loop must feel a stall as TestDriveFeelsAStall says.
func TestEchoOpenLoopFeelsAStall(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := &fake{echo: true, delay: time.Millisecond, stallAt: 50, stall: 300 * time.Millisecond}
	got := runEcho(t, "-n", "1", "-rate", "100", "-d", "2s", f.serve(t))
	figures{"unanswered": 0}.check(t, got)
	if l := got.measured("latency"); l.Count != 200 || l.Max < 300_000 || l.P99 < 279_000 || l.P90 < 99_900 {
		t.Errorf("latency %+v: want 200, and p90, p99 and maximum of 100, 280 and 300 ms or more", l)
	}
	if late := got.measured(scheduleLateness); late.Count != 200 || late.P50 > 100_000 && got.believable() {
		t.Errorf("lateness %+v: the stall was the server's", late)
	}
}

func TestEchoWarmupIsNotCounted(t *testing.T) {
	f := &fake{echo: true, stallAt: 0, stall: 200 * time.Millisecond}
	got := runEcho(t, "-warmup", "500ms", "-n", "1", "-rate", "100", "-d", "200ms", f.serve(t))
	if l := got.measured("latency"); l.Count != 20 {
		t.Errorf("%d latencies; want 20", l.Count)
	}
}

// The server answers only once as many messages are there as are said to be in flight.
func TestEchoKeepsItsDepth(t *testing.T) {
	const depth, size = 4, 100
	rounds := make(chan int64, 8)
	url := plain(t, func(_ int, conn net.Conn) {
		p := make([]byte, depth*size)
		for n := int64(0); ; n++ {
			if _, err := io.ReadFull(conn, p); err != nil {
				rounds <- n
				return
			}
			conn.Write(p)
		}
	})
	got := runEcho(t, "-raw", "-n", "2", "-depth", fmt.Sprint(depth), "-size", fmt.Sprint(size), "-d", "200ms", url)
	answered := depth * (<-rounds + <-rounds)
	messages, l := int64(got.value("messages")), got.measured("latency")
	if messages == 0 || messages > answered || l.Count != answered {
		t.Errorf("%d messages and %d latencies of %d that were answered", messages, l.Count, answered)
	}
}

func TestEchoRawMeasuresTheDelay(t *testing.T) {
	url := plain(t, func(_ int, conn net.Conn) {
		p := make([]byte, 1<<10)
		for {
			n, err := conn.Read(p)
			if err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
			for _, b := range p[:n] { // in pieces, to be put together
				conn.Write([]byte{b})
			}
		}
	})
	got := runEcho(t, "-raw", "-n", "3", "-size", "10", "-d", "300ms", url)
	if n, l := got.value("messages"), got.measured("latency"); l.P50 < 5000 || n < 1 && got.believable() || n > 3*got.Seconds/0.005+3 {
		t.Errorf("%v messages with latency %+v: want 5 ms or more", n, l)
	}
}

func TestEchoFails(t *testing.T) {
	for name, test := range map[string]struct {
		reply func(i int) string
		want  string
	}{
		"no echo": {nil, `the server does not echo: it sent "{\"op\":\"ack\"`},
		"lost": {func(i int) string {
			if i == 3 {
				return ""
			}
			return strings.Repeat("x", 64)
		}, "0 of 2 connections did not get in, 2 were lost"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{reply: test.reply}
			r := runBench(t, t.Context(), "echo", "-warmup", "0s", "-d", "300ms", "-n", "2", f.serve(t))
			if r.code != 1 || !strings.Contains(r.stderr, test.want) {
				t.Errorf("exit code %d, %q; want 1 and %q", r.code, r.stderr, test.want)
			}
		})
	}
}

func TestEchoReportsUnanswered(t *testing.T) {
	t.Parallel() // it waits for the answers as long as bench does
	url := plain(t, func(_ int, conn net.Conn) {
		p := make([]byte, 64)
		io.ReadFull(conn, p)
		time.Sleep(50 * time.Millisecond) // the measurement has begun
		conn.Write(p)
		io.Copy(io.Discard, conn)
	})
	r := runBench(t, t.Context(), "echo", "-raw", "-warmup", "0s", "-d", "1s", "-n", "3", url)
	figures{"messages": 3, "unanswered": 3}.check(t, r.run)
	if r.code != 1 || !r.marked("latency") || !strings.Contains(r.stderr, "3 messages were not answered") {
		t.Errorf("exit code %d, marks %+v; want 1, and the latency marked", r.code, r.Marks)
	}
}

func TestQueue(t *testing.T) {
	var q queue
	start := time.Now()
	in, out := 0, 0
	for range 10 {
		for range 7 {
			q.push(start.Add(time.Duration(in)))
			in++
		}
		for range 5 {
			if got := q.pop(); got != start.Add(time.Duration(out)) {
				t.Fatalf("number %d came out as %d", out, got.Sub(start))
			}
			out++
		}
	}
	if q.n != in-out {
		t.Errorf("%d are left; want %d", q.n, in-out)
	}
}
