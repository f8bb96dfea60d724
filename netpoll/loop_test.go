package netpoll

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a handler that does what its fields say and remembers what happened. Its fields belong to the loop.
type recorder struct {
	onData    func(c *Conn, p []byte)
	onDrained func(c *Conn)
	onExpired func(c *Conn)

	data    []byte
	drained int
	expired int
	closed  int
	err     error
	end     chan struct{} // closed by the first Closed
}

func newRecorder() *recorder { return &recorder{end: make(chan struct{})} }

func (r *recorder) Data(c *Conn, p []byte) {
	r.data = append(r.data, p...)
	if r.onData != nil {
		r.onData(c, p)
	}
}

func (r *recorder) Drained(c *Conn) {
	r.drained++
	if r.onDrained != nil {
		r.onDrained(c)
	}
}

func (r *recorder) Expired(c *Conn) {
	r.expired++
	if r.onExpired != nil {
		r.onExpired(c)
	}
}

func (r *recorder) Closed(c *Conn, err error) {
	if r.closed++; r.closed == 1 {
		r.err = err
		close(r.end)
	}
}

// newTestLoop starts a loop that must give back every descriptor it took, and whose recorders must each have been
// closed exactly once.
func newTestLoop(t *testing.T, cfg Config) *Loop {
	t.Helper()
	before := descriptors(t)
	l, err := NewLoop(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		if after := descriptors(t); len(after) > len(before) {
			t.Errorf("descriptors leaked: before %v, after %v", before, after)
		}
	})
	return l
}

func newTestAcceptor(t *testing.T, onError func(error)) *Acceptor {
	t.Helper()
	if onError == nil {
		onError = func(err error) { t.Error(err) }
	}
	a, err := NewAcceptor(onError)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func descriptors(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasSuffix(to, "/fd") {
			all = append(all, e.Name()+"="+to)
		}
	}
	return all
}

// on runs f on the loop's goroutine and waits for it.
func on(t *testing.T, l *Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.Post(func() { defer close(done); f() }) {
		t.Fatal("the loop takes nothing more")
	}
	<-done
}

// pair connects a recorder on the loop to a blocking descriptor of the test's.
func pair(t *testing.T, l *Loop, kind int, r *recorder) (*Conn, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		t.Fatal(err)
	}
	var c *Conn
	on(t, l, func() {
		if c, err = l.adopt(fds[0], unix.EPOLLIN); err == nil {
			c.SetHandler(r)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	peer := os.NewFile(uintptr(fds[1]), "peer")
	t.Cleanup(func() { peer.Close() })
	return c, peer
}

func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s did not happen", what)
	}
}

func TestEchoOverTCP(t *testing.T) {
	before := descriptors(t)
	const loops, clients = 3, 50
	listeners, err := Listen("127.0.0.1:0", loops)
	if err != nil {
		t.Fatal(err)
	}
	a := newTestAcceptor(t, nil)
	var opened, closed atomic.Int64
	var all []*Loop
	for _, ln := range listeners {
		l, err := NewLoop(Config{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
		err = a.Accept(ln, l, func(c *Conn, _ netip.AddrPort) Handler {
			opened.Add(1)
			return &echo{&closed}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			c, err := net.Dial("tcp", listeners[0].Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			sent := bytes.Repeat([]byte("0123456789abcdef"), 20_000) // more than one read, more than the cork
			go c.Write(sent)
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("echo differs: %v", err)
			}
		})
	}
	wg.Wait()
	a.Close()
	for _, l := range all {
		l.Close()
	}
	if opened.Load() != clients || closed.Load() != clients {
		t.Errorf("%d connections: %d opened, %d closed", clients, opened.Load(), closed.Load())
	}
	if after := descriptors(t); len(after) > len(before) {
		t.Errorf("descriptors leaked: before %v, after %v", before, after)
	}
}

type echo struct{ closed *atomic.Int64 }

func (e *echo) Data(c *Conn, p []byte) { c.Write(p) }
func (e *echo) Drained(*Conn)          {}
func (e *echo) Expired(*Conn)          {}
func (e *echo) Closed(*Conn, error)    { e.closed.Add(1) }

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
		if r.drained != 1 || c.events != unix.EPOLLIN {
			t.Errorf("drained %d times, watched for %#x", r.drained, c.events)
		}
	})
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

// One callback closes its neighbour, whose event is already in the batch, and opens a new connection meanwhile. The
// neighbour's event must reach neither the closed connection nor the new one.
func TestCloseAndOpenWithinABatch(t *testing.T) {
	l := newTestLoop(t, Config{})
	var conns [2]*Conn
	var recs [2]*recorder
	var peers [2]*os.File
	fresh := newRecorder()
	var freshConn *Conn
	for i := range 2 {
		recs[i] = newRecorder()
		recs[i].onData = func(*Conn, []byte) {
			if freshConn != nil {
				t.Error("the closed neighbour got its event")
				return
			}
			conns[1-i].Close(nil)
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			if freshConn, err = l.adopt(fds[0], unix.EPOLLIN); err != nil {
				t.Error(err)
			}
			freshConn.SetHandler(fresh)
			fresh.onData = func(*Conn, []byte) { t.Error("the new connection got somebody else's event") }
			if freshConn.fd == conns[1-i].fd || freshConn.slot == conns[1-i].slot {
				t.Error("descriptor or slot were reused within the turn")
			}
			t.Cleanup(func() { unix.Close(fds[1]) })
		}
		conns[i], peers[i] = pair(t, l, unix.SOCK_STREAM, recs[i])
	}
	on(t, l, func() { // both are readable before the loop looks
		peers[0].Write([]byte("x"))
		peers[1].Write([]byte("x"))
	})
	on(t, l, func() {})
	on(t, l, func() {})
	l.Close()
	if n := recs[0].closed + recs[1].closed; n != 2 || fresh.closed != 1 {
		t.Errorf("the neighbours were closed %d times, the new one %d times", n, fresh.closed)
	}
	if got := len(recs[0].data) + len(recs[1].data); got != 1 {
		t.Errorf("%d callbacks ran, want 1", got)
	}
}

func TestSlotsAreReused(t *testing.T) {
	l := newTestLoop(t, Config{})
	for range 50 {
		r := newRecorder()
		_, peer := pair(t, l, unix.SOCK_STREAM, r)
		peer.Close()
		wait(t, r.end, "Closed")
	}
	on(t, l, func() {
		if len(l.conns) > 2 || len(l.free) != len(l.conns) {
			t.Errorf("%d slots, %d free", len(l.conns), len(l.free))
		}
	})
}

func TestPost(t *testing.T) {
	l := newTestLoop(t, Config{})
	var mu sync.Mutex
	var accepted, ran int
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				if !l.Post(func() { ran++ }) {
					return
				}
				mu.Lock()
				accepted++
				if accepted == 2000 {
					go l.Close()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	l.Close()
	if ran != accepted {
		t.Errorf("%d functions were accepted, %d ran", accepted, ran)
	}
	if l.Post(func() {}) {
		t.Error("a closed loop accepted a function")
	}
}

func TestPostKeepsOrder(t *testing.T) {
	l := newTestLoop(t, Config{})
	var got []int
	for i := range 1000 {
		l.Post(func() { got = append(got, i) })
	}
	l.Close()
	if len(got) != 1000 || !slices.IsSorted(got) {
		t.Errorf("out of order or lost: %d ran", len(got))
	}
}

func TestDeadline(t *testing.T) {
	const tick = 2 * time.Millisecond
	l := newTestLoop(t, Config{Tick: tick})
	r := newRecorder()
	fired := make(chan time.Time, 1)
	r.onExpired = func(*Conn) { fired <- time.Now() }
	c, _ := pair(t, l, unix.SOCK_STREAM, r)
	other := newRecorder()
	cleared, _ := pair(t, l, unix.SOCK_STREAM, other)

	const after = 30 * time.Millisecond
	var set time.Time
	on(t, l, func() {
		set = time.Now()
		c.SetDeadline(after)
		cleared.SetDeadline(after)
		cleared.SetDeadline(0)
	})
	if early := after - (<-fired).Sub(set); early > 0 {
		t.Errorf("expired %s early", early)
	}
	// A second deadline, beyond the first, shows that the ticks that stopped start again.
	stopped := make(chan struct{})
	var poll func()
	poll = func() {
		if l.ticking {
			time.AfterFunc(tick, func() { l.Post(poll) })
			return
		}
		close(stopped)
	}
	l.Post(poll)
	wait(t, stopped, "the end of the ticks, with no deadline set,")
	on(t, l, func() { c.SetDeadline(after) })
	<-fired
	on(t, l, func() {
		if r.expired != 2 || other.expired != 0 || l.deadlines != 0 {
			t.Errorf("expired %d times, the cleared one %d times, %d still counted", r.expired, other.expired, l.deadlines)
		}
	})
}

// A crowd larger than one slice of the sweep expires, each exactly once, though the sweep gives way in between.
func TestDeadlinesOfACrowd(t *testing.T) {
	l := newTestLoop(t, Config{Tick: time.Millisecond})
	const crowd = sweepSize + 100
	var expired atomic.Int64
	done := make(chan struct{})
	r := newRecorder()
	r.onExpired = func(*Conn) {
		if expired.Add(1) == crowd {
			close(done)
		}
	}
	on(t, l, func() { // deadlines need no socket
		for range crowd {
			c := &Conn{loop: l, handler: r, fd: -1, slot: uint32(len(l.conns))}
			l.conns, l.due = append(l.conns, c), append(l.due, 0)
			c.SetDeadline(time.Millisecond)
		}
	})
	wait(t, done, "the expiry of all")
	on(t, l, func() { l.conns, l.due = nil, nil })
	if n := expired.Load(); n != crowd {
		t.Errorf("%d of %d expired", n, crowd)
	}
}

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

func TestDrain(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	_, peer := pair(t, l, unix.SOCK_STREAM, r)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.Drain(ctx) // a connection is open: it waits for ctx only
	drained := make(chan struct{})
	go func() { defer close(drained); l.Drain(t.Context()) }()
	peer.Close()
	wait(t, drained, "Drain")
	l.Drain(t.Context()) // there is none: it returns at once
	l.Close()
	l.Drain(t.Context())
}

// A storm of connections is accepted in slices: what is posted meanwhile does not wait for the end of it.
func TestAcceptStorm(t *testing.T) {
	all, err := Listen("127.0.0.1:0", 1)
	if err != nil {
		t.Fatal(err)
	}
	const storm = 10 * acceptSize
	var peers []net.Conn
	for range storm { // the kernel takes them, the loop does not listen yet
		c, err := net.Dial("tcp", all[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		peers = append(peers, c)
	}
	l := newTestLoop(t, Config{})
	a := newTestAcceptor(t, nil)
	accepted, seen := 0, make(chan int)
	if err := a.Accept(all[0], l, func(*Conn, netip.AddrPort) Handler {
		if accepted++; accepted == 1 {
			l.Post(func() { seen <- accepted })
		}
		return newRecorder()
	}); err != nil {
		t.Fatal(err)
	}
	if n := <-seen; n > 2*acceptSize {
		t.Errorf("%d connections were accepted before the loop looked elsewhere", n)
	}
	for _, c := range peers {
		c.Write([]byte("x"))
	}
	for {
		n := 0
		on(t, l, func() { n = accepted })
		if n == storm {
			break
		}
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

func TestListenTellsOfAPortInUse(t *testing.T) {
	first, err := Listen("127.0.0.1:0", 2)
	if err != nil {
		t.Fatal(err)
	}
	defer first[0].Close()
	defer first[1].Close()
	if _, err := Listen(first[0].Addr().String(), 2); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("listening twice gives %v", err)
	}
}

func TestListenDualStack(t *testing.T) {
	all, err := Listen(":0", 1)
	if err != nil {
		t.Fatal(err)
	}
	l := newTestLoop(t, Config{})
	a := newTestAcceptor(t, nil)
	peers := make(chan netip.Addr, 2)
	if err := a.Accept(all[0], l, func(c *Conn, peer netip.AddrPort) Handler {
		if c.Peer() != peer {
			t.Errorf("accepted from %s, the peer is %s", peer, c.Peer())
		}
		peers <- peer.Addr()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(all[0].Addr().Port())))
		if err != nil {
			t.Skipf("NOT TESTED, this machine has no %s: %v", host, err)
		}
		if got := <-peers; got.String() != host {
			t.Errorf("the peer is %s, want %s", got, host)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a refused connection stays open")
		}
		c.Close()
	}
}

// With no descriptor left the loop says so, refuses who waits, pauses instead of spinning, and takes the next one when
// there are descriptors again.
func TestDescriptorsRunOut(t *testing.T) {
	all, err := Listen("127.0.0.1:0", 1)
	if err != nil {
		t.Fatal(err)
	}
	warned := make(chan error, 100)
	l := newTestLoop(t, Config{})
	a := newTestAcceptor(t, func(err error) { warned <- err })
	accepted := make(chan struct{}, 1)
	if err := a.Accept(all[0], l, func(*Conn, netip.AddrPort) Handler { accepted <- struct{}{}; return nil }); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// Descriptors below the limit are filled up, so that the next one is refused.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	lowered := unix.Rlimit{Cur: uint64(fd + 1), Max: limit.Max}
	var fill []int
	for {
		null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil || null > fd {
			unix.Close(null)
			break
		}
		fill = append(fill, null)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lowered); err != nil {
		t.Fatal(err)
	}
	sa, _ := sockaddr(all[0].Addr())
	connectErr := unix.Connect(fd, sa)
	warning := <-warned
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for _, null := range fill {
		unix.Close(null)
	}
	if connectErr != nil {
		t.Fatal(connectErr)
	}
	if !errors.Is(warning, unix.EMFILE) {
		t.Errorf("warned of %v", warning)
	}
	if n, err := unix.Read(fd, make([]byte, 1)); n > 0 || err != nil && err != unix.ECONNRESET {
		t.Errorf("the connection that found no descriptor reads %d bytes, %v; want it to be closed", n, err)
	}
	next, err := net.Dial("tcp", all[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	wait(t, accepted, "the next connection")
	if len(warned) != 0 {
		t.Errorf("%d more warnings: it did not pause", len(warned))
	}
}

func TestPanicEndsTheLoopOnly(t *testing.T) {
	fatal := make(chan error, 1)
	l := newTestLoop(t, Config{OnError: func(err error, f bool) {
		if f {
			fatal <- err
		}
	}})
	r := newRecorder()
	r.onData = func(*Conn, []byte) { panic("out of order") }
	_, peer := pair(t, l, unix.SOCK_STREAM, r)
	peer.Write([]byte("x"))
	if err := <-fatal; !strings.Contains(err.Error(), "out of order") {
		t.Errorf("the error does not tell of the panic: %v", err)
	}
	l.Close()
	if l.Post(func() {}) {
		t.Error("a loop that broke down accepted a function")
	}
	if _, err := io.ReadAll(peer); err != nil {
		t.Errorf("the peer's end: %v", err)
	}
}

// A random schedule of everything at once, by two loops that talk to each other: every connection that opened is
// closed once, nothing leaks, and -race stays silent.
func TestRandomSchedule(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			l := newTestLoop(t, Config{Tick: time.Millisecond})
			var recs []*recorder
			var peers sync.WaitGroup
			for range 60 {
				r := newRecorder()
				recs = append(recs, r)
				finish, size := rnd.IntN(4) == 0, rnd.IntN(100_000)
				r.onData = func(c *Conn, p []byte) {
					switch {
					case finish:
						c.Finish()
					case len(r.data) > size:
						c.Close(nil)
					default:
						c.Write(p)
						c.Write(p)
						c.SetDeadline(time.Duration(size%5) * time.Millisecond)
					}
				}
				r.onExpired = func(c *Conn) { c.Write([]byte("late")) }
				c, peer := pair(t, l, unix.SOCK_STREAM, r)
				on(t, l, func() { unix.SetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096) })
				switch rnd.IntN(4) {
				case 0:
					peer.Close()
				case 1: // reads nothing, and goes
					peer.Write(make([]byte, rnd.IntN(10_000)))
					peer.Close()
				case 2:
					peers.Go(func() { io.Copy(io.Discard, peer) })
					peers.Go(func() { peer.Write(make([]byte, size)); unix.Shutdown(int(peer.Fd()), unix.SHUT_WR) })
				case 3:
					on(t, l, func() { c.Write(make([]byte, size)); c.Finish() })
				}
			}
			l.Close()
			peers.Wait()
			if l.backlog != 0 {
				t.Errorf("%d bytes of backlog are left of nobody", l.backlog)
			}
			for i, r := range recs {
				if r.closed != 1 {
					t.Errorf("connection %d was closed %d times", i, r.closed)
				}
			}
		})
	}
}

// What a connection costs is part of the design: a million of them are held. Growing it has to be meant.
func TestConnIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(Conn{}); got > 48 && unsafe.Sizeof(uintptr(0)) == 8 {
		t.Errorf("a Conn has %d bytes, want 48", got)
	}
}
