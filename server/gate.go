package main

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

const (
	spareFiles = 256 // descriptors that are not for viewers: HTTP, those being turned away, lines, logs
	loopFiles  = 6   // and of each loop
	maxTurned  = 64  // connections that only take a last answer, as who can't come in does; more are just closed
)

// gate counts who is in, and keeps out who would be too many.
type gate struct {
	max, perAddr int      // connections in all, and from one address; 0 is no limit
	fresh        *limiter // new connections from one address; nil is no limit

	mu     sync.Mutex
	in     int
	turned int // see maxTurned
	addrs  []addrCount
	free   []uint32 // places in addrs
	byAddr map[netip.Prefix]uint32
}

// addrCount is how many connections an address has. An address is an IPv4 address, or an IPv6 network of /64: that is
// what one subscriber has (RFC 6177).
type addrCount struct {
	addr netip.Prefix
	n    int
}

func newGate(max, perAddr int, perSecond limit) *gate {
	var fresh *limiter
	if perSecond.rate > 0 {
		fresh = newLimiter(perSecond)
	}
	// Place 0 stands for addresses that are not counted.
	return &gate{max: max, perAddr: perAddr, fresh: fresh, addrs: make([]addrCount, 1), byAddr: map[netip.Prefix]uint32{}}
}

// enter lets a connection in, or says why not. Its place is to be given to leave.
func (g *gate) enter(from netip.Addr, now time.Time) (place uint32, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.max > 0 && g.in >= g.max {
		return 0, fmt.Errorf("%d connections are open, and there may be no more; try again later", g.in)
	}
	if place, err = g.admit(from, now); err != nil {
		return 0, err
	}
	g.in++
	return place, nil
}

// move counts one who is in for another address from now on.
func (g *gate) move(place uint32, to netip.Addr, now time.Time) (uint32, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	moved, err := g.admit(to, now)
	if err != nil {
		return place, err
	}
	g.uncount(place)
	return moved, nil
}

// admit holds an address to its limits.
func (g *gate) admit(from netip.Addr, now time.Time) (place uint32, err error) {
	if !from.IsValid() || from.IsLoopback() {
		return 0, nil
	}
	if g.fresh != nil && !g.fresh.ready(from, now) {
		return 0, fmt.Errorf("there are more than %v new connections a second from %s; try again later", g.fresh.limit.rate, from)
	}
	if g.perAddr > 0 {
		if place, err = g.count(from); err != nil {
			return 0, err
		}
	}
	if g.fresh != nil {
		g.fresh.take(from, now)
	}
	return place, nil
}

func (g *gate) count(from netip.Addr) (place uint32, err error) {
	addr := network(from)
	place, known := g.byAddr[addr]
	if !known {
		if n := len(g.free); n > 0 {
			place, g.free = g.free[n-1], g.free[:n-1]
		} else {
			place = uint32(len(g.addrs))
			g.addrs = append(g.addrs, addrCount{})
		}
		g.addrs[place] = addrCount{addr: addr}
		g.byAddr[addr] = place
	}
	if g.addrs[place].n >= g.perAddr {
		return 0, fmt.Errorf("%d connections are open from %s, and there may be no more", g.perAddr, from)
	}
	g.addrs[place].n++
	return place, nil
}

// network returns what counts as one address.
func network(from netip.Addr) netip.Prefix {
	bits := 64
	if from = from.Unmap(); from.Is4() {
		bits = 32
	}
	addr, _ := from.WithZone("").Prefix(bits) // fails only for what is no address: they are all one
	return addr
}

// leave lets a connection out.
func (g *gate) leave(place uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.in--
	g.uncount(place)
}

func (g *gate) uncount(place uint32) {
	if place == 0 {
		return
	}
	if a := &g.addrs[place]; a.n == 1 {
		delete(g.byAddr, a.addr)
		g.free = append(g.free, place)
	} else {
		a.n--
	}
}

// crowd returns how many are in.
func (g *gate) crowd() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.in
}

// turnAway takes one of the maxTurned places; turnedAway gives it back.
func (g *gate) turnAway() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.turned == maxTurned {
		return false
	}
	g.turned++
	return true
}

func (g *gate) turnedAway() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turned--
}
