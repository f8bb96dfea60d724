package main

import (
	"net/netip"
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	l := limit{rate: 10, burst: 5}
	var b bucket
	now := time.Now()
	for i := range 8 {
		if got, want := b.level(l, now), float64(5-i); got != want {
			t.Errorf("after %d there are %v left, want %v", i, got, want)
		}
		b.take(l, now)
	}
	for _, step := range []struct {
		after time.Duration
		want  float64
	}{{0, -3}, {100 * time.Millisecond, -2}, {500 * time.Millisecond, 2}, {time.Second, 5}, {time.Hour, 5}} {
		if got := b.level(l, now.Add(step.after)); got < step.want-1e-6 || got > step.want+1e-6 {
			t.Errorf("%s later there are %v left, want %v", step.after, got, step.want)
		}
	}
}

// An address is an IPv4 address or a /64, one has no effect on another, and memory is bounded.
func TestLimiter(t *testing.T) {
	addr := netip.MustParseAddr
	l := newLimiter(limit{rate: 1, burst: 2})
	now := time.Now()
	l.take(addr("192.0.2.1"), now)
	l.take(addr("::ffff:192.0.2.1"), now)
	l.take(addr("2001:db8::1"), now)
	l.take(addr("2001:db8::2"), now)
	for from, want := range map[string]bool{"192.0.2.1": false, "192.0.2.2": true, "2001:db8::3": false, "2001:db8:0:1::1": true, "fe80::1%eth0": true} {
		if got := l.ready(addr(from), now); got != want {
			t.Errorf("%s is ready: %v", from, got)
		}
	}
	if !l.ready(addr("192.0.2.1"), now.Add(time.Second)) {
		t.Error("time does not help")
	}
	for i := range 3 * maxBuckets {
		l.take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(l.buckets) > maxBuckets {
		t.Errorf("%d addresses are remembered", len(l.buckets))
	}
}

// Who has more addresses than are remembered does not make each of the next ones cost a look at all of them.
func TestLimiterMakesRoom(t *testing.T) {
	l := newLimiter(limit{rate: 1, burst: 2})
	now := time.Now()
	for i := range maxBuckets + 1 {
		l.take(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), now)
	}
	if len(l.buckets) > maxBuckets/2+1 {
		t.Errorf("%d addresses are remembered: there is no room", len(l.buckets))
	}
}
