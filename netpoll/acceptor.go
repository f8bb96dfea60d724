package netpoll

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/mailru/easygo/netpoll"
	"golang.org/x/sys/unix"
)

const (
	acceptSize  = 16          // connections accepted at a time
	acceptPause = time.Second // when descriptors or memory have run out
)

// Acceptor accepts connections for loops. It waits in easygo's poller, whose goroutine calls it back: so a storm of
// connections is kept off the loops, which get them in slices.
type Acceptor struct {
	poll    *netpoll.Epoll
	onError func(error)

	// Owned by the poller's goroutine.
	reserve int // a descriptor to spare, for when there are no others; -1 when even that could not be had
	peer    unix.RawSockaddrAny
	batch   []arrival

	mu        sync.Mutex
	listeners []*Listener
}

// NewAcceptor starts an acceptor. onError hears, on the acceptor's goroutine, of what keeps it from accepting for a
// while, such as a full descriptor table. It must not block.
func NewAcceptor(onError func(error)) (*Acceptor, error) {
	a := &Acceptor{onError: onError, reserve: -1}
	var err error
	a.poll, err = netpoll.EpollCreate(&netpoll.EpollConfig{OnWaitError: func(err error) {
		onError(fmt.Errorf("wait for connections: %w", err))
	}})
	if err != nil {
		return nil, fmt.Errorf("acceptor: %w", err)
	}
	a.openReserve()
	return a, nil
}

// Accept has new connections on ln go to l, where open is called for each with the address of the peer and returns its
// handler; nil closes the connection. The acceptor closes ln when it is closed.
func (a *Acceptor) Accept(ln *Listener, l *Loop, open func(*Conn, netip.AddrPort) Handler) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listeners = append(a.listeners, ln)
	return a.poll.Add(ln.fd, netpoll.EPOLLIN, func(ev netpoll.EpollEvent) {
		switch {
		case ev&netpoll.EPOLLIN != 0:
			a.accept(ln, l, open)
		case ev&(netpoll.EPOLLERR|netpoll.EPOLLHUP) != 0: // somebody shut it down, and it will never be quiet again
			a.poll.Del(ln.fd)
			a.onError(fmt.Errorf("accept on %s: the listener was shut down: no new connection will come", ln.addr))
		} // else it is the poller's own notice that it closes
	})
}

func (a *Acceptor) accept(ln *Listener, l *Loop, open func(*Conn, netip.AddrPort) Handler) {
	if a.reserve < 0 {
		a.openReserve()
	}
	a.batch = a.batch[:0]
	for range acceptSize {
		fd, errno := accept(ln.fd, &a.peer)
		if errno == 0 {
			a.batch = append(a.batch, arrival{fd: fd, from: addrPort(&a.peer), open: open})
			continue
		}
		switch errno {
		case unix.EAGAIN, unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET,
			unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETDOWN, unix.ENETUNREACH:
			// None waits, or the peer is already gone (accept(2), error handling): if others wait, we are called again.
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			a.refuse(ln)
			fallthrough
		default:
			a.pause(ln, fmt.Errorf("accept on %s: %w; no new connection is taken for %s", ln.addr, errno, acceptPause))
		}
		break
	}
	if len(a.batch) > 0 {
		l.arrive(a.batch)
		runtime.Gosched() // in a storm, on one processor, the loops would have to wait until the scheduler interferes
	}
}

// openReserve tries to have the reserve. Somebody may be quicker: then it is tried again with the next connection.
func (a *Acceptor) openReserve() {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fd = -1
	}
	a.reserve = fd
}

// refuse closes the connections that wait to be accepted when no descriptor is left for them: else they would hang, and
// keep the listener readable. The reserve is what it accepts them with, one after the other.
func (a *Acceptor) refuse(ln *Listener) {
	if a.reserve >= 0 {
		unix.Close(a.reserve)
	}
	for range backlog { // not for ever: others may come as fast
		fd, errno := accept(ln.fd, &a.peer)
		if errno != 0 {
			break
		}
		unix.Close(fd)
	}
	a.openReserve()
}

// pause looks away from ln for a while, after err.
func (a *Acceptor) pause(ln *Listener, err error) {
	a.onError(err)
	a.poll.Mod(ln.fd, 0) // fails only when the poller has been closed
	time.AfterFunc(acceptPause, func() { a.poll.Mod(ln.fd, netpoll.EPOLLIN) })
}

// Close ends accepting and closes the listeners. What was accepted is with the loops by then.
func (a *Acceptor) Close() {
	if a.poll.Close() != nil { // waits for the callback under way
		return // it was closed before
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ln := range a.listeners {
		ln.Close()
	}
	if a.reserve >= 0 {
		unix.Close(a.reserve)
	}
}
