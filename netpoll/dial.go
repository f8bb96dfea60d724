package netpoll

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Dial opens a connection from local (the zero Addr lets the kernel choose) to remote and sends first on it as soon as
// it is established; Drained tells when that has happened. A connection that fails is told by Closed. It belongs to
// the loop's goroutine, so call it from a posted function or from a handler.
func (l *Loop) Dial(local netip.Addr, remote netip.AddrPort, first []byte, h Handler) (*Conn, error) {
	sa, family := sockaddr(remote)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", remote, err)
	}
	fail := func(err error) (*Conn, error) {
		unix.Close(fd)
		return nil, fmt.Errorf("dial %s: %w", remote, err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fail(err)
	}
	if local.IsValid() {
		from, _ := sockaddr(netip.AddrPortFrom(local, 0))
		// The port is chosen by connect, for this peer alone: a source address has as many ports per peer (ip(7)).
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fail(err)
		}
		if err := unix.Bind(fd, from); err != nil {
			return fail(err)
		}
	}
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		return fail(err)
	}
	// What to send first waits as output that the kernel has not taken; the socket turns writable when it connects.
	c, err := l.register(fd, input|unix.EPOLLOUT)
	if err != nil {
		return fail(err)
	}
	c.handler, c.rest = h, &rest{bytes: append([]byte(nil), first...)}
	l.backlog += len(first)
	return c, nil
}
