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
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A random schedule of everything that connections do, on one loop: every connection that opened is closed once, nothing
// leaks, and -race stays silent.
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

// A random schedule of all that goroutines do to loops, over real sockets: clients come, talk, hang up and reset, and
// descriptors run out; connections are ended, preferred, dialled and handed from loop to loop; functions are posted; and
// loops and acceptor end in the middle of it, in any order. Each connection has its last event once, what Post took has
// run, every client hears of the end, and nothing is left.
func TestRandomAccepts(t *testing.T) {
	ranOut := 0
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { ranOut += randomAccepts(t, seed) })
	}
	if ranOut == 0 {
		t.Error("descriptors never ran out, so the test does not show what it should")
	}
}

func randomAccepts(t *testing.T, seed uint64) (ranOut int) {
	rnd := rand.New(rand.NewPCG(seed, 2))
	listeners, err := Listen("127.0.0.1:0", 2)
	if err != nil {
		t.Fatal(err)
	}
	ru := &rush{t: t, seed: seed, at: listeners[0].Addr(), ranOut: make(chan error, 1000)}
	a := newTestAcceptor(t, func(err error) { ru.ranOut <- err })
	for range listeners {
		ru.loops = append(ru.loops, newTestLoop(t, Config{Tick: time.Millisecond, OnError: func(err error, _ bool) { t.Error(err) }}))
	}
	for i, ln := range listeners {
		if err := a.Accept(ln, ru.loops[i], ru.open); err != nil {
			t.Fatal(err)
		}
	}
	const steps, late = 100, 80
	ends := map[int]func(){late + rnd.IntN(steps-late): a.Close}
	for _, l := range ru.loops {
		ends[late+rnd.IntN(steps-late)] = l.Close // one less if two meet: all are closed at the end
	}
	shortage := late/2 + rnd.IntN(late/2) // not earlier, as the acceptor then pauses
	var clients, ending sync.WaitGroup
	for step := range steps {
		for step < shortage && ru.came.Load() < int64(step) { // so far all come
			runtime.Gosched()
		}
		switch step {
		case late / 4:
			ru.pileUp(&clients)
		case shortage:
			ru.runOut(&clients)
		}
		if end := ends[step]; end != nil {
			ending.Go(end)
		}
		if conn, err := net.Dial("tcp", ru.at.String()); err == nil { // else nobody listens any more
			kind, size := rnd.IntN(5), rnd.IntN(100_000)
			clients.Go(func() { ru.client(conn, kind, size) })
		}
		ru.post(rand.New(rand.NewPCG(seed, uint64(1e6+step))))
	}
	ending.Wait()
	a.Close()
	for _, l := range ru.loops {
		l.Close()
	}
	clients.Wait()
	ru.handing.Wait()

	if opened, closed, handed := ru.opened.Load(), ru.closed.Load(), ru.handed.Load(); opened != closed+handed || opened == 0 {
		t.Errorf("%d were opened, %d closed, %d handed on", opened, closed, handed)
	}
	if taken, ran := ru.taken.Load(), ru.ran.Load(); taken != ran {
		t.Errorf("%d functions were taken, %d ran", taken, ran)
	}
	for i, l := range ru.loops {
		if l.backlog != 0 || l.deadlines != 0 || l.preferred != 0 || len(l.free) != len(l.conns) {
			t.Errorf("of loop %d are left: %d bytes, %d deadlines, %d preferred, %d of %d slots",
				i, l.backlog, l.deadlines, l.preferred, len(l.conns)-len(l.free), len(l.conns))
		}
	}
	for len(ru.ranOut) > 0 {
		if err := <-ru.ranOut; !errors.Is(err, unix.EMFILE) {
			t.Error(err)
		}
		ranOut++
	}
	return ranOut
}

// rush is one schedule.
type rush struct {
	t      *testing.T
	seed   uint64
	loops  []*Loop
	at     netip.AddrPort
	ranOut chan error

	handing                      sync.WaitGroup
	came, opened, closed, handed atomic.Int64 // connections
	taken, ran                   atomic.Int64 // posted functions
	dialled                      atomic.Int64

	last sync.Map // by loop: the newest of its connections
}

// post posts a function that posts one to any of the loops, which posts one, and so on. It waits for the first.
func (ru *rush) post(rnd *rand.Rand) {
	done := make(chan struct{})
	var f func()
	again := func() bool {
		taken := ru.loops[rnd.IntN(len(ru.loops))].Post(f)
		if taken {
			ru.taken.Add(1)
		}
		return taken
	}
	length := 0
	f = func() {
		if ru.ran.Add(1); length == 0 {
			close(done)
		}
		if length++; length < 20 {
			again()
		}
	}
	if again() {
		<-done
	}
}

// client does something, and hears of the end of its connection.
func (ru *rush) client(conn net.Conn, kind, size int) {
	defer conn.Close()
	switch kind {
	case 0: // hangs up
		conn.Write(make([]byte, size))
	case 1: // resets
		conn.Write(make([]byte, size))
		conn.(*net.TCPConn).SetLinger(0)
	case 2: // says nothing
		ru.end(conn)
	case 3: // ends its side
		conn.Write(make([]byte, size))
		conn.(*net.TCPConn).CloseWrite()
		ru.end(conn)
	case 4: // talks
		ru.handing.Go(func() { io.Copy(conn, bytes.NewReader(make([]byte, 10*size))) })
		ru.end(conn)
	}
}

// end reads until the end.
func (ru *rush) end(conn interface {
	io.Reader
	SetDeadline(time.Time) error
}) {
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		ru.t.Error("a connection stays, and nobody serves it")
	}
}

// pileUp has clients come while the loops are busy.
func (ru *rush) pileUp(clients *sync.WaitGroup) {
	busy, goOn := make(chan struct{}), make(chan struct{})
	for _, l := range ru.loops {
		l.Post(func() { busy <- struct{}{}; <-goOn })
		<-busy
	}
	const crowd = 5 * acceptSize
	for range crowd {
		conn, err := net.Dial("tcp", ru.at.String())
		if err != nil {
			ru.t.Fatal(err)
		}
		clients.Go(func() { ru.client(conn, 4, 100) })
	}
	for arrived := 0; arrived < crowd; {
		arrived = 0
		for _, l := range ru.loops {
			l.mu.Lock()
			arrived += len(l.arrived)
			l.mu.Unlock()
		}
	}
	close(goOn)
}

// runOut has clients come while there is no descriptor for them but those that others give back meanwhile.
func (ru *rush) runOut(clients *sync.WaitGroup) {
	var fds [64]int
	for i := range fds {
		var err error
		if fds[i], err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			ru.t.Fatal(err)
		}
	}
	enough := scarce(ru.t, 0)
	sa, _ := sockaddr(ru.at)
	all := ru.came.Load() + int64(len(fds))
	for _, fd := range fds {
		unix.Connect(fd, sa)
	}
	for len(ru.ranOut) == 0 && ru.came.Load() < all {
		runtime.Gosched()
	}
	enough()
	for _, fd := range fds {
		client := os.NewFile(uintptr(fd), "client")
		clients.Go(func() {
			defer client.Close()
			ru.end(client)
		})
	}
}

// open makes a connection a visitor, or refuses it.
func (ru *rush) open(c *Conn, _ netip.AddrPort) Handler {
	v := ru.visitor(uint64(ru.came.Add(1)))
	if v.rnd.IntN(10) == 0 {
		return nil
	}
	ru.opened.Add(1)
	ru.last.Store(c.loop, c)
	unix.SetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
	c.SetDeadline(time.Millisecond)
	return v
}

func (ru *rush) visitor(n uint64) *visitor {
	return &visitor{rush: ru, rnd: rand.New(rand.NewPCG(ru.seed, n))}
}

// visitor does anything that a handler may do.
type visitor struct {
	rush *rush
	rnd  *rand.Rand
	gone bool
}

// heard is called at each event.
func (v *visitor) heard() {
	if v.gone {
		v.rush.t.Error("an event comes behind the last one")
	}
}

func (v *visitor) Data(c *Conn, p []byte) {
	v.heard()
	switch v.rnd.IntN(13) {
	case 0:
		c.Close(nil)
		if other, _ := v.rush.last.Load(c.loop); other != nil {
			other.(*Conn).Close(nil) // which may have an event in the same batch
		}
	case 1:
		c.Write(p)
		c.Finish()
	case 2:
		c.Prefer(v.rnd.IntN(3) > 0)
	case 3:
		c.SetDeadline(time.Duration(v.rnd.IntN(3)) * time.Millisecond)
	case 4:
		c.Write(p)
		c.Pause()
	case 5:
		later := bytes.Clone(p)
		c.loop.Later(func() { c.Write(later) })
	case 6:
		v.hand(c, p)
	case 7:
		v.dial(c.loop)
	case 8:
		c.Write(p)
		c.Hold()
		c.loop.Post(c.Resume)
	default:
		c.Write(p)
	}
}

// hand gives the connection to any of the loops.
func (v *visitor) hand(c *Conn, p []byte) {
	if c.Backlog() > 0 {
		return
	}
	fd, err := c.Detach()
	if err != nil {
		v.rush.t.Error(err)
		return
	}
	v.gone = true
	v.rush.handed.Add(1)
	to, read := v.rush.loops[v.rnd.IntN(2)], bytes.Clone(p)
	v.rush.handing.Go(func() { to.Adopt(fd, v.rush.at, read, v.rush.open) })
}

// dial has the loop be a client of the rush, not too often, or it would go on for ever; but always in the last event of all,
// when nothing may come of it.
func (v *visitor) dial(l *Loop) {
	n := v.rush.dialled.Add(1)
	if n > 20 && !l.stopped {
		return
	}
	if _, err := l.Dial(netip.Addr{}, v.rush.at, []byte("hello"), v.rush.visitor(1000+uint64(n))); err == nil {
		v.rush.opened.Add(1)
	}
}

func (v *visitor) Drained(c *Conn) {
	v.heard()
	if c.Blocked() {
		v.rush.t.Error("drained, and blocked")
	}
}

func (v *visitor) Expired(c *Conn) {
	v.heard()
	switch v.rnd.IntN(4) {
	case 0:
		c.Finish()
	case 1:
		c.Write(make([]byte, 10_000))
		c.SetDeadline(time.Millisecond)
	case 2:
		v.dial(c.loop)
	}
}

func (v *visitor) Closed(c *Conn, _ error) {
	v.heard()
	v.gone = true
	v.rush.closed.Add(1)
	v.dial(c.loop)
}
