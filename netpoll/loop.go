// Package netpoll is the reactor: a few event loops, each one goroutine, that serve any number of raw TCP sockets without
// a goroutine, a net.Conn or a buffer per connection. It knows nothing of what travels over them; a [Layer] may translate
// that, as TLS does.
//
// An [Acceptor] waits for new connections in the poller of github.com/mailru/easygo and hands them to the loops. A [Loop]
// has an epoll set of its own for its connections (and one for those that are preferred), a wake-up eventfd for posted
// work and a timerfd for deadlines. The kernel hands back a slot number with each event (epoll_ctl(2), epoll_data), so
// the crowd costs no map entry, no closure and no lock. When nothing is ready, the loop's goroutine waits for the set
// itself, which is pollable, in Go's own poller: a thread that blocked in epoll_wait instead would make the scheduler
// hand its processor over and take it back at every sleep (four context switches a message for one, where messages are
// sparse).
//
// [Loop.Post] and [Loop.Adopt] may be called from any goroutine, [Loop.Drain] and [Loop.Close] from any but the loop's
// own, for which they wait; all else of a loop belongs to its goroutine.
package netpoll

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLoopClosed is what a connection's Closed gets when its loop is closed.
var ErrLoopClosed = errors.New("the event loop was closed")

const (
	readSize    = 64 << 10 // of the scratch buffer: one read per readable event
	corkSize    = 64 << 10 // output of one event beyond this is written before the event ends
	batchSize   = 256      // events served per turn
	sweepSize   = 64 << 10 // deadlines looked at per turn
	expireSize  = 256      // of them that have passed
	yieldAfter  = 256      // events, about a millisecond's worth
	laterEvents = 4        // what Later runs counts as so many: once sysmon is awake (see yield) it stays so for a while, at a price
	passEvery   = 8        // events served before the preferred have their turn
	// What is read at a time from a connection that is preferred: one whose turn comes so often could otherwise have the
	// loop for itself.
	preferredSize = 4 << 10
)

// Slots of the set that are not a connection's.
const (
	wakeSlot = 1<<31 - 1 - iota
	timerSlot
	firstSlot
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
	// Between, if not nil, runs on the loop's goroutine after every few events, however many wait: for what may not wait
	// for its turn in a crowd. It should cost next to nothing when there is nothing to do.
	Between func()
	// OnError hears, on the loop's goroutine, of what is not one connection's own fault; fatal says that the loop has
	// ended by it, as by a panic in a handler. It must not block.
	OnError func(err error, fatal bool)
}

// Loop is one event loop.
type Loop struct {
	// Fixed by NewLoop.
	set   int      // epoll set of the connections, wake, timer and first
	first int      // epoll set of the connections that are preferred
	file  *os.File // the set, in Go's poller
	wake  int      // eventfd
	timer int      // timerfd
	cfg   Config
	start time.Time     // of tick 1
	done  chan struct{} // closed when the loop has ended
	close sync.Once

	// Owned by the loop's goroutine.
	conns     []*Conn         // by slot
	due       []uint32        // by slot: the tick at which the connection expires, 0 for never
	free      []uint32        // slots
	drained   []chan struct{} // those who wait in Drain
	events    []unix.EpollEvent
	firsts    [passEvery]unix.EpollEvent
	preferred int      // connections in first
	in, out   []byte   // scratch: what this event read, and what its handler wants written
	clear     []byte   // scratch: what a layer is to encode
	encoded   []byte   // scratch: what it made of it
	corked    *Conn    // whose output gathers in out
	closing   []ending // closed in this turn, reaped at its end
	later     []func() // see Later
	laterRun  []func() // its other half
	deadlines int      // connections that have one
	backlog   int      // bytes of output that no kernel has taken yet
	ticking   bool
	sweeping  bool
	ended     bool

	// Shared, under mu.
	mu      sync.Mutex
	posted  []func()
	spare   []func() // the queue's other half, so that posting does not allocate
	arrived []arrival
	stop    bool // Close was called: end when the queues are empty
	stopped bool
}

// NewLoop starts a loop.
func NewLoop(cfg Config) (*Loop, error) {
	if cfg.Tick == 0 {
		cfg.Tick = time.Second
	}
	l := &Loop{
		set: -1, first: -1, wake: -1, timer: -1, cfg: cfg, done: make(chan struct{}),
		events: make([]unix.EpollEvent, batchSize), in: make([]byte, readSize), start: time.Now(),
	}
	wait, err := l.open()
	if err != nil {
		l.release()
		return nil, fmt.Errorf("event loop: %w", err)
	}
	go l.run(wait)
	return l, nil
}

func (l *Loop) open() (wait syscall.RawConn, err error) {
	if l.set, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.first, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, err
	}
	if l.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, err
	}
	if err = errors.Join(control(l.set, unix.EPOLL_CTL_ADD, l.wake, unix.EPOLLIN, wakeSlot),
		control(l.set, unix.EPOLL_CTL_ADD, l.timer, unix.EPOLLIN, timerSlot),
		control(l.set, unix.EPOLL_CTL_ADD, l.first, unix.EPOLLIN, firstSlot)); err != nil {
		return nil, err
	}
	if err = unix.SetNonblock(l.set, true); err != nil { // what Go's poller takes
		return nil, err
	}
	l.file = os.NewFile(uintptr(l.set), "epoll")
	return l.file.SyscallConn()
}

// run is the loop's goroutine.
func (l *Loop) run(wait syscall.RawConn) {
	defer l.contain()
	if err := wait.Read(l.serve); err != nil {
		l.abort(fmt.Errorf("wait for the epoll set: %w", err))
	}
}

// serve serves events until none is ready. Then it returns false, to be called again when one is; true ends the loop.
func (l *Loop) serve(uintptr) (end bool) {
	for served := 0; !l.ended; {
		n := ready(l.set, l.events)
		if n == 0 && len(l.later) == 0 {
			return false
		}
		if served += n + laterEvents*len(l.later); served >= yieldAfter {
			served = 0
			yield()
		}
		for i := 0; i < n && !l.ended; i++ {
			l.dispatch(l.events[i])
			if i%passEvery == passEvery-1 || i == n-1 {
				l.Pass()
			}
		}
		l.runLater()
		l.reap()
	}
	return true
}

func (l *Loop) dispatch(ev unix.EpollEvent) {
	switch slot := uint32(ev.Fd); slot {
	case wakeSlot:
		l.runPosted()
	case timerSlot:
		l.onTick()
	case firstSlot: // Pass looks into the set by itself
	default:
		// A connection closed earlier in this turn still has its slot and its descriptor: both are given back
		// only when the turn ends. So an event can meet a closed connection, but never somebody else's. (An
		// empty slot: while a child process is being forked it shares our descriptors, and a closed one
		// lingers in the set.)
		if c := l.conns[slot]; c != nil && c.state != closed {
			c.handle(ev.Events)
		}
	}
}

// Pass lets the preferred pass the crowd. The loop does so after every few events; what was posted and takes long should
// too. It belongs to the loop's goroutine, and not into a connection's event.
func (l *Loop) Pass() {
	if l.preferred > 0 && !l.ended {
		for _, ev := range l.firsts[:ready(l.first, l.firsts[:])] {
			l.dispatch(ev)
		}
	}
	if l.cfg.Between != nil && !l.ended {
		l.cfg.Between()
	}
}

// reap ends the turn: connections closed in it give back slot and descriptor, and their handlers hear of it.
func (l *Loop) reap() {
	for i := 0; i < len(l.closing); i++ { // Closed may close others
		c, err := l.closing[i].c, l.closing[i].err
		l.closing[i] = ending{}
		l.conns[c.slot] = nil
		l.free = append(l.free, c.slot)
		c.clearDeadline()
		if c.preferred {
			l.preferred--
		}
		if c.detached {
			continue
		}
		c.handler.Closed(c, err)
		unix.Close(int(c.fd))
		if i%passEvery == passEvery-1 {
			l.Pass()
		}
	}
	l.closing = l.closing[:0]
	if len(l.drained) > 0 && len(l.free) == len(l.conns) {
		for _, drained := range l.drained {
			close(drained)
		}
		l.drained = nil
	}
}

// register makes a non-blocking descriptor a connection.
func (l *Loop) register(fd int, events uint16) (*Conn, error) {
	if l.stopped { // the last Closed may want to dial; nobody would close that connection (only this goroutine sets stopped)
		return nil, ErrLoopClosed
	}
	slot := uint32(len(l.conns))
	if n := len(l.free); n > 0 {
		slot = l.free[n-1]
	}
	if err := control(l.set, unix.EPOLL_CTL_ADD, fd, unix.EPOLLET|uint32(events), slot); err != nil {
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

// Later has f run once whatever else is ready has had its turn: for work that takes long, and is done in pieces. It belongs
// to the loop's goroutine, and costs less than Post, for which the kernel wakes whoever might be waiting. What has not run
// when the loop ends never does.
func (l *Loop) Later(f func()) { l.later = append(l.later, f) }

func (l *Loop) runLater() {
	l.later, l.laterRun = l.laterRun[:0], l.later
	for i, f := range l.laterRun {
		if !l.ended {
			f()
		}
		l.laterRun[i] = nil
	}
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
	arrived := l.arrived[:min(len(l.arrived), acceptSize)]
	l.arrived = l.arrived[len(arrived):]
	if len(l.arrived) > 0 {
		l.kick() // those who are here have their turn in between
	} else {
		l.arrived = nil
	}
	l.mu.Unlock()

	for _, a := range arrived {
		l.admit(a)
	}
	for i, f := range run {
		f()
		run[i] = nil
	}

	l.mu.Lock()
	l.spare = run
	end := l.stop && len(l.posted) == 0 && len(l.arrived) == 0
	l.stopped = end
	l.mu.Unlock()
	if end {
		l.end()
	}
}

// end closes what the loop holds, on its goroutine, and lets Close go on.
func (l *Loop) end() {
	for _, c := range l.conns {
		if c != nil {
			c.Close(ErrLoopClosed)
		}
	}
	l.reap()
	l.ended = true
	close(l.done)
}

// abort ends the loop where it stands: after a panic its handlers can't be trusted to hear of anything, so they don't.
func (l *Loop) abort(err error) {
	l.mu.Lock()
	l.stopped, l.posted = true, nil
	arrived := l.arrived
	l.arrived = nil
	l.mu.Unlock()
	if l.ended {
		return
	}
	for _, a := range arrived {
		unix.Close(a.fd)
	}
	for _, c := range l.conns {
		if c != nil && !c.detached {
			unix.Close(int(c.fd))
		}
	}
	l.ended = true
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

// Drain waits until the last connection has ended, or until ctx does. It does not end any itself.
// It must not be called on the loop's own goroutine.
func (l *Loop) Drain(ctx context.Context) {
	drained := make(chan struct{})
	if !l.Post(func() { l.drained = append(l.drained, drained) }) {
		return
	}
	select {
	case <-drained:
	case <-l.done:
	case <-ctx.Done():
	}
}

// Close ends the loop: what was posted before runs, the connections are closed, each one's Closed is called with
// [ErrLoopClosed], and then Close returns. It must not be called on the loop's own goroutine.
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
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close() // the set
	} else if l.set >= 0 {
		unix.Close(l.set)
	}
	for _, fd := range []int{l.first, l.wake, l.timer} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
