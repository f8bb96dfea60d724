package hardware

import (
	"errors"
	"fmt"
	"io"
	"os/signal"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The guard's own side.

const (
	// grace is how long after the lease the actor may still be on its way to switch the motors off.
	grace = 30 * time.Millisecond
	// lateTime is how long the guard then keeps the motors off before it kills the process, whose actor may only be late:
	// beside ten programs that wanted the same two processors it was by 77 ms once in a hundred times, and by 245 in 300.
	lateTime = 300 * time.Millisecond
	// dyingTime is for how long the guard sees to it that the lines go off, and stay so while the process that has them
	// dies.
	dyingTime = 10 * time.Second
)

// guardian is what the guard's process has.
type guardian struct {
	until *atomic.Uint32
	pipe  int
	wake  int
	other int
	lines *request // nil when there are none
	pwm   []string
}

// RunGuard is the guard's process, with the arguments that StartGuard gave it. It returns the exit code.
func RunGuard(args []string, stderr io.Writer) int {
	// systemd ends a service by a signal to all of its processes: the guard goes last.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE)
	runtime.LockOSThread() // the priority is the thread's
	standOut()
	until, err := mapPage(guardPage)
	lines, wrong := 0, errors.New("")
	if len(args) > 0 {
		lines, wrong = strconv.Atoi(args[0])
	}
	if err != nil || wrong != nil {
		fmt.Fprintln(stderr, "roverd: `roverd guard` is what roverd starts by itself")
		return 2
	}
	g := &guardian{until: until, pipe: guardPipe, wake: guardWake, other: guardOther, pwm: args[1:]}
	if lines > 0 {
		g.lines = &request{fd: guardLines, lines: lines}
	}
	unix.Write(guardReady, []byte{1})
	unix.Dup3(guardPipe+2, guardReady, 0) // nobody reads it any more

	hung := g.wait()
	if hung {
		unix.PidfdSendSignal(g.other, unix.SIGKILL, nil, 0)
	}
	alive, took, err := g.end()
	if g.lines != nil {
		g.lines.Close() // before the log, which may block: the next roverd may be waiting for them
	}
	why := "roverd ended in the midst of its work"
	switch {
	case hung && alive:
		why = "roverd hung and can't be killed"
	case hung:
		why = "roverd hung and was killed"
	case alive:
		why = "roverd gave up the car"
	}
	if err != nil {
		fmt.Fprintf(stderr, "guard: %s, and the outputs can't be switched off: %v\n", why, err)
		return 1
	}
	fmt.Fprintf(stderr, "guard: %s: the outputs were off after %s\n", why, took.Round(10*time.Microsecond))
	return 0
}

// standOut sees to it that the guard still runs when all else is stuck. All of it needs privileges, and helps a little
// where they are missing: the guard is small, and the kernel kills what is large.
func standOut() {
	if fd, err := unix.Open("/proc/self/oom_score_adj", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		unix.Write(fd, []byte("-1000"))
		unix.Close(fd)
	}
	unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
}

// wait returns when the guard is needed for good: the other process has ended, or it hangs.
func (g *guardian) wait() (hung bool) {
	poll := []unix.PollFd{{Fd: int32(g.pipe)}, {Fd: int32(g.wake), Events: unix.POLLIN}}
	var passed, patience instant // the lease that was seen to have passed, and until when the actor may take to see it
	for {
		timeout := &unix.Timespec{}
		switch until, now := g.until.Load(), instantNow(); until {
		case standing:
			timeout = nil
		case returned:
			g.until.CompareAndSwap(returned, standing)
		case taken:
			if now.sub(patience) >= 0 {
				return true
			}
			g.off(true) // again and again: a pulse may have been under way
			*timeout = unix.NsecToTimespec(int64(time.Millisecond))
		default:
			left := instant(until).sub(now)
			// The grace begins here, not with the end of the lease: when the whole machine stood still meanwhile, or both
			// processes did, the actor has not been woken either.
			if left <= 0 && instant(until) != passed {
				passed, patience = instant(until), now+instant(grace.Microseconds())
			}
			if left <= 0 {
				left = patience.sub(now)
			}
			if left > 0 {
				*timeout = unix.NsecToTimespec(int64(left))
			} else if g.until.CompareAndSwap(until, taken) {
				patience = now + instant(lateTime.Microseconds())
			}
		}
		poll[0].Revents, poll[1].Revents = 0, 0
		unix.Ppoll(poll, timeout, nil)
		if poll[0].Revents != 0 {
			return false
		}
		if poll[1].Revents != 0 {
			var count [8]byte
			unix.Read(g.wake, count[:])
		}
	}
}

// end switches everything off until that has succeeded and the other process is dead: what that had begun to do it may
// still finish, so its last word must not be the last. It returns whether that process lives on, and how long it took.
func (g *guardian) end() (alive bool, took time.Duration, err error) {
	begin := time.Now()
	for alive = true; ; {
		if err = g.off(false); err == nil && took == 0 {
			took = time.Since(begin)
		}
		if !alive && err == nil || time.Since(begin) > dyingTime {
			return alive, took, err
		}
		if alive {
			alive = !ready(g.other, time.Millisecond)
		} else {
			ready(-1, time.Millisecond) // poll(2) heeds no such descriptor: a pause
		}
	}
}

// off switches everything off, for now if the other process may go on.
func (g *guardian) off(forNow bool) (err error) {
	if g.lines != nil {
		err = g.lines.off()
	}
	for _, line := range g.pwm {
		err = errors.Join(err, offPWM(line, forNow))
	}
	return err
}

// ready waits for a descriptor to become readable.
func ready(fd int, within time.Duration) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	timeout := unix.NsecToTimespec(int64(within))
	n, _ := unix.Ppoll(poll, &timeout, nil)
	return n > 0
}
