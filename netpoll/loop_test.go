package netpoll

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
		if c, err = l.register(fds[0], input); err == nil {
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

type echo struct{ closed *atomic.Int64 }

func (e *echo) Data(c *Conn, p []byte) { c.Write(p) }
func (e *echo) Drained(*Conn)          {}
func (e *echo) Expired(*Conn)          {}
func (e *echo) Closed(*Conn, error)    { e.closed.Add(1) }

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
			if freshConn, err = l.register(fds[0], input); err != nil {
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

// Work that is done in pieces lets all who wait have their turn in between, whatever they wait for, and ends with the loop.
func TestLater(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	heard := make(chan struct{})
	r.onData = func(*Conn, []byte) { close(heard) }
	_, peer := pair(t, l, unix.SOCK_STREAM, r)
	pieces := 0
	var piece func()
	piece = func() { pieces++; l.Later(piece) }
	on(t, l, piece) // for ever
	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	<-heard
	before, after := 0, 0
	on(t, l, func() { before = pieces })
	on(t, l, func() { after = pieces })
	on(t, l, func() { after = pieces })
	if before == 0 || after == before {
		t.Errorf("%d pieces are done, and then %d", before, after)
	}
	l.Close()
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

// When the deadlines of a crowd pass all at once, who is preferred does not wait for the last of them.
func TestPreferredPassDeadlines(t *testing.T) {
	l := newTestLoop(t, Config{})
	expired := 0
	for range 100 {
		r := newRecorder()
		r.onExpired = func(*Conn) { expired++ }
		c, _ := pair(t, l, unix.SOCK_STREAM, r)
		on(t, l, func() { c.SetDeadline(time.Second) })
	}
	r := newRecorder()
	before := -1
	r.onData = func(*Conn, []byte) { before = expired }
	c, peer := pair(t, l, unix.SOCK_STREAM, r)
	on(t, l, func() {
		c.Prefer(true)
		peer.Write([]byte("x"))
		l.start = l.start.Add(-time.Hour)
		l.sweep(0)
		if expired != 100 || before < 0 || before > 2*passEvery {
			t.Errorf("%d expired, %d of them before the preferred was served", expired, before)
		}
	})
}

func TestDrain(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	_, peer := pair(t, l, unix.SOCK_STREAM, r)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.Drain(ctx) // a connection is open: it waits for ctx only
	var drained sync.WaitGroup
	for range 2 {
		drained.Go(func() { l.Drain(t.Context()) })
	}
	for waiting := 0; waiting < 3; { // with the one that has given up
		on(t, l, func() { waiting = len(l.drained) })
	}
	peer.Close()
	drained.Wait()
	l.Drain(t.Context()) // there is none: it returns at once
	l.Close()
	l.Drain(t.Context())
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
