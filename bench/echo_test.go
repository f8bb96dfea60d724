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

func runEcho(t *testing.T, args ...string) *echoFigures {
	t.Helper()
	r := runBench(t, t.Context(), append([]string{"echo", "-warmup", "0s"}, args...)...)
	if r.code != 0 || r.report.Echo == nil {
		t.Fatalf("exit code %d, figures %v", r.code, r.report.Echo)
	}
	return r.report.Echo
}

func TestEchoMeasuresTheDelay(t *testing.T) {
	f := &fake{echo: true, delay: 5 * time.Millisecond}
	got := runEcho(t, "-n", "4", "-d", "500ms", "-pid", fmt.Sprint(os.Getpid()), f.serve(t))
	if got.Latency.P50 < 5000 || got.Latency.Count == 0 {
		t.Errorf("latency %+v: want 5 ms or more", got.Latency)
	}
	// One message at a time on each connection, of 5 ms or more. The last ones are answered after the measurement.
	if got.Messages < 4 || got.Messages > 4*100 || got.Latency.Count > int(got.Messages)+4 || got.Unanswered != 0 {
		t.Errorf("%d messages, %d of them late, %d latencies", got.Messages, got.Unanswered, got.Latency.Count)
	}
	if got.Seconds < 0.5 || got.PerSecond <= 0 || got.Load <= 0 || got.Depth != 1 || got.Size != 64 || got.Clients.Opened != 4 {
		t.Errorf("got %+v", got)
	}
	if s := got.Server; s == nil || s.PerMessage <= 0 || s.Cores <= 0 || s.Voluntary <= 0 {
		t.Errorf("the process is %+v", s)
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
	got := r.report.Echo
	if r.code != 1 || got == nil || !strings.Contains(r.report.Error, "canceled") {
		t.Fatalf("exit code %d, report %+v", r.code, r.report)
	}
	if got.Messages < 100 || got.Seconds <= 0 || got.Seconds > 50 || got.PerSecond <= 0 {
		t.Errorf("got %+v; want 100 messages or a few more", got)
	}
}

// The open loop must feel a stall as TestDriveFeelsAStall says.
func TestEchoOpenLoopFeelsAStall(t *testing.T) {
	f := &fake{echo: true, delay: time.Millisecond, stallAt: 50, stall: 300 * time.Millisecond}
	got := runEcho(t, "-n", "1", "-rate", "100", "-d", "2s", f.serve(t))
	if got.Latency.Count != 200 || got.Unanswered != 0 || got.Rate != 100 || got.Depth != 0 {
		t.Fatalf("got %+v; want 200 latencies", got)
	}
	if got.Latency.Max < 300_000 || got.Latency.P99 < 277_000 || got.Latency.P90 < 99_000 {
		t.Errorf("latency %+v: want p90, p99 and maximum of 100, 280 and 300 ms or more", got.Latency)
	}
}

func TestEchoWarmupIsNotCounted(t *testing.T) {
	f := &fake{echo: true, stallAt: 0, stall: 200 * time.Millisecond}
	got := runEcho(t, "-warmup", "500ms", "-n", "1", "-rate", "100", "-d", "200ms", f.serve(t))
	if got.Latency.Count != 20 {
		t.Errorf("%d latencies; want 20", got.Latency.Count)
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
	if got.Messages == 0 || got.Messages > answered || int64(got.Latency.Count) != answered {
		t.Errorf("%d messages and %d latencies of %d that were answered", got.Messages, got.Latency.Count, answered)
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
	if got.Latency.P50 < 5000 || got.Messages < 3 || got.Messages > 3*60 {
		t.Errorf("%d messages with latency %+v: want 5 ms or more", got.Messages, got.Latency)
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
		}, "0 of 2 viewers did not get in, 2 were lost"},
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
	if testing.Short() {
		t.Skip("waits for the answers as long as bench does")
	}
	url := plain(t, func(_ int, conn net.Conn) {
		p := make([]byte, 64)
		io.ReadFull(conn, p)
		conn.Write(p)
		io.Copy(io.Discard, conn)
	})
	r := runBench(t, t.Context(), "echo", "-raw", "-warmup", "0s", "-d", "100ms", "-n", "3", url)
	got := r.report.Echo
	if r.code != 1 || got == nil || got.Messages != 3 || got.Unanswered != 3 || !strings.Contains(r.stderr, "3 messages were not answered") {
		t.Errorf("exit code %d, %+v; want 1, and 3 answered and 3 not", r.code, got)
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	if got := h.percentiles(); got != (percentiles{}) {
		t.Errorf("of none: %+v", got)
	}
	var s samples
	for i := 1; i <= 100_000; i++ {
		d := time.Duration(i) * 7919 * time.Nanosecond
		h.add(d)
		s = append(s, d)
	}
	got, want := h.percentiles(), s.percentiles()
	if got.Count != want.Count || got.Max != want.Max {
		t.Errorf("got %+v; want %+v", got, want)
	}
	for _, p := range [][2]int64{{got.P50, want.P50}, {got.P90, want.P90}, {got.P99, want.P99}, {got.P999, want.P999}} {
		if p[0] < p[1] || float64(p[0]) > float64(p[1])*(1+1./fineness) {
			t.Errorf("got %+v; want %+v to within 1 in %d above", got, want, fineness)
		}
	}
	h.add(-1)
	h.add(1<<63 - 1)
	if got := h.percentiles(); got.Count != 100_002 || got.Max != time.Duration(1<<63-1).Microseconds() {
		t.Errorf("with the extremes: %+v", got)
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
