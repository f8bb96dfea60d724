package hardware

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// priority is that of the thread which makes the pulses: ahead of all ordinary ones as far as that is allowed
// (CAP_SYS_NICE, or RLIMIT_NICE and RLIMIT_RTPRIO; sched(7)). Else a pulse may last as long as somebody else's time slice.
//
// It is real-time priority only within a pulse. At the end of a system call Go's runtime may have a thread wait for
// another one (casgstatus) by sched_yield(2), which gives way to nobody of a lower priority: with a single processor
// everything stood still, a motor's line high, until the kernel stepped in after 950 ms (sched_rt_runtime_us). Within a
// pulse the thread sleeps in a call that the runtime does not know of: see pulser.wait.
type priority struct{ between, within unix.SchedAttr }

// newPriority gives the calling thread its priority between pulses.
func newPriority() *priority {
	unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
	p := &priority{
		between: unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Flags: unix.SCHED_FLAG_RESET_ON_FORK},
		within:  unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK},
	}
	if is, err := unix.SchedGetAttr(0, 0); err == nil {
		p.between.Nice = is.Nice // what was allowed
	}
	return p
}

// set gives it to the calling thread, within a pulse or between two.
func (p *priority) set(pulse bool) {
	attr := &p.between
	if pulse {
		attr = &p.within
	}
	unix.RawSyscall(unix.SYS_SCHED_SETATTR, 0, uintptr(unsafe.Pointer(attr)), 0)
}
