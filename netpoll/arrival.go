package netpoll

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// arrival is a connection on its way into the loop.
type arrival struct {
	fd   int
	from netip.AddrPort
	open func(*Conn, netip.AddrPort) Handler
	read []byte // what has been read from it already
}

// Adopt gives the loop the descriptor of a connection, which must be non-blocking: open is called for it as for one that
// was accepted, and then its handler's Data with what has been read from it already. Any goroutine may call it.
func (l *Loop) Adopt(fd int, from netip.AddrPort, read []byte, open func(*Conn, netip.AddrPort) Handler) {
	l.arrive([]arrival{{fd, from, open, read}})
}

// arrive hands the loop connections. Any goroutine may call it.
func (l *Loop) arrive(all []arrival) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		for _, a := range all {
			unix.Close(a.fd)
		}
		return
	}
	l.arrived = append(l.arrived, all...)
	l.kick()
}

// admit makes an arrival a connection.
func (l *Loop) admit(a arrival) {
	c, err := l.register(a.fd, input)
	if err != nil {
		unix.Close(a.fd)
		l.warn(err)
		return
	}
	if c.handler = a.open(c, a.from); c.handler == nil {
		c.handler = ignore{}
		c.Close(nil)
	}
	if len(a.read) > 0 || c.layered { // a layer may have read something, too
		c.Feed(a.read)
	}
}

// ignore is the handler of a connection that was refused.
type ignore struct{}

func (ignore) Data(*Conn, []byte)  {}
func (ignore) Drained(*Conn)       {}
func (ignore) Expired(*Conn)       {}
func (ignore) Closed(*Conn, error) {}
