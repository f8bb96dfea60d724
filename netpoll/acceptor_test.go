package netpoll

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

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

// scarce leaves this process n descriptors to open, until the function that it returns is called.
func scarce(t *testing.T, n int) (enough func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var free []int // the lowest, as the kernel takes them
	for range n + 1 {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		free = append(free, fd)
	}
	for _, fd := range free {
		unix.Close(fd)
	}
	set := func(most uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
	}
	set(uint64(free[n]))
	return func() { set(limit.Cur) }
}

// sockets returns n of them, closed when the test ends; what is read from them waits only so long.
func sockets(t *testing.T, n int) (fds []int) {
	t.Helper()
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	return fds
}

func connect(t *testing.T, at netip.AddrPort, fds ...int) {
	t.Helper()
	sa, _ := sockaddr(at)
	for _, fd := range fds {
		if err := unix.Connect(fd, sa); err != nil {
			t.Fatal(err)
		}
	}
}

func wantClosed(t *testing.T, fds ...int) {
	t.Helper()
	for _, fd := range fds {
		if n, err := unix.Read(fd, make([]byte, 1)); n > 0 || err != nil && err != unix.ECONNRESET {
			t.Errorf("a connection reads %d bytes, %v; want it to be closed", n, err)
			return
		}
	}
}

// With no descriptor left the acceptor says so, refuses all who wait, pauses instead of spinning, and takes the next one
// when there are descriptors again.
func TestDescriptorsRunOut(t *testing.T) {
	all, err := Listen("127.0.0.1:0", 1)
	if err != nil {
		t.Fatal(err)
	}
	warned := make(chan error, 100)
	l := newTestLoop(t, Config{})
	a := newTestAcceptor(t, func(err error) { warned <- err })
	accepted := make(chan struct{}, 1)
	waiting := sockets(t, 3*acceptSize)
	connect(t, all[0].Addr(), waiting...)
	enough := scarce(t, 0)
	if err := a.Accept(all[0], l, func(*Conn, netip.AddrPort) Handler { accepted <- struct{}{}; return nil }); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, waiting...)
	enough()
	if warning := <-warned; !errors.Is(warning, unix.EMFILE) {
		t.Errorf("warned of %v", warning)
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

// An acceptor that could not have its reserve, or lost it to somebody quicker, has it again when there are descriptors.
func TestReserveIsReplaced(t *testing.T) {
	all, err := Listen("127.0.0.1:0", 1)
	if err != nil {
		t.Fatal(err)
	}
	l := newTestLoop(t, Config{})
	fds := sockets(t, 2)
	enough := scarce(t, 2) // for its epoll set and its eventfd
	a := newTestAcceptor(t, func(error) {})
	enough()
	if a.reserve >= 0 {
		t.Fatal("it has one from the beginning, so the test shows nothing")
	}
	if err := a.Accept(all[0], l, func(*Conn, netip.AddrPort) Handler { return nil }); err != nil {
		t.Fatal(err)
	}
	connect(t, all[0].Addr(), fds[0])
	wantClosed(t, fds[0]) // by its handler
	enough = scarce(t, 0)
	defer enough()
	connect(t, all[0].Addr(), fds[1])
	wantClosed(t, fds[1])
}
