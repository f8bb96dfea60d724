package main

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxHTTP  = 64               // connections that net/http serves at a time; each has a goroutine, unlike the viewers
	idleTime = 10 * time.Second // how long such a connection is kept for another request
)

// handover is a net.Listener whose connections come from the reactor.
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

// give passes a reserved connection on, with what has been read from it.
func (h *handover) give(fd int, read []byte) {
	f := os.NewFile(uintptr(fd), "http")
	conn, err := net.FileConn(f) // its own duplicate, in Go's poller
	f.Close()
	if err != nil {
		h.release()
		return
	}
	h.conns <- &handedConn{Conn: conn, from: h, read: read}
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
	read []byte
	once sync.Once
}

func (c *handedConn) Read(p []byte) (int, error) {
	if len(c.read) > 0 {
		n := copy(p, c.read)
		c.read = c.read[n:]
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
