package main

import (
	"cmp"
	"context"
	"flag"
	"time"

	"golang.org/x/sys/unix"
)

// slow adds to watch viewers that read a trickle, or nothing: what do they cost the server, and do the others feel it?
var slow = scenario{
	name: "slow", help: "the same beside viewers that read a trickle or nothing: what they cost, and whether others feel it", counts: "states",
	flags: func(o *options, f *flag.FlagSet) {
		f.IntVar(&o.n, "n", 100, "viewers that watch as they should")
		f.IntVar(&o.slow, "slow", 1000, "viewers that do not")
		f.IntVar(&o.trickle, "trickle", 0, "bytes per second that each of those reads")
		f.Float64Var(&o.rate, "rate", 20, "commands per second, each of which changes the state; 0: somebody else drives")
		o.lengthFlags(f, 30*time.Second)
	},
	check: func(o *options) error { return cmp.Or(checkWatch(o), o.checkSlow()) },
	play:  playWatch,
}

const (
	trickleEvery = 100 * time.Millisecond
	// smallBuffer is a slow reader's receive buffer (socket(7), SO_RCVBUF): with the usual one the kernel would read
	// minutes of states for it.
	smallBuffer = 4096
)

// slowDropped is the name of the times until the server gave up slow readers.
const slowDropped = "slow_dropped_after"

// readers are viewers who leave the loop once they are in, since that reads all there is.
type readers struct {
	rig     *rig
	crowd   *crowd
	trickle int

	// Owned by the loop's goroutine until they have gathered, then by that of start.
	fds     []int
	since   []time.Time // by reader: since when it is slow
	dropped int
	held    histogram // how long the server kept those it gave up
}

func (g *rig) newReaders(n, trickle int) *readers {
	rd := &readers{rig: g, crowd: g.newCrowd("slow reader", n), trickle: trickle, held: newHistogram()}
	rd.crowd.member = func() role { return &reader{crowd: rd.crowd, readers: rd} }
	return rd
}

// reader is one of them while the loop has it.
type reader struct {
	*crowd
	readers *readers
}

func (r *reader) opened(c *client, took time.Duration) {
	if fd := c.detach(); fd >= 0 {
		r.rig.connections.Add(1) // for the crowd it has left
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, smallBuffer)
		r.readers.fds = append(r.readers.fds, fd)
		r.readers.since = append(r.readers.since, time.Now())
	}
	r.crowd.opened(c, took) // the last one lets gather return
}

// start has them read what they may, until the function that it returns is called, which closes them.
func (rd *readers) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := make([]byte, max(rd.trickle/int(time.Second/trickleEvery), min(rd.trickle, 1)))
		for next := time.Now(); len(rd.fds) > 0; next = next.Add(trickleEvery) {
			if !sleepUntil(ctx, next) {
				break
			}
			for i, fd := range rd.fds {
				if fd >= 0 && !rd.turn(fd, p) {
					unix.Close(fd)
					rd.fds[i] = -1
					rd.dropped++
					rd.held.add(time.Since(rd.since[i]))
					rd.rig.connections.Add(-1)
				}
			}
		}
		for _, fd := range rd.fds {
			if fd >= 0 {
				unix.Close(fd)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// turn reads a little and reports whether the server still has the connection. (One that does not read learns only from
// TCP's state that the other side has gone.)
func (rd *readers) turn(fd int, p []byte) bool {
	if len(p) > 0 {
		if n, err := unix.Read(fd, p); n == 0 || err != nil && err != unix.EAGAIN {
			return false
		}
	}
	const established = 1 // TCP_ESTABLISHED of the kernel's tcp_states.h
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == established
}

func (rd *readers) figures() {
	if rd.crowd.n == 0 {
		return
	}
	g := rd.rig
	g.figure("slow_readers", float64(rd.crowd.opens), "", "")
	g.figure("slow_dropped", float64(rd.dropped), "", "")
	if p := g.probe; p.End.Resident > 0 && rd.crowd.opens > 0 && g.o.churn == 0 { // nothing else has grown meanwhile
		g.figure("server_growth_bytes_per_slow", float64(p.End.Resident-p.Opened.Resident)/float64(rd.crowd.opens), "bytes", "less")
	}
	g.times(rd.held.times(slowDropped, "until the server gave up a slow reader, of those that it did"))
}
