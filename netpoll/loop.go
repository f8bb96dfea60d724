// Package netpoll is the reactor: a few event loops, each one goroutine, that serve any number of raw TCP sockets
// without a goroutine, a net.Conn or a buffer per connection. It knows nothing of what travels over them.
//
// Each [Loop] waits in the poller of github.com/mailru/easygo on four descriptors: a wake-up eventfd for posted
// work, a timerfd for deadlines, its listeners, and an epoll set of its own that holds all its connections. (An epoll
// descriptor is itself pollable.) So easygo does the waiting and the crowd costs it nothing: no map entry, no
// closure and no lock per connection or per event, only a slot number that the kernel hands back (epoll_ctl(2),
// epoll_data).
//
// [Loop.Post] may be called from any goroutine, [Loop.Accept] and [Loop.Close] from any but the loop's own, for which
// they wait; all else belongs to the loop's goroutine.
package netpoll

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mailru/easygo/netpoll"
	"golang.org/x/sys/unix"
)

// ErrLoopClosed is what a connection's Closed gets when its loop is closed.
var ErrLoopClosed = errors.New("the event loop was closed")

const (
	readSize       = 64 << 10 // of the scratch buffer: one read per readable event
	corkSize       = 64 << 10 // output of one event beyond this is written before the event ends
	batchSize      = 256      // connection events fetched at a time
	batchesPerTurn = 4        // until what is posted, due or waiting to be accepted has its turn
	acceptSize     = 64       // connections accepted per turn, so that a storm does not starve those already here
	sweepSize      = 64 << 10 // deadlines looked at per turn
)

// ending is a connection that was closed in this turn, and why.
type ending struct {
	c   *Conn
	err error
}

// Config configures a Loop.
type Config struct {
	// Tick is the grain of deadlines; 1 s when zero. A loop with no deadline set makes no ticks.
	Tick time.Duration
	// OnError hears, on the loop's goroutine, of what is not one connection's own fault: a full descriptor table
	// (the loop pauses accepting and goes on), or the end of the loop itself by a panic or a failed wait, told by
	// fatal. It must not block.
	OnError func(err error, fatal bool)
}

// Loop is one event loop.
type Loop struct {
	// Fixed by New.
	poll  *netpoll.Epoll
	set   int // epoll set of the connections
	wake  int // eventfd
	timer int // timerfd
	cfg   Config
	start time.Time     // of tick 1
	done  chan struct{} // closed when the loop has ended
	close sync.Once

	// Owned by the loop's goroutine.
	conns     []*Conn  // by slot
	due       []uint32 // by slot: the tick at which the connection expires, 0 for never
	free      []uint32 // slots
	listeners []*Listener
	reserve   int           // a descriptor to spare, for when there are no others; -1 when even that could not be had
	drained   chan struct{} // Drain waits for it
	events    []unix.EpollEvent
	peer      unix.RawSockaddrAny // scratch: of the connection being accepted
	in, out   []byte              // scratch: what this event read, and what its handler wants written
	corked    *Conn               // whose output gathers in out
	closing   []ending            // closed in this turn, reaped at its end
	deadlines int                 // connections that have one
	backlog   int                 // bytes of output that no kernel has taken yet
	ticking   bool
	sweeping  bool

	// Shared, under mu.
	mu      sync.Mutex
	posted  []func()
	spare   []func() // the queue's other half, so that posting does not allocate
	stop    bool     // Close was called: end when the queue is empty
	stopped bool
}

// NewLoop starts a loop. Its goroutine is the one easygo's poller waits on.
func NewLoop(cfg Config) (*Loop, error) {
	if cfg.Tick == 0 {
		cfg.Tick = time.Second
	}
	l := &Loop{
		set: -1, wake: -1, timer: -1, reserve: -1, cfg: cfg, done: make(chan struct{}),
		events: make([]unix.EpollEvent, batchSize), in: make([]byte, readSize), start: time.Now(),
	}
	err := l.open()
	if err != nil {
		l.release()
		return nil, fmt.Errorf("event loop: %w", err)
	}
	return l, nil
}

func (l *Loop) open() (err error) {
	if l.set, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return err
	}
	if err = l.openReserve(); err != nil {
		return err
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return err
	}
	l.poll, err = netpoll.EpollCreate(&netpoll.EpollConfig{OnWaitError: func(err error) {
		l.abort(fmt.Errorf("epoll_wait: %w", err))
	}})
	if err != nil {
		return err
	}
	return errors.Join(l.watch(l.set, l.serve), l.watch(l.wake, l.runPosted), l.watch(l.timer, l.onTick))
}

func (l *Loop) openReserve() (err error) {
	l.reserve, err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return err
}

// watch has the poller call f on the loop's goroutine whenever fd is readable. A call is one turn of the loop.
func (l *Loop) watch(fd int, f func()) error {
	return l.poll.Add(fd, netpoll.EPOLLIN, func(ev netpoll.EpollEvent) {
		if ev&(netpoll.EPOLLIN|netpoll.EPOLLERR|netpoll.EPOLLHUP) == 0 || l.ended() {
			return // the poller's own notice that it closes
		}
		defer l.contain()
		f()
		l.reap()
	})
}

func (l *Loop) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// serve hands batches of events to their connections: a few per turn, since under load the next is ready by the time the
// last is served, and asking for it here is cheaper than returning to the poller.
func (l *Loop) serve() {
	for range batchesPerTurn {
		n := ready(l.set, l.events)
		for i := range l.events[:n] {
			// A connection closed earlier in this turn still has its slot and its descriptor: both are given back only
			// when the turn ends. So an event can meet a closed connection, but never somebody else's. (An empty slot:
			// while a child process is being forked it shares our descriptors, and a closed one lingers in the set.)
			if c := l.conns[uint32(l.events[i].Fd)]; c != nil && c.state != closed {
				c.handle(l.events[i].Events)
			}
		}
		if n == 0 {
			return
		}
	}
}

// reap ends the turn: connections closed in it give back slot and descriptor, and their handlers hear of it.
func (l *Loop) reap() {
	for i := 0; i < len(l.closing); i++ { // Closed may close others
		c, err := l.closing[i].c, l.closing[i].err
		l.closing[i] = ending{}
		l.conns[c.slot] = nil
		l.free = append(l.free, c.slot)
		c.SetDeadline(0)
		if c.detached {
			continue
		}
		c.handler.Closed(c, err)
		unix.Close(int(c.fd))
	}
	l.closing = l.closing[:0]
	if l.drained != nil && len(l.free) == len(l.conns) {
		close(l.drained)
		l.drained = nil
	}
}

// adopt takes a non-blocking descriptor into the loop.
func (l *Loop) adopt(fd int, events uint8) (*Conn, error) {
	slot := uint32(len(l.conns))
	if n := len(l.free); n > 0 {
		slot = l.free[n-1]
	}
	if err := control(l.set, unix.EPOLL_CTL_ADD, fd, uint32(events), slot); err != nil {
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	c := &Conn{loop: l, fd: int32(fd), slot: slot, events: events}
	if n := len(l.free); n > 0 {
		l.free = l.free[:n-1]
		l.conns[slot] = c
	} else {
		l.conns = append(l.conns, c)
		l.due = append(l.due, 0)
	}
	return c, nil
}

// Backlog returns how many bytes of output the peers of all connections have yet to take. It belongs to the loop's
// goroutine.
func (l *Loop) Backlog() int { return l.backlog }

// Post has f run on the loop's goroutine, in the order of the calls, and never blocks. It reports whether f will
// run: a loop that has been closed takes nothing more.
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.posted = append(l.posted, f)
	if len(l.posted) == 1 {
		l.kick()
	}
	return true
}

// kick wakes the loop. The caller holds mu, so the descriptor can't be closed (and reused) under it.
func (l *Loop) kick() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	write(l.wake, one[:])
}

func (l *Loop) runPosted() {
	var count [8]byte
	read(l.wake, count[:])

	l.mu.Lock()
	run := l.posted
	l.posted = l.spare[:0]
	l.mu.Unlock()

	for i, f := range run {
		f()
		run[i] = nil
	}

	l.mu.Lock()
	l.spare = run
	end := l.stop && len(l.posted) == 0
	l.stopped = end
	l.mu.Unlock()
	if end {
		l.end(ErrLoopClosed)
	}
}

// end closes what the loop holds, on its goroutine, and lets Close go on.
func (l *Loop) end(err error) {
	l.stopListening()
	for _, c := range l.conns {
		if c != nil {
			c.Close(err)
		}
	}
	l.reap()
	close(l.done)
}

func (l *Loop) stopListening() {
	for _, ln := range l.listeners {
		l.poll.Del(ln.fd)
		ln.Close()
	}
	l.listeners = nil
}

// abort ends the loop where it stands: after a panic its handlers can't be trusted to hear of anything, so they don't.
func (l *Loop) abort(err error) {
	l.mu.Lock()
	l.stopped, l.posted = true, nil
	l.mu.Unlock()
	if l.ended() {
		return
	}
	l.stopListening()
	for _, c := range l.conns {
		if c != nil && !c.detached {
			unix.Close(int(c.fd))
		}
	}
	for _, fd := range []int{l.set, l.wake, l.timer} {
		l.poll.Del(fd)
	}
	close(l.done)
	if l.cfg.OnError != nil {
		l.cfg.OnError(err, true)
	}
}

// contain turns a panic in a handler into the end of this loop, so that the rest of the process can stop in order
// (and the car with it) instead of dying on the spot.
func (l *Loop) contain() {
	if v := recover(); v != nil {
		l.abort(fmt.Errorf("panic in the event loop: %v\n%s", v, debug.Stack()))
	}
}

func (l *Loop) warn(err error) {
	if l.cfg.OnError != nil {
		l.cfg.OnError(err, false)
	}
}

// Drain stops accepting and waits until the last connection has ended, or until ctx does. It does not end any itself.
// It must not be called on the loop's own goroutine.
func (l *Loop) Drain(ctx context.Context) {
	drained := make(chan struct{})
	if !l.Post(func() { l.stopListening(); l.drained = drained }) {
		return
	}
	select {
	case <-drained:
	case <-l.done:
	case <-ctx.Done():
	}
}

// Close ends the loop: what was posted before runs, listeners and connections are closed, every connection's Closed
// is called with [ErrLoopClosed], and then Close returns. It must not be called on the loop's own goroutine.
func (l *Loop) Close() {
	l.close.Do(func() {
		l.mu.Lock()
		if l.stop = true; !l.stopped {
			l.kick()
		}
		l.mu.Unlock()
		<-l.done
		l.release()
	})
}

func (l *Loop) release() {
	if l.poll != nil {
		l.poll.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, fd := range []int{l.set, l.wake, l.timer, l.reserve} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
