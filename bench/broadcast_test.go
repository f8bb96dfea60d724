package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func runBroadcast(t *testing.T, args ...string) *run {
	t.Helper()
	return runScenario(t, "broadcast", append([]string{"-n", "20"}, args...)...)
}

// checkBroadcasts tells whether all of some broadcasts got to 20 viewers.
func checkBroadcasts(t *testing.T, r *run, broadcasts int) {
	t.Helper()
	sent := r.value("broadcasts")
	if sent == 0 || sent+r.value("skipped") != float64(broadcasts) {
		t.Errorf("%v sent, %v skipped; want %d, 0", sent, r.value("skipped"), broadcasts)
	}
	figures{"deliveries": 20 * sent, "incomplete": 0}.check(t, r)
	if n := r.measured("fan_out").Count; float64(n) != sent {
		t.Errorf("%d times; want %v", n, sent)
	}
}

func TestBroadcastCountsDeliveries(t *testing.T) {
	f := &fake{relay: true, delay: 5 * time.Millisecond}
	got := runBroadcast(t, "-rate", "50", "-d", "1s", "-pid", fmt.Sprint(os.Getpid()), f.serve(t))
	checkBroadcasts(t, got, 50)
	if f := got.measured("fan_out"); f.P50 < 5000 {
		t.Errorf("fan-out %+v: want 5 ms or more", f)
	}
	if got.value("server_cpu_us_per_delivery") <= 0 || got.Connections.Opened != 20 {
		t.Errorf("got %+v", got)
	}
}

func TestBroadcastByWords(t *testing.T) {
	f := &fake{announce: func(int) string { return `{"op":"state","seq":1}` }} // and an ack, which is no delivery
	checkBroadcasts(t, runBroadcast(t, "-rate", "50", "-d", "500ms", "-words", "up,stop", f.serve(t)), 25)
}

func TestBroadcastRaw(t *testing.T) {
	const size = 300
	var mu sync.Mutex
	var conns []net.Conn
	all := make(chan struct{})
	url := plain(t, func(n int, conn net.Conn) {
		mu.Lock()
		if conns = append(conns, conn); len(conns) == 21 {
			close(all)
		}
		mu.Unlock()
		p := make([]byte, size)
		for {
			if _, err := io.ReadFull(conn, p); err != nil {
				return
			}
			if n > 1 {
				t.Error("another than the first sends")
			}
			<-all
			mu.Lock()
			for _, c := range conns {
				c.Write(p)
			}
			mu.Unlock()
		}
	})
	checkBroadcasts(t, runBroadcast(t, "-raw", "-size", fmt.Sprint(size), "-rate", "50", "-d", "500ms", url), 25)
}

func TestBroadcastSkipsWhileOneIsUnderWay(t *testing.T) {
	f := &fake{relay: true, stallAt: 0, stall: 300 * time.Millisecond}
	got := runBroadcast(t, "-rate", "100", "-d", "500ms", f.serve(t))
	checkBroadcasts(t, got, 50)
	if n, f := got.value("skipped"), got.measured("fan_out"); n < 25 && got.believable() || f.Max < 300_000 || !got.marked("fan_out") {
		t.Errorf("%v skipped, fan-out %+v; want about 30, and 300 ms once, and marked", n, f)
	}
}

func TestBroadcastReportsIncomplete(t *testing.T) {
	t.Parallel() // it waits for the last as long as bench does
	f := &fake{relay: true, deaf: 3}
	r := runBench(t, t.Context(), "broadcast", "-warmup", "0s", "-n", "20", "-rate", "10", "-d", "100ms", f.serve(t))
	figures{"broadcasts": 1, "incomplete": 1, "deliveries": 19}.check(t, r.run)
	if r.code != 1 || r.measured("fan_out").Count != 0 {
		t.Fatalf("exit code %d, %+v; want 1, and 19 deliveries of an incomplete broadcast", r.code, r.run)
	}
	if !strings.Contains(r.stderr, "1 of 1 broadcasts did not reach everybody") {
		t.Errorf("stderr is %q", r.stderr)
	}
}

func TestBroadcastFails(t *testing.T) {
	for name, test := range map[string]struct {
		reply string
		want  string
	}{
		"refused": {`{"op":"error","code":"not_driver","message":"v7 drives"}`, "the server does not take the sender's word: "},
		"lost":    {"", "the sender's connection: the server at 127.0.0.1:"},
		"nothing": {ack, "no broadcast arrived"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{reply: func(int) string { return test.reply }}
			r := runBench(t, t.Context(), "broadcast", "-warmup", "0s", "-n", "2", "-d", "300ms", "-words", "up,stop", f.serve(t))
			if r.code != 1 || !strings.Contains(r.stderr, test.want) {
				t.Errorf("exit code %d, %q; want 1 and %q", r.code, r.stderr, test.want)
			}
		})
	}
}
