package netpoll

import (
	"bytes"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFinishSendsAllAndWaitsForThePeer(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	r.onData = func(*Conn, []byte) { t.Error("data after Finish") }
	c, peer := pair(t, l, unix.SOCK_STREAM, r)
	want := bytes.Repeat([]byte("last words "), 50_000)
	on(t, l, func() {
		unix.SetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
		c.Write(want)
		c.Finish()
		c.Write([]byte("not sent"))
	})
	peer.Write([]byte("ignored"))
	got, err := io.ReadAll(peer)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, want %d: %v", len(got), len(want), err)
	}
	peer.Close()
	wait(t, r.end, "Closed")
	if r.err != nil {
		t.Errorf("closed with %v, want nil", r.err)
	}
}

func TestFinishInsideAnEvent(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	r.onData = func(c *Conn, _ []byte) { c.Write([]byte("bye")); c.Finish() }
	_, peer := pair(t, l, unix.SOCK_STREAM, r)
	peer.Write([]byte("x"))
	if got, err := io.ReadAll(peer); err != nil || string(got) != "bye" {
		t.Errorf("read %q, %v", got, err)
	}
	peer.Close()
	wait(t, r.end, "Closed")
}

// Who is held when the connection is finished is read to the end like any other.
func TestFinishWhileHeld(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	c, peer := pair(t, l, unix.SOCK_STREAM, r)
	on(t, l, func() {
		c.Hold()
		peer.Write([]byte("ignored"))
		c.Write([]byte("bye"))
		c.Finish()
		c.Resume() // comes too late, and does nothing
	})
	if got, err := io.ReadAll(peer); err != nil || string(got) != "bye" {
		t.Errorf("read %q, %v", got, err)
	}
	peer.Close()
	wait(t, r.end, "Closed")
	if r.err != nil || len(r.data) > 0 {
		t.Errorf("got %q, closed with %v", r.data, r.err)
	}
}

func TestFinishIsBounded(t *testing.T) {
	l := newTestLoop(t, Config{Tick: time.Millisecond})
	r := newRecorder()
	c, _ := pair(t, l, unix.SOCK_STREAM, r) // the peer never closes
	on(t, l, func() { c.Finish() })
	wait(t, r.end, "Closed")
	if r.expired != 0 {
		t.Error("the handler heard of Finish's own deadline")
	}
}

// A peer may take its time for the last bytes, as long as it takes some, but not for ever. (The loop's clock is set
// forward, second by second.)
func TestFinishWaitsForTheSlow(t *testing.T) {
	for _, tt := range []struct {
		name          string
		step          int           // bytes that the peer takes a second
		patience      time.Duration // of the peer, which then takes all the rest at once
		closed, until time.Duration // when the connection is closed on it
	}{
		{"takes nothing", 0, time.Hour, lingerTime, lingerTime + 2*time.Second},
		{"takes too long", 10_000, time.Hour, finishTime, finishTime + 2*time.Second},
		{"takes all in the end", 10_000, finishTime - 2*time.Second, time.Hour, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newTestLoop(t, Config{})
			r := newRecorder()
			r.onData = func(c *Conn, p []byte) { // inside an event, where output gathers
				c.Write(make([]byte, 1<<20))
				c.Finish()
			}
			c, peer := pair(t, l, unix.SOCK_STREAM, r)
			on(t, l, func() { unix.SetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096) })
			peer.Write([]byte("x"))
			left := 1 << 20
			for passed := time.Duration(0); passed < tt.patience; passed += time.Second {
				n, err := io.ReadFull(peer, make([]byte, tt.step))
				if left -= n; err != nil {
					t.Fatal(err)
				}
				over := false
				on(t, l, func() {
					l.start = l.start.Add(-time.Second)
					l.sweep(0)
					over = c.state == closed
				})
				if over {
					if passed += time.Second; passed < tt.closed || passed > tt.until {
						t.Errorf("closed after %s", passed)
					}
					return
				}
			}
			if got, err := io.ReadAll(peer); len(got) != left || err != nil {
				t.Errorf("%d bytes came in the end, want %d: %v", len(got), left, err)
			}
		})
	}
}
