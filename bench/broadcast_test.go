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

func runBroadcast(t *testing.T, args ...string) *broadcastFigures {
	t.Helper()
	r := runBench(t, t.Context(), append([]string{"broadcast", "-warmup", "0s", "-n", "20"}, args...)...)
	if r.code != 0 || r.report.Broadcast == nil {
		t.Fatalf("exit code %d, figures %v", r.code, r.report.Broadcast)
	}
	return r.report.Broadcast
}

// check tells whether all of some broadcasts got to 20 viewers.
func (f *broadcastFigures) check(t *testing.T, broadcasts int) {
	t.Helper()
	if f.Sent == 0 || f.Sent+f.Skipped != broadcasts || f.Incomplete != 0 {
		t.Errorf("%d sent, %d skipped, %d incomplete; want %d, 0, 0", f.Sent, f.Skipped, f.Incomplete, broadcasts)
	}
	if f.Messages != int64(20*f.Sent) || f.FanOut.Count != f.Sent {
		t.Errorf("%d deliveries, %d times; want %d, %d", f.Messages, f.FanOut.Count, 20*f.Sent, f.Sent)
	}
}

func TestBroadcastCountsDeliveries(t *testing.T) {
	f := &fake{relay: true, delay: 5 * time.Millisecond}
	got := runBroadcast(t, "-rate", "50", "-d", "1s", "-pid", fmt.Sprint(os.Getpid()), f.serve(t))
	got.check(t, 50)
	if got.FanOut.P50 < 5000 {
		t.Errorf("fan-out %+v: want 5 ms or more", got.FanOut)
	}
	if got.Server == nil || got.Server.PerMessage <= 0 || got.Size != 200 || got.Viewers.Opened != 20 {
		t.Errorf("got %+v", got)
	}
}

func TestBroadcastByWords(t *testing.T) {
	f := &fake{announce: `{"op":"state","seq":1}`} // and an ack, which is no delivery
	got := runBroadcast(t, "-rate", "50", "-d", "500ms", "-words", "up,stop", f.serve(t))
	got.check(t, 25)
	if strings.Join(got.Words, ",") != "up,stop" || got.Size != 0 {
		t.Errorf("got %+v", got)
	}
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
	runBroadcast(t, "-raw", "-size", fmt.Sprint(size), "-rate", "50", "-d", "500ms", url).check(t, 25)
}

func TestBroadcastSkipsWhileOneIsUnderWay(t *testing.T) {
	f := &fake{relay: true, stallAt: 0, stall: 300 * time.Millisecond}
	got := runBroadcast(t, "-rate", "100", "-d", "500ms", f.serve(t))
	got.check(t, 50)
	if got.Skipped < 25 || got.FanOut.Max < 300_000 {
		t.Errorf("%d skipped, fan-out %+v; want about 30, and 300 ms once", got.Skipped, got.FanOut)
	}
}

func TestBroadcastReportsIncomplete(t *testing.T) {
	f := &fake{relay: true, deaf: 3}
	r := runBench(t, t.Context(), "broadcast", "-warmup", "0s", "-n", "20", "-rate", "10", "-d", "100ms", f.serve(t))
	got := r.report.Broadcast
	if r.code != 1 || got == nil || got.Sent != 1 || got.Incomplete != 1 || got.Messages != 19 || got.FanOut.Count != 0 {
		t.Fatalf("exit code %d, %+v; want 1, and 19 deliveries of an incomplete broadcast", r.code, got)
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
