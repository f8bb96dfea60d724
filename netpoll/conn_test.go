package netpoll

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A SOCK_SEQPACKET socket keeps the borders of writes, so it shows how many there were.
func TestOneWritePerEvent(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	r.onData = func(c *Conn, p []byte) {
		for i := range 5 {
			c.Write(fmt.Appendf(nil, "%s%d ", p, i))
		}
		if c.Backlog() != 5*3 {
			t.Errorf("backlog inside the event is %d, want 15", c.Backlog())
		}
	}
	_, peer := pair(t, l, unix.SOCK_SEQPACKET, r)
	peer.Write([]byte("a"))
	buf := make([]byte, 100)
	n, err := peer.Read(buf)
	if got := string(buf[:n]); err != nil || got != "a0 a1 a2 a3 a4 " {
		t.Errorf("the first write was %q, %v", got, err)
	}
}

func TestLeftoversAreSentInOrder(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	drained := make(chan struct{})
	r.onDrained = func(c *Conn) {
		if c.Backlog() != 0 || c.rest != nil {
			t.Error("drained with a backlog, or with its buffer kept")
		}
		close(drained)
	}
	c, peer := pair(t, l, unix.SOCK_STREAM, r)
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(rand.Uint32())
	}
	on(t, l, func() {
		unix.SetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
		for chunk := range slices.Chunk(want, 10_000) {
			c.Write(chunk)
		}
		if c.Backlog() == 0 {
			t.Error("a tiny send buffer took a megabyte")
		}
	})
	got := make([]byte, len(want))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the bytes differ: %v", err)
	}
	wait(t, drained, "Drained")
	on(t, l, func() {
		if r.drained != 1 || c.events != input {
			t.Errorf("drained %d times, watched for %#x", r.drained, c.events)
		}
	})
}

// Memory is given back as the peer takes what it is owed, not only when it has all: Backlog is what a connection costs.
func TestLeftoversGiveBackMemory(t *testing.T) {
	l := newTestLoop(t, Config{})
	const size = 32 << 20
	c, peer := pair(t, l, unix.SOCK_STREAM, newRecorder())
	on(t, l, func() { c.Write(make([]byte, size)) })
	left := size
	for left > size/16 {
		n, err := peer.Read(make([]byte, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		if left -= n; left <= size/16 {
			on(t, l, func() {
				if !c.Blocked() {
					t.Error("nothing is left, so the test shows nothing")
				}
			})
		}
	}
	runtime.GC()
	var mem runtime.MemStats
	if runtime.ReadMemStats(&mem); mem.HeapAlloc > size/2 {
		t.Errorf("the heap has %d bytes for %d", mem.HeapAlloc, left)
	}
}

// A paused connection is not read while its peer does not take what it has coming, and is read again when it has.
func TestPause(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	r.onData = func(c *Conn, p []byte) {
		c.Write(p)
		c.Pause()
	}
	c, peer := pair(t, l, unix.SOCK_STREAM, r)
	on(t, l, func() { unix.SetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096) })
	const total = 8 << 20 // more than all buffers on the way
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		peer.Write(make([]byte, total))
	}()
	for got := 0; got < total; {
		n, err := peer.Read(make([]byte, 10_000))
		if err != nil {
			t.Fatal(err)
		}
		got += n
		on(t, l, func() {
			if c.Backlog() > readSize {
				t.Errorf("%d bytes wait: it was read on", c.Backlog())
			}
		})
	}
	<-sent
}

// A connection that is held is not read, whatever it writes, until it is resumed; but its end is noticed.
func TestHold(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	c, peer := pair(t, l, unix.SOCK_STREAM, r)
	on(t, l, func() {
		c.Hold()
		peer.Write([]byte("early"))
		c.Pause() // does not end it
		c.Write([]byte("meanwhile"))
	})
	if _, err := io.ReadFull(peer, make([]byte, len("meanwhile"))); err != nil {
		t.Fatal(err)
	}
	on(t, l, func() {}) // a turn for what has come to be told of
	read := make(chan struct{})
	on(t, l, func() {
		if len(r.data) > 0 {
			t.Errorf("%q was read while held", r.data)
		}
		r.onData = func(c *Conn, _ []byte) {
			c.Hold()
			close(read)
		}
		c.Resume()
	})
	wait(t, read, "what came meanwhile")
	peer.Write([]byte("late"))
	unix.Shutdown(int(peer.Fd()), unix.SHUT_WR)
	wait(t, r.end, "Closed")
	if string(r.data) != "early" || r.err != io.EOF {
		t.Errorf("got %q, %v", r.data, r.err)
	}
}

// Of a connection that breaks while it is held one hears the socket's error.
func TestResetWhileHeld(t *testing.T) {
	l := newTestLoop(t, Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := newRecorder()
	held := make(chan struct{})
	r.onDrained = func(c *Conn) {
		c.Hold()
		close(held)
	}
	on(t, l, func() {
		if _, err := l.Dial(netip.Addr{}, addrOf(ln), nil, r); err != nil {
			t.Error(err)
		}
	})
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	wait(t, held, "Drained")
	peer.(*net.TCPConn).SetLinger(0)
	peer.Close()
	wait(t, r.end, "Closed")
	if r.err != unix.ECONNRESET {
		t.Errorf("closed with %v", r.err)
	}
}

// A read ends before urgent data (tcp(7)), though more may stand behind it: that must not wait until still more comes.
func TestUrgentData(t *testing.T) {
	l := newTestLoop(t, Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := newRecorder()
	peer, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(peer)
	at := addrOf(ln)
	if err := unix.Connect(peer, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	theirs, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f, err := theirs.(*net.TCPConn).File()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		text  string
		flags int
	}{{"before ", 0}, {"!", unix.MSG_OOB}, {"behind", 0}} {
		if err := unix.Send(peer, []byte(part.text), part.flags); err != nil {
			t.Fatal(err)
		}
	}
	all := make(chan struct{})
	r.onData = func(*Conn, []byte) {
		if string(r.data) == "before behind" {
			close(all)
		}
	}
	l.Adopt(fd, at, nil, func(*Conn, netip.AddrPort) Handler { return r })
	wait(t, all, "what stands behind urgent data")
}

// The last bytes and the end of the input can come as one event; and while a connection is paused neither is read.
func TestEndComesWithTheLastBytes(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	c, peer := pair(t, l, unix.SOCK_STREAM, r)
	end := func() { peer.Write([]byte("last")); unix.Shutdown(int(peer.Fd()), unix.SHUT_WR) }
	on(t, l, end) // while the loop waits for none of it
	wait(t, r.end, "Closed")
	if string(r.data) != "last" || r.err != io.EOF {
		t.Errorf("got %q, %v", r.data, r.err)
	}

	r = newRecorder()
	c, peer = pair(t, l, unix.SOCK_STREAM, r)
	on(t, l, func() {
		unix.SetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
		c.Write(make([]byte, 1<<20))
		c.Pause()
		end()
	})
	on(t, l, func() {}) // a turn for the end to be told of
	on(t, l, func() {
		if len(r.data) > 0 {
			t.Errorf("%q was read while paused", r.data)
		}
	})
	if n, err := io.Copy(io.Discard, io.LimitReader(peer, 1<<20)); n != 1<<20 {
		t.Errorf("%d bytes came, %v", n, err)
	}
	wait(t, r.end, "Closed")
	if string(r.data) != "last" || r.err != io.EOF {
		t.Errorf("after the pause: got %q, %v", r.data, r.err)
	}
}

// A preferred connection is served after a few events of a crowd that was there before it, an ordinary one after them all.
// Either way nothing that came in is lost when the preference changes.
func TestPrefer(t *testing.T) {
	between := 0
	l := newTestLoop(t, Config{Between: func() { between++ }})
	var order []*Conn
	note := func(c *Conn, _ []byte) { order = append(order, c) }
	var peers []*os.File
	const crowd = 100
	for range crowd {
		r := newRecorder()
		r.onData = note
		_, peer := pair(t, l, unix.SOCK_STREAM, r)
		peers = append(peers, peer)
	}
	r := newRecorder()
	r.onData = note
	c, peer := pair(t, l, unix.SOCK_STREAM, r)
	peers = append(peers, peer)
	for _, preferred := range []bool{true, false, true} {
		on(t, l, func() {
			order = nil
			for _, p := range peers {
				p.Write([]byte("x"))
			}
			c.Prefer(preferred)
			c.Prefer(preferred)
		})
		for all := false; !all; {
			on(t, l, func() { all = len(order) == crowd+1 })
		}
		at := slices.Index(order, c)
		if preferred && at > 2*passEvery || !preferred && at < crowd {
			t.Errorf("preferred %v: it was number %d", preferred, at)
		}
	}
	on(t, l, func() {
		if between < 3*crowd/passEvery {
			t.Errorf("between was called %d times", between)
		}
	})
	peer.Close()
	wait(t, r.end, "Closed")
	on(t, l, func() {
		if l.preferred != 0 {
			t.Errorf("%d are preferred", l.preferred)
		}
	})
}

func TestClosedExactlyOnce(t *testing.T) {
	errOwn := errors.New("own")
	tests := []struct {
		name string
		act  func(t *testing.T, l *Loop, c *Conn, r *recorder, peer *os.File)
		want error
	}{
		{"peer closes", func(t *testing.T, l *Loop, c *Conn, r *recorder, peer *os.File) { peer.Close() }, io.EOF},
		{"own close, twice", func(t *testing.T, l *Loop, c *Conn, r *recorder, peer *os.File) {
			on(t, l, func() { c.Close(errOwn); c.Close(io.EOF); c.Finish(); c.Write([]byte("x")) })
		}, errOwn},
		{"close in Data while the peer closes", func(t *testing.T, l *Loop, c *Conn, r *recorder, peer *os.File) {
			on(t, l, func() { r.onData = func(c *Conn, _ []byte) { c.Close(errOwn) } })
			peer.Write([]byte("x"))
			peer.Close()
		}, errOwn},
		{"write to a peer that has closed", func(t *testing.T, l *Loop, c *Conn, r *recorder, peer *os.File) {
			on(t, l, func() {
				peer.Close()
				c.Write([]byte("x"))
			})
		}, unix.EPIPE},
		{"loop closes", func(t *testing.T, l *Loop, c *Conn, r *recorder, peer *os.File) { l.Close() }, ErrLoopClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newTestLoop(t, Config{})
			r := newRecorder()
			c, peer := pair(t, l, unix.SOCK_STREAM, r)
			tt.act(t, l, c, r, peer)
			wait(t, r.end, "Closed")
			l.Close()
			if r.closed != 1 || r.err != tt.want {
				t.Errorf("closed %d times with %v, want once with %v", r.closed, r.err, tt.want)
			}
			if len(l.free) != len(l.conns) {
				t.Errorf("%d slots, %d free", len(l.conns), len(l.free))
			}
		})
	}
}

func TestDetach(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	c, peer := pair(t, l, unix.SOCK_STREAM, r)
	var fd int
	on(t, l, func() {
		var err error
		if fd, err = c.Detach(); err != nil {
			t.Error(err)
		}
	})
	peer.Write([]byte("for the new owner"))
	on(t, l, func() {})
	l.Close()
	buf := make([]byte, 100)
	n, errno := read(fd, buf)
	if errno != 0 || string(buf[:n]) != "for the new owner" {
		t.Errorf("the new owner reads %q, %v", buf[:max(n, 0)], errno)
	}
	if r.closed != 0 || len(r.data) != 0 {
		t.Error("events after Detach")
	}
	unix.Close(fd)
}

// A connection that went from one loop to another has what was read before, then what came in between, then the rest; what
// it answers to the first leaves too.
func TestAdopt(t *testing.T) {
	from, to := newTestLoop(t, Config{}), newTestLoop(t, Config{})
	c, peer := pair(t, from, unix.SOCK_STREAM, newRecorder())
	var fd int
	on(t, from, func() { fd, _ = c.Detach() })
	peer.Write([]byte("between "))
	r := newRecorder()
	r.onData = func(c *Conn, p []byte) { c.Write(p) }
	at := netip.MustParseAddrPort("192.0.2.1:1")
	to.Adopt(fd, at, []byte("before "), func(_ *Conn, from netip.AddrPort) Handler {
		if from != at {
			t.Errorf("it comes from %s", from)
		}
		return r
	})
	const all = "before between behind"
	peer.Write([]byte("behind"))
	echoed := make([]byte, len(all))
	if _, err := io.ReadFull(peer, echoed); err != nil || string(echoed) != all {
		t.Errorf("%q came back, %v", echoed, err)
	}
	peer.Close()
	wait(t, r.end, "Closed")
	if string(r.data) != all {
		t.Errorf("it was read %q", r.data)
	}

	// A loop that has ended takes none, and keeps no descriptor.
	_, peer = pair(t, from, unix.SOCK_STREAM, newRecorder())
	on(t, from, func() { fd, _ = from.conns[0].Detach() })
	to.Close()
	to.Adopt(fd, at, nil, func(*Conn, netip.AddrPort) Handler { t.Error("opened"); return nil })
	if _, err := io.ReadAll(peer); err != nil {
		t.Error(err)
	}
}

func TestDial(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l := newTestLoop(t, Config{})
	r := newRecorder()
	connected := make(chan struct{})
	r.onDrained = func(*Conn) { close(connected) }
	on(t, l, func() {
		if _, err := l.Dial(netip.MustParseAddr("127.0.0.9"), addrOf(ln), []byte("hello"), r); err != nil {
			t.Error(err)
		}
	})
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	wait(t, connected, "Drained")
	if host, _, _ := net.SplitHostPort(c.RemoteAddr().String()); host != "127.0.0.9" {
		t.Errorf("dialled from %s", host)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hello" {
		t.Errorf("read %q, %v", buf, err)
	}
	c.Close()
	wait(t, r.end, "Closed")
}

func TestDialRefused(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := addrOf(ln)
	ln.Close()
	l := newTestLoop(t, Config{})
	r := newRecorder()
	on(t, l, func() {
		if _, err := l.Dial(netip.Addr{}, addr, []byte("hello"), r); err != nil {
			t.Error(err)
		}
	})
	wait(t, r.end, "Closed")
	if r.err != unix.ECONNREFUSED || r.drained != 0 {
		t.Errorf("closed with %v, drained %d times", r.err, r.drained)
	}
}

func addrOf(ln net.Listener) netip.AddrPort { return ln.Addr().(*net.TCPAddr).AddrPort() }

// What a connection costs is part of the design: a million of them are held. Growing it has to be meant.
func TestConnIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(Conn{}); got > 48 && unsafe.Sizeof(uintptr(0)) == 8 {
		t.Errorf("a Conn has %d bytes, want 48", got)
	}
}
