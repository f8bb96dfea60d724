package netpoll

import (
	"bytes"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// halfCloser is a recorder that goes on when its peer has said all it will.
type halfCloser struct {
	*recorder
	heard chan struct{} // closed by the first HalfClosed
	times int
}

func (h *halfCloser) HalfClosed(*Conn) {
	if h.times++; h.times == 1 {
		close(h.heard)
	}
}

// A handler that wants to hear of the end of the input can send for as long as it likes after it, and has all that came
// before.
func TestHalfClosed(t *testing.T) {
	l := newTestLoop(t, Config{})
	for name, stop := range map[string]func(*Conn){"Finish": (*Conn).Finish, "Close": func(c *Conn) { c.Close(io.ErrClosedPipe) }} {
		h := &halfCloser{recorder: newRecorder(), heard: make(chan struct{})}
		c, peer := pair(t, l, unix.SOCK_STREAM, h.recorder)
		on(t, l, func() { c.SetHandler(h) })
		peer.Write([]byte("last"))
		unix.Shutdown(int(peer.Fd()), unix.SHUT_WR)
		wait(t, h.heard, "HalfClosed")
		answer := bytes.Repeat([]byte("x"), 1<<20)
		on(t, l, func() {
			if h.closed != 0 || string(h.data) != "last" {
				t.Errorf("%s: closed %d times, after %q", name, h.closed, h.data)
			}
			unix.SetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
			c.Write(answer)
		})
		if _, err := io.ReadFull(peer, make([]byte, len(answer))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		on(t, l, func() {
			if h.closed != 0 || h.times != 1 {
				t.Errorf("%s: closed %d times, half-closed %d times", name, h.closed, h.times)
			}
			stop(c)
		})
		if n, err := peer.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: after the end came %d bytes, %v", name, n, err)
		}
		wait(t, h.end, "Closed")
	}
}

// A peer that hangs up altogether is noticed when it is written to.
func TestHalfClosedAndGone(t *testing.T) {
	l := newTestLoop(t, Config{})
	h := &halfCloser{recorder: newRecorder(), heard: make(chan struct{})}
	c, peer := pair(t, l, unix.SOCK_STREAM, h.recorder)
	on(t, l, func() { c.SetHandler(h) })
	peer.Close()
	wait(t, h.heard, "HalfClosed")
	on(t, l, func() { c.Write([]byte("x")) })
	wait(t, h.end, "Closed")
	if h.err != unix.EPIPE {
		t.Errorf("closed with %v", h.err)
	}
}
