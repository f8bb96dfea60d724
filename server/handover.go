package main

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"roverd/server/websocket"

	"golang.org/x/sys/unix"
)

const (
	maxHTTP  = 64               // connections that net/http serves at a time; each has a goroutine, unlike the viewers
	idleTime = 10 * time.Second // how long such a connection is kept for another request
)

// handover is a net.Listener whose connections come from the reactor, and go back to it when they ask for a WebSocket.
type handover struct {
	addr  net.Addr
	conns chan net.Conn // has room for all that are reserved, so that giving never blocks
	done  chan struct{}
	once  sync.Once
	live  atomic.Int32
}

func newHandover(addr net.Addr) *handover {
	return &handover{addr: addr, conns: make(chan net.Conn, maxHTTP), done: make(chan struct{})}
}

// reserve takes one of the maxHTTP places; release gives it back.
func (h *handover) reserve() bool {
	if h.live.Add(1) > maxHTTP {
		h.live.Add(-1)
		return false
	}
	return true
}

func (h *handover) release() { h.live.Add(-1) }

// crowded tells whether more than half of the places are taken. Then connections are not kept for another request:
// so those that are idle never hold more than half, and leave the rest to newcomers.
func (h *handover) crowded() bool { return h.live.Load() > maxHTTP/2 }

// give passes a reserved connection of the deck on, with what has been read from it. An error has closed it.
func (h *handover) give(d *deck, fd int, read []byte) error {
	f := os.NewFile(uintptr(fd), "http")
	conn, err := net.FileConn(f) // its own duplicate, in Go's poller
	f.Close()
	if err != nil {
		h.release()
		return err
	}
	h.conns <- &handedConn{Conn: conn, from: h, deck: d, read: read}
	return nil
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept, and the connections that it has not returned.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	for {
		select {
		case c := <-h.conns:
			c.Close()
		default:
			return nil
		}
	}
}

func (h *handover) Addr() net.Addr { return h.addr }

// handedConn replays what the reactor had read.
type handedConn struct {
	net.Conn
	from *handover
	deck *deck // where it came from
	read []byte
	once sync.Once
}

func (c *handedConn) Read(p []byte) (int, error) {
	if len(c.read) > 0 {
		n := copy(p, c.read)
		if c.read = c.read[n:]; len(c.read) == 0 {
			c.read = nil // or all of it would be kept as long as the connection
		}
		return n, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite is what net/http looks for when it must not close at once: what the client still sends would make TCP reset
// the connection, which can destroy the answer on its way.
func (c *handedConn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

func (c *handedConn) Close() error {
	c.once.Do(c.from.release)
	return c.Conn.Close()
}

// isReactors tells whether the reactor answers a request with that head: it asks for a WebSocket, or is refused.
func isReactors(head []byte) bool {
	n, err := websocket.HeadLength(head)
	if err != nil {
		return true
	}
	h, err := websocket.ParseHead(head[:n])
	return err != nil || h.IsUpgrade()
}

// giveBack returns the connection of a request to the reactor, where it is as if it had just come, with this request as
// its first: proxies ask for a WebSocket on any connection that they have kept, and what is refused on one that has
// just come is refused on theirs, whatever net/http thinks of it.
func giveBack(w http.ResponseWriter, head []byte) error {
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	c := conn.(*handedConn)
	peer, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return unix.ENOTCONN // it was reset before it got here
	}
	behind, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return err
	}
	raw, err := c.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	if control := raw.Control(func(old uintptr) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); control != nil || err != nil {
		return cmp.Or(control, err)
	}
	from := peer.AddrPort()
	read := slices.Concat(head, behind, c.read)
	c.deck.loop.Adopt(fd, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), read, c.deck.open)
	return nil
}
