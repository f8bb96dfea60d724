package netpoll

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are on the path of every event. They use RawSyscall, which skips the scheduler's bookkeeping
// (a fifth of a core at GOMAXPROCS=1). That is right only because none of them can block: every descriptor here is
// non-blocking from birth, and the wait on the connection set has a time-out of zero.

func read(fd int, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func write(fd int, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

func accept(fd int) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(n), errno
}

// ready fetches what is ready in the epoll set without waiting. (epoll_pwait, because arm64 has no epoll_wait.)
func ready(set int, events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(set),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0 // EINTR: the set stays readable, so the poller calls again
	}
	return int(n)
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
