package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"roverd/netpoll"

	"go.uber.org/zap"
)

// Who speaks HTTP to a port of TLS is told so, and who speaks neither is let go at once; nothing stays of either.
func TestNoTLS(t *testing.T) {
	s, addr, trust := startTLS(t)
	before := files(t)
	for _, method := range []string{"GET", "HEAD"} {
		c := dialHTTP(t, addr)
		if r, body := c.ask(method, "/", ""); r.StatusCode != 400 || !r.Close || method == "GET" && !strings.Contains(body, "HTTPS server") {
			t.Errorf("%s is answered with %d, %q", method, r.StatusCode, body)
		}
		c.expectEnd()
		c.conn.Close()
	}
	for _, garbage := range []string{
		"\x00", "\xff\xff\xff\xff\xff", "\x16\x02", "\x16\x03\x01\x00\x00", "\x16\x03\x01\xff\xff", "\x80\x2e\x01\x03\x01", "\r\n\r\n", "{}",
		"\x16\x03\x01\x00\x04\x01\x00\x00\x00",                                // an empty hello
		"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + strings.Repeat("x", 100_000), // of 16 MB
		"\x16\x03\x01\x40\x00" + strings.Repeat("x", 1<<14),
		"\x16\x03\x01\x00\x01\x01" + strings.Repeat("\x16\x03\x01\x00\x01\x00", 20_000), // in very small pieces
	} {
		c := dialHTTP(t, addr)
		io.WriteString(c.conn, garbage) // it may be let go in the middle
		io.Copy(io.Discard, c.in)       // until it is, whether by an alert, an end or a reset
		c.conn.Close()
	}
	s.empty(t)
	until(t, "no handshake is under way", s.handshakes.idle)
	until(t, "all descriptors are back", func() bool { return files(t) <= before })
	dialTLS(t, addr, trust).ask("GET", "/state", "")
}

func (q *handshakes) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running == 0 && len(q.sources) == 0 && len(q.ready) == 0 && len(q.turns) == 0
}

// cutShort ends what is written after n bytes.
type cutShort struct {
	net.Conn
	n   int
	how func(*net.TCPConn)
}

func (s *cutShort) Write(p []byte) (int, error) {
	k := min(len(p), s.n)
	if _, err := s.Conn.Write(p[:k]); err != nil {
		return 0, err
	}
	if s.n -= k; s.n == 0 {
		s.how(s.Conn.(*net.TCPConn))
		return k, net.ErrClosed
	}
	return k, nil
}

// A client that goes in the middle of the handshake, however and wherever, leaves nothing behind.
func TestGoneInTheHandshake(t *testing.T) {
	s, addr, trust := startTLS(t, "-loops", "1")
	before, goroutines := files(t), runtime.NumGoroutine()
	for name, version := range tlsVersions {
		for how, leave := range map[string]func(*net.TCPConn){
			"FIN":        func(c *net.TCPConn) { c.Close() },
			"RST":        func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
			"half-close": func(c *net.TCPConn) { c.CloseWrite(); io.Copy(io.Discard, c); c.Close() },
		} {
			whole := 0
			for n := 1; whole == 0; n += 1 + n/5 {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				cut := &cutShort{conn, n, leave}
				if err := tls.Client(cut, only(trust, version)).Handshake(); err == nil && cut.n > 0 {
					whole = n
				}
				conn.Close()
			}
			if whole < 200 {
				t.Errorf("%s, %s: the handshake needed no more than %d bytes", name, how, whole)
			}
		}
	}
	s.empty(t)
	until(t, "no handshake is under way", s.handshakes.idle)
	until(t, "all descriptors are back", func() bool { return files(t) <= before })
	until(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
}

// clientHello is what a client says first.
func clientHello(t *testing.T, config *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() {
		tls.Client(ours, config).Handshake()
		ours.Close()
	}()
	p := make([]byte, 20_000)
	n, err := theirs.Read(p)
	if err != nil {
		t.Fatal(err)
	}
	return p[:n]
}

// dialFrom opens a connection from one of this computer's addresses, and says no more than that.
func dialFrom(t *testing.T, from, to string, says []byte) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := conn.Write(says); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Who says much more than a hello before hearing anything is closed without a word: while it waits for its turn, its words
// take memory.
func TestMoreThanHello(t *testing.T) {
	s, _, trust := startTLS(t)
	d := s.decks[0]
	client := adopted(t, d, append(clientHello(t, trust), make([]byte, maxHello)...), d.open)
	if p, err := io.ReadAll(client); len(p) > 0 || err != nil {
		t.Errorf("got %q, %v", p, err)
	}
}

// Nor does a handshake take more memory once it is under way: that of a hello which has no end in sight is over.
func TestEndlessHello(t *testing.T) {
	s, addr, _ := startTLS(t, "-loops", "1")
	on(s.decks[0], func() { s.handshakes.time = time.Hour })
	const largest = 1 << 14
	record := append([]byte{22, 3, 1, largest >> 8, 0}, make([]byte, largest)...)
	copy(record[5:], []byte{1, 0, 0xff, 0xff}) // a ClientHello (RFC 8446 section 4) of nearly 64 KiB
	conn := dialFrom(t, "127.0.0.1", addr, record)
	until(t, "it is under way", func() bool {
		s.handshakes.mu.Lock()
		defer s.handshakes.mu.Unlock()
		return s.handshakes.running == 1
	})
	copy(record[5:], []byte{0, 0, 0, 0})
	conn.SetDeadline(time.Now().Add(hangTime))
	conn.Write(record)
	conn.Write(record)
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("48 KiB of a hello are taken")
	}
}

// Of a handshake that has failed no buffers stay while its client has yet to close: it has no place any more by which they
// would be counted.
func TestFailedHandshakeIsSmall(t *testing.T) {
	s, _, _ := startTLS(t)
	d := s.decks[0]
	var h *handshake
	client := adopted(t, d, []byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, func(c *netpoll.Conn, from netip.AddrPort) netpoll.Handler {
		h = newHandshake(d, c, from.Addr()).(*handshake)
		return h
	})
	if p, err := io.ReadAll(client); len(p) == 0 || err != nil {
		t.Errorf("got %q, %v; want an alert", p, err)
	}
	on(d, func() {
		if h.in != nil || h.secure != nil {
			t.Error("its buffers are still there")
		}
	})
}

// However many say a hello and nothing more, those from other addresses get in; when all places are taken they wait, and
// get in when one is free.
func TestSlowHandshakes(t *testing.T) {
	s, addr, trust := startTLS(t, "-loops", "1")
	on(s.decks[0], func() { s.handshakes.time = time.Minute })
	running := func(n int) func() bool {
		return func() bool {
			s.handshakes.mu.Lock()
			defer s.handshakes.mu.Unlock()
			all := 0
			for _, source := range s.handshakes.sources {
				all += source.running
			}
			return all == n
		}
	}
	hello := clientHello(t, trust)
	var slow []net.Conn
	open := func(from string) {
		for range maxOneHandshakes + 8 {
			slow = append(slow, dialFrom(t, from, addr, hello))
		}
	}
	open("127.0.0.2")
	until(t, "the address has all it may", running(maxOneHandshakes))
	waiting := func(n int) func() bool {
		return func() bool {
			s.handshakes.mu.Lock()
			defer s.handshakes.mu.Unlock()
			return len(s.handshakes.sources[netip.MustParsePrefix("127.0.0.2/32")].waiting) == n
		}
	}
	until(t, "the others wait", waiting(8))
	slow[len(slow)-1].Close()
	until(t, "one of them has gone", waiting(7))
	greedy := slow[len(slow)-2]
	greedy.Write(make([]byte, 100_000)) // which is not read before its turn
	greedy.Close()
	until(t, "it has gone too", waiting(6))
	dialTLS(t, addr, trust).ask("GET", "/state", "")
	for i := 3; i < 2+maxHandshakes/maxOneHandshakes; i++ {
		open(fmt.Sprintf("127.0.0.%d", i))
	}
	until(t, "all places are taken", running(maxHandshakes))
	waits := make(chan struct{})
	go func() {
		defer close(waits)
		dialTLS(t, addr, trust).ask("GET", "/state", "")
	}()
	until(t, "it waits", func() bool {
		s.handshakes.mu.Lock()
		defer s.handshakes.mu.Unlock()
		for _, source := range s.handshakes.ready {
			if source.addr.Addr().String() == "127.0.0.1" {
				return true
			}
		}
		return false
	})
	select {
	case <-waits:
		t.Error("it got in where there was no place")
	default:
	}
	for _, conn := range slow {
		conn.Close()
	}
	<-waits
	until(t, "no handshake is under way", s.handshakes.idle)
	s.empty(t)
}

// A handshake that takes too long is ended, wherever it has got to: nothing said, not all of the hello, nothing after it.
func TestHandshakeIsBounded(t *testing.T) {
	s, addr, trust := startTLS(t, "-loops", "1")
	on(s.decks[0], func() { s.handshakes.time = time.Second })
	hello := clientHello(t, trust)
	for _, says := range [][]byte{nil, hello[:1], hello[:len(hello)-1], hello} {
		conn := dialFrom(t, "127.0.0.1", addr, says)
		conn.SetReadDeadline(time.Now().Add(8 * time.Second))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %d bytes of %d nothing happens", len(says), len(hello))
		}
	}
	until(t, "no handshake is under way", s.handshakes.idle)
	s.empty(t)
}

// A loop that ends by a panic tells its connections nothing; the end of the server does not wait for their handshakes.
func TestHandshakeOfALoopThatPanics(t *testing.T) {
	cert, key, trust := testCertificate(t, time.Now().Add(time.Hour))
	cfg, err := loadConfig([]string{"-open", "-addr", "127.0.0.1:0", "-loops", "1", "-tls-cert", cert, "-tls-key", key}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	s, listeners, err := newServer(cfg, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- s.run(t.Context(), t.Context(), listeners, out) }()
	defer out.Close()
	dialFrom(t, "127.0.0.1", announced(t, in), clientHello(t, trust))
	until(t, "the handshake is under way", func() bool { return !s.handshakes.idle() && len(s.handshakes.turns) == 0 })
	s.decks[0].loop.Post(func() { panic("on purpose") })
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "on purpose") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(hangTime):
		t.Error("the server does not end")
	}
}
