package hardware

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Guard is a process of this same program that switches the outputs off when this process can't: because it is dead,
// or because it hangs. It has the lines too (their descriptor), and it is a second holder of the motion's lease: both
// share a page of memory that says until when the motors may run. While nothing moves it sleeps.
type Guard struct {
	cmd    *exec.Cmd
	until  *atomic.Uint32 // in the page: the instant, or one of the words below
	start  time.Time      // a time,
	began  instant        // and the same on the clock that all processes have
	wake   int            // eventfd: there is a lease again
	letGo  int            // eventfd: the pipe may end
	closed atomic.Bool
	failed chan error
	parts  sync.WaitGroup
}

// What the page says beside an instant. Who has the motors is never in doubt: the actor takes them by an instant and
// gives them up by standing; if it is late, the guard takes them, and the actor has to ask for them.
const (
	standing     = iota // the motors stand
	taken               // the guard keeps them off
	returned            // the actor has seen that and switched them off itself: the guard can let go
	firstInstant        // none is less
)

// instant is a time on the kernel's monotonic clock, which all processes share, in microseconds. It goes round in 71
// minutes, far more than any lease; but 64 bits are not stored in one step on an ARMv6.
type instant uint32

func instantNow() instant {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // can't fail: the clock exists
	return instant(t.Nano() / 1000)
}

// sub returns the time from other to i.
func (i instant) sub(other instant) time.Duration {
	return time.Duration(int32(i-other)) * time.Microsecond
}

// The guard's descriptors, beside the standard error; its arguments are how many lines there are, and the PWM channels.
const (
	guardPipe  = iota     // its standard input, which ends when the process that it guards does
	guardReady            // its standard output, for one byte when it is on guard
	guardPage  = iota + 1 // the shared page
	guardWake             // eventfd, written when a lease begins
	guardOther            // pidfd of the process that it guards
	guardLines            // the lines, if there are any
)

// guardStart is how long the guard may take to start.
const guardStart = 10 * time.Second

// StartGuard starts the guard of lines, which OpenLines made. The program must run RunGuard when its first argument is
// "guard".
func StartGuard(lines Lines) (*Guard, error) {
	b := lines.(*board)
	g := &Guard{failed: make(chan error, 1), wake: -1, letGo: -1}
	if err := g.run(b); err != nil {
		g.release()
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return g, nil
}

func (g *Guard) run(b *board) (err error) {
	// What the guard is given, in the order of its descriptors. The first error stays.
	var given []*os.File
	give := func(fd int, e error) {
		if err == nil {
			err = e
		}
		if e == nil {
			given = append(given, os.NewFile(uintptr(fd), "given to the guard"))
		}
	}
	defer func() {
		for _, f := range given {
			f.Close()
		}
	}()
	unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) // what this process was itself given is not for it
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	give(pipe[0], nil)
	defer unix.Close(pipe[1]) // hold has its own
	ready, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	given = append(given, out)
	give(g.share())
	give(g.bell())
	give(unix.PidfdOpen(os.Getpid(), 0))
	count := 0
	if b.request != nil {
		count = b.request.lines
		give(unix.FcntlInt(uintptr(b.request.fd), unix.F_DUPFD_CLOEXEC, 0))
	}
	if err == nil {
		err = g.hold(pipe[1])
	}
	if err != nil {
		return err
	}

	g.cmd = exec.Command("/proc/self/exe", "guard", strconv.Itoa(count)) // this program, even if its file was replaced
	g.cmd.Args[0] = os.Args[0]
	for _, c := range b.pwm {
		g.cmd.Args = append(g.cmd.Args, c.line)
	}
	g.cmd.Stdin, g.cmd.Stdout, g.cmd.Stderr, g.cmd.ExtraFiles = given[0], given[1], os.Stderr, given[2:]
	g.cmd.Dir = "/"
	g.cmd.Env = []string{"GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=16MiB"} // it makes no garbage to speak of
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}               // the terminal's signals are not for it
	if err := g.cmd.Start(); err != nil {
		return err
	}
	g.parts.Go(func() {
		g.cmd.Wait()
		if !g.closed.Load() {
			g.failed <- fmt.Errorf("their guard has ended (%s), and without it the car does not drive", g.cmd.ProcessState)
		}
	})
	out.Close() // so that its end is seen
	ready.SetReadDeadline(time.Now().Add(guardStart))
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		g.cmd.Process.Kill()
		return fmt.Errorf("it does not say that it is ready: %w", err)
	}
	if b.request != nil {
		b.request.until = g.until
	}
	return nil
}

// share makes the page and returns its file.
func (g *Guard) share() (fd int, err error) {
	if fd, err = unix.MemfdCreate("roverd guard", unix.MFD_CLOEXEC); err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	if err = unix.Ftruncate(fd, int64(os.Getpagesize())); err == nil {
		g.until, err = mapPage(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	g.start, g.began = time.Now(), instantNow()
	return fd, nil
}

// mapPage maps the page for as long as the process lives: the thread that makes the pulses may look at it to the end.
func mapPage(fd int) (*atomic.Uint32, error) {
	page, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return (*atomic.Uint32)(unsafe.Pointer(&page[0])), nil
}

// bell makes the eventfd wake, and returns another descriptor of it for the guard.
func (g *Guard) bell() (fd int, err error) {
	if g.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return -1, os.NewSyscallError("eventfd", err)
	}
	return unix.FcntlInt(uintptr(g.wake), unix.F_DUPFD_CLOEXEC, 0)
}

// hold keeps the pipe's other end open for as long as this process lives, on a thread whose table of files has nothing
// else. The descriptors of a process that dies are closed one after the other, those that were opened first come last
// (kernel/task_work.c: the newest work runs first), and each viewer's takes 5 us: behind a crowd of a million the end
// of the pipe would come after five seconds. The thread's own table goes at once, however many are in the other.
func (g *Guard) hold(pipe int) (err error) {
	if g.letGo, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	ready := make(chan error)
	g.parts.Go(func() { g.keep(pipe, ready) })
	return <-ready
}

func (g *Guard) keep(pipe int, ready chan<- error) {
	runtime.LockOSThread() // and never unlocked: the thread ends with this
	if unix.Gettid() == unix.Getpid() {
		// The process's first thread does not, and its files are what /proc shows as those of the process. While it is
		// taken the next goroutine gets another one.
		next := make(chan error)
		g.parts.Go(func() { g.keep(pipe, next) })
		ready <- <-next
		runtime.UnlockOSThread()
		return
	}
	low, high := uint(min(pipe, g.letGo)), uint(max(pipe, g.letGo))
	err := unix.CloseRange(high+1, math.MaxUint32, unix.CLOSE_RANGE_UNSHARE)
	for _, r := range [][2]uint{{0, low}, {low + 1, high}} {
		if err == nil && r[0] < r[1] {
			err = unix.CloseRange(r[0], r[1]-1, 0)
		}
	}
	if ready <- os.NewSyscallError("close_range", err); err == nil {
		var count [8]byte
		for _, err := unix.Read(g.letGo, count[:]); err == unix.EINTR; _, err = unix.Read(g.letGo, count[:]) {
		}
	}
}

// Until tells the guard until when the motors may run: see Watch.
func (g *Guard) Until(t time.Time) bool {
	next := uint32(standing)
	if !t.IsZero() {
		next = uint32(max(g.began+instant(t.Sub(g.start).Microseconds()), firstInstant))
	}
	for {
		was, now := g.until.Load(), next
		if was == taken || was == returned {
			if next != standing {
				return false
			}
			now = returned
		}
		if g.until.CompareAndSwap(was, now) {
			if was == standing && now != standing {
				kick(g.wake)
			}
			if was == taken {
				for begin := time.Now(); g.until.Load() == returned && time.Since(begin) < grace; {
					time.Sleep(time.Millisecond) // it looks as often
				}
				return false
			}
			return true
		}
	}
}

// Failed has an error when the guard has ended before Close.
func (g *Guard) Failed() <-chan error { return g.failed }

// Close ends the guard. If the outputs are not known to be off, it first does its work, for which nobody waits.
func (g *Guard) Close(off bool) {
	g.closed.Store(true)
	if !off {
		kick(g.letGo)
		return
	}
	g.cmd.Process.Kill() // it has nothing to put in order
	g.release()
}

func (g *Guard) release() {
	if g.letGo >= 0 {
		kick(g.letGo)
	}
	g.parts.Wait()
	for _, fd := range []int{g.wake, g.letGo} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// kick raises an eventfd.
func kick(fd int) {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(fd, one[:])
}
