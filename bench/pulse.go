package main

import (
	"net/netip"
	"time"

	"roverd/netpoll"

	"golang.org/x/sys/unix"
)

// beat is how often a pulse beats: what is read less late than that does no harm.
const beat = time.Millisecond

// pulse tells how late a loop hears of what happens, as jHiccup does. It is a timerfd (timerfd_create(2)) among the
// loop's connections, which beats while it is wanted: how late the loop hears of a beat is how long a reply that it reads
// then may have lain in the socket, because the loop, its thread or the whole of bench had no processor. All of it
// belongs to the loop's goroutine.
type pulse struct {
	fd    int
	next  time.Time     // when the next beat is due; zero: it does not beat
	heard time.Time     // when the loop heard of the last one
	late  time.Duration // how late that was
}

func newPulse(loop *netpoll.Loop) (*pulse, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	p := &pulse{fd: fd}
	loop.Adopt(fd, netip.AddrPort{}, nil, func(*netpoll.Conn, netip.AddrPort) netpoll.Handler { return p })
	return p, nil
}

// start has it beat from now on; it may do so already.
func (p *pulse) start() {
	if p.next.IsZero() {
		p.next = time.Now().Add(beat) // no later than the kernel's
		p.set(beat)
	}
}

func (p *pulse) stop() {
	p.set(0)
	p.next = time.Time{}
}

func (p *pulse) set(every time.Duration) {
	t := unix.NsecToTimespec(every.Nanoseconds())
	unix.TimerfdSettime(p.fd, 0, &unix.ItimerSpec{Interval: t, Value: t}, nil) // fails only of what is no timer
}

// lateness returns for how long what is read at a time may have lain there.
func (p *pulse) lateness(at time.Time) time.Duration {
	switch {
	case p.next.IsZero():
	case at.After(p.next): // a beat lies there, too
		return at.Sub(p.next)
	case at.Sub(p.heard) < beat:
		return p.late
	}
	return 0
}

func (p *pulse) Data(*netpoll.Conn, []byte) {
	now := time.Now()
	if p.next.IsZero() {
		return // it was stopped after this beat
	}
	p.heard, p.late = now, now.Sub(p.next)
	p.next = p.next.Add(now.Sub(p.next).Truncate(beat) + beat)
}

func (p *pulse) Drained(*netpoll.Conn)       {}
func (p *pulse) Expired(*netpoll.Conn)       {}
func (p *pulse) Closed(*netpoll.Conn, error) {}
