package netpoll

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	backlog    = 4096      // the kernel lowers it to net.core.somaxconn
	sendBuffer = 128 << 10 // of a connection in the kernel, which would let it grow to 4 MB for a peer that is slow
)

// Listener is a listening TCP socket, for an Acceptor.
type Listener struct {
	fd   int
	addr netip.AddrPort
}

// Listen opens n listeners on one address, for n loops; the kernel spreads new connections over them (SO_REUSEPORT,
// socket(7)). The address is host:port as for net.Listen: an empty host is every address of IPv4 and IPv6, port 0 a
// free one.
func Listen(addr string, n int) ([]*Listener, error) {
	// An ordinary socket is bound first: SO_REUSEPORT would happily share the port with another server of the same
	// user. It also settles host names, the address family and port 0 the way every Go program does.
	probe, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	at := probe.Addr().(*net.TCPAddr).AddrPort()
	probe.Close()

	var all []*Listener
	for range n {
		ln, err := listen(at)
		if err != nil {
			for _, ln := range all {
				ln.Close()
			}
			return nil, fmt.Errorf("listen %s: %w", addr, err)
		}
		all = append(all, ln)
	}
	return all, nil
}

func listen(at netip.AddrPort) (*Listener, error) {
	sa, family := sockaddr(at)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, err
	}
	dualStack := 1 // IPV6_V6ONLY
	if at.Addr() == netip.IPv6Unspecified() {
		dualStack = 0
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		// Accepted sockets inherit it. An event's output leaves in one write, so Nagle has nothing to gather.
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer),
	)
	if family == unix.AF_INET6 {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, dualStack))
	}
	if err == nil {
		if err = unix.Bind(fd, sa); err == nil {
			err = unix.Listen(fd, backlog)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Listener{fd: fd, addr: at}, nil
}

// Addr returns the address that is listened on.
func (ln *Listener) Addr() netip.AddrPort { return ln.addr }

// Close closes a listener that nobody accepts on.
func (ln *Listener) Close() { unix.Close(ln.fd) }

func sockaddr(at netip.AddrPort) (unix.Sockaddr, int) {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}, unix.AF_INET
	}
	sa := &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	if ifi, err := net.InterfaceByName(at.Addr().Zone()); err == nil {
		sa.ZoneId = uint32(ifi.Index)
	}
	return sa, unix.AF_INET6
}
