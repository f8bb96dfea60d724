package main

import (
	"cmp"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"roverd/netpoll"
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

// give passes a reserved connection of the deck on, with its TLS, if it has that, and with what has been read from it. An
// error has closed it.
func (h *handover) give(d *deck, fd int, s *secure, read []byte) error {
	f := os.NewFile(uintptr(fd), "http")
	conn, err := net.FileConn(f) // its own duplicate, in Go's poller
	f.Close()
	if err != nil {
		h.release()
		return err
	}
	tcp := conn.(*net.TCPConn)
	c := &handedConn{Conn: tcp, tcp: tcp, from: h, deck: d, read: read}
	if s == nil {
		h.conns <- c
		return nil
	}
	s.toHTTP(tcp)
	c.Conn, c.secure = s.tls, s
	h.conns <- securedConn{c}
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

// handedConn is a connection as net/http sees it: one request after the other, and only what the reactor hands over.
type handedConn struct {
	net.Conn // the same as tcp, or TLS over it
	tcp      *net.TCPConn
	secure   *secure // nil without TLS
	from     *handover
	deck     *deck  // where it came from
	read     []byte // what the client has sent beyond head
	head     []byte // of a request, what net/http has not read yet
	ended    bool   // with a recall
	once     sync.Once
}

// securedConn is one over TLS: net/http looks for ConnectionState.
type securedConn struct{ *handedConn }

func (c securedConn) ConnectionState() tls.ConnectionState { return c.secure.tls.ConnectionState() }

// recall is the method that net/http reads in place of a head that is the reactor's. No request gets there with it that
// is a client's (Head.method).
const recall = "RECALL"

// Read returns the heads that the reactor would hand over, were they the first on their connection: net/http puts up
// with more, and might end a request elsewhere than a proxy does. In place of any other comes a recall, then the end.
func (c *handedConn) Read(p []byte) (int, error) {
	for len(c.head) == 0 {
		if c.ended {
			return 0, io.EOF
		}
		var h websocket.Head
		c.read = skipEmptyLines(c.read)
		n, err := websocket.HeadLength(c.read)
		if err == nil && n > 0 {
			h, err = websocket.ParseHead(c.read[:n], c.secure != nil)
		}
		switch {
		case err != nil || h.IsUpgrade():
			c.head, c.ended = []byte(recall+" / HTTP/1.1\r\nHost:\r\n\r\n"), true
		case n > 0:
			c.head, c.read = c.read[:n:n], c.read[n:]
		default:
			c.read = slices.Grow(c.read, len(p))
			n, err := c.Conn.Read(c.read[len(c.read):cap(c.read)])
			if c.read = c.read[:len(c.read)+n]; n == 0 {
				return 0, err
			}
		}
	}
	n := copy(p, c.head)
	c.head = c.head[n:]
	return n, nil
}

// Close ends the connection by way of the reactor, which reads on until the client has closed it, too: at once it would
// be reset if the client has sent more, which can destroy the answer on its way (RFC 9112 section 9.6).
func (c *handedConn) Close() (err error) {
	c.once.Do(func() {
		fd, at, lost := c.duplicate()
		if c.secure != nil {
			c.secure.Conn.(*blocking).end()
		}
		err = c.Conn.Close()
		c.from.release()
		if lost == nil {
			c.deck.loop.Adopt(fd, at, nil, c.deck.finish)
		}
	})
	return err
}

// part closes net/http's descriptor of a connection that goes on elsewhere.
func (c *handedConn) part() {
	c.once.Do(c.from.release)
	c.tcp.Close()
}

// duplicate returns a descriptor of the connection for the reactor, and the address of the peer.
func (c *handedConn) duplicate() (fd int, at netip.AddrPort, err error) {
	peer, ok := c.tcp.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return -1, at, unix.ENOTCONN // it was reset before it got here
	}
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return -1, at, err
	}
	control := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	from := peer.AddrPort()
	return fd, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), cmp.Or(control, err)
}

// giveBack returns the connection of a recall to the reactor, where it is as if it had just come, with what the client
// has sent as its first request: proxies ask for a WebSocket on any connection that they have kept, and what is refused
// on one that has just come is refused on theirs.
func giveBack(w http.ResponseWriter) error {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return err
	}
	c, ok := conn.(*handedConn)
	if !ok {
		c = conn.(securedConn).handedConn
	}
	defer c.part()
	fd, at, err := c.duplicate()
	if err != nil {
		return err
	}
	if c.secure != nil {
		c.deck.loop.Adopt(fd, at, c.secure.Conn.(*blocking).in, c.deck.reopen(c.secure, c.read))
	} else {
		c.deck.loop.Adopt(fd, at, c.read, c.deck.open)
	}
	return nil
}

// reopen takes a TLS connection back, of which net/http has read something.
func (d *deck) reopen(s *secure, read []byte) func(*netpoll.Conn, netip.AddrPort) netpoll.Handler {
	return func(c *netpoll.Conn, from netip.AddrPort) netpoll.Handler {
		s.Conn, s.first = d.wire, read
		c.SetLayer(s)
		if s.handler = newGuest(d, c, from.Addr()); s.handler == nil {
			return nil
		}
		return s
	}
}

// finish takes a connection back that net/http is done with.
func (d *deck) finish(c *netpoll.Conn, _ netip.AddrPort) netpoll.Handler {
	if !d.srv.gate.turnAway() {
		return nil
	}
	c.Finish()
	return turned{d.srv.gate}
}
