package netpoll

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are on the path of every event. They use RawSyscall, which skips the scheduler's bookkeeping
// (a fifth of a core at GOMAXPROCS=1). That is right only because none of them can block: every descriptor here is
// non-blocking from birth, and the wait on the connection set has a time-out of zero.

func read(fd int, p []byte) (int, syscall.Errno)  { return transfer(unix.SYS_READ, fd, p, 0) }
func write(fd int, p []byte) (int, syscall.Errno) { return transfer(unix.SYS_WRITE, fd, p, 0) }

// On a socket read(2) and write(2) get to the same as recv(2) and send(2), but by a longer way: up to a tenth of what it
// costs to send a message.

// recv also reads what is no socket and was adopted all the same, as a timer.
func recv(fd int, p []byte) (int, syscall.Errno) {
	n, errno := transfer(unix.SYS_RECVFROM, fd, p, 0)
	if errno == unix.ENOTSOCK {
		return read(fd, p)
	}
	return n, errno
}

func send(fd int, p []byte) (int, syscall.Errno) {
	return transfer(unix.SYS_SENDTO, fd, p, unix.MSG_NOSIGNAL)
}

// transfer makes one of the calls above. (Those without flags ignore the arguments behind the length.)
func transfer(call uintptr, fd int, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// accept also stores the peer's address.
func accept(fd int, peer *unix.RawSockaddrAny) (int, syscall.Errno) {
	size := uint32(unix.SizeofSockaddrAny)
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(peer)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(n), errno
}

// peerOf returns the address of the socket's other side; the zero AddrPort when there is none.
func peerOf(fd int) netip.AddrPort {
	var peer unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	_, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&peer)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	return addrPort(&peer)
}

// addrPort reads the kernel's form of an address (ip(7), ipv6(7): the port is in network byte order).
func addrPort(sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), networkOrder(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr).Unmap(), networkOrder(in.Port))
	}
	return netip.AddrPort{}
}

func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// ready fetches what is ready in the epoll set without waiting. (epoll_pwait, because arm64 has no epoll_wait.)
func ready(set int, events []unix.EpollEvent) int {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(set),
			uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n)
		case unix.EINTR: // Go's poller tells of what is left only once: ask again
		default:
			return 0
		}
	}
}

// yield lets others run beside a loop that is always busy. RawSyscall hides the loop from the scheduler: sysmon, which
// preempts the busy and polls for the waiting, goes to sleep when all is idle, and only the return of an ordinary system
// call wakes it. Until then no timer would fire and no other goroutine run on this processor.
func yield() {
	unix.Syscall(unix.SYS_GETPPID, 0, 0, 0)
	runtime.Gosched()
}

func control(set, op, fd int, events, slot uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(slot)}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(set), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// setTimer makes a timerfd fire every d; zero disarms it.
func setTimer(fd int, d time.Duration) error {
	spec := unix.NsecToTimespec(d.Nanoseconds())
	return unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: spec, Value: spec}, nil)
}
