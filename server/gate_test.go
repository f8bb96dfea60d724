package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func TestGate(t *testing.T) {
	g := newGate(5, 2, limit{})
	enter := func(addr string, want bool) uint32 {
		t.Helper()
		place, err := g.enter(netip.MustParseAddr(addr), time.Now())
		if (err == nil) != want {
			t.Errorf("%s enters: %v, want %v", addr, err, want)
		}
		return place
	}
	first := enter("192.0.2.1", true)
	enter("192.0.2.1", true)
	enter("192.0.2.1", false)
	g.leave(first)
	enter("192.0.2.1", true)
	enter("2001:db8::1", true)
	enter("2001:db8::2", true)  // the same /64
	enter("2001:db8::3", false) // so it has two already
	enter("127.0.0.1", true)    // not counted by address
	enter("127.0.0.1", false)   // but five are in
}

// However they come and go, the counts are right and nothing is kept of who has gone.
func TestGateForgets(t *testing.T) {
	const perAddr = 3
	g := newGate(0, perAddr, limit{})
	rnd := rand.New(rand.NewPCG(1, 1))
	type guest struct {
		addr  netip.Addr
		place uint32
	}
	var in []guest
	count := map[netip.Addr]int{}
	for range 20_000 {
		if len(in) > 0 && rnd.IntN(2) == 0 {
			i := rnd.IntN(len(in))
			g.leave(in[i].place)
			count[in[i].addr]--
			in[i] = in[len(in)-1]
			in = in[:len(in)-1]
			continue
		}
		addr := netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", rnd.IntN(20)))
		place, err := g.enter(addr, time.Now())
		if want := count[addr] < perAddr; (err == nil) != want {
			t.Fatalf("%s with %d enters: %v", addr, count[addr], err)
		}
		if err == nil {
			in = append(in, guest{addr, place})
			count[addr]++
		}
	}
	for _, one := range in {
		g.leave(one.place)
	}
	if g.in != 0 || len(g.byAddr) != 0 || len(g.free) != len(g.addrs)-1 || len(g.addrs) > 21 {
		t.Errorf("%d are in, %d addresses known, %d places, %d free", g.in, len(g.byAddr), len(g.addrs), len(g.free))
	}
}

// What a loop takes of the descriptors is what is set aside for it, so that the limit of open files is not met first.
func TestLoopFiles(t *testing.T) {
	var taken []int
	for _, loops := range []int{1, 1, 11} { // the first time, Go opens what it needs
		t.Run(fmt.Sprint(loops), func(t *testing.T) {
			startServer(t, "-line", "127.0.0.1:0", "-loops", fmt.Sprint(loops))
			taken = append(taken, files(t))
		})
	}
	if each := float64(taken[2]-taken[1]) / 10; each != loopFiles {
		t.Errorf("a loop takes %v descriptors, and %d are set aside", each, loopFiles)
	}
}
