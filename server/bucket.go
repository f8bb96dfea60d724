package main

import (
	"math"
	"net/netip"
	"sync"
	"time"
)

// limit is how much a bucket lets through.
type limit struct {
	rate  float64 // a second
	burst float64 // at once
}

// bucket is a token bucket. The zero bucket is full.
type bucket struct {
	taken float64 // of the burst
	at    time.Time
}

// level returns how much may be taken now; below zero is what was taken beyond that.
func (b *bucket) level(l limit, now time.Time) float64 {
	return l.burst - math.Max(0, b.taken-l.rate*now.Sub(b.at).Seconds())
}

// take takes one, even beyond what is there: level tells.
func (b *bucket) take(l limit, now time.Time) {
	b.taken, b.at = l.burst-b.level(l, now)+1, now
}

// maxBuckets is how many addresses a limiter remembers.
const maxBuckets = 4096

// limiter has a bucket for every address.
type limiter struct {
	limit limit

	mu      sync.Mutex
	buckets map[netip.Prefix]*bucket // but for those that are full
}

func newLimiter(l limit) *limiter { return &limiter{limit: l, buckets: map[netip.Prefix]*bucket{}} }

// ready tells whether something is left for an address.
func (l *limiter) ready(from netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[network(from)]
	return b == nil || b.level(l.limit, now) >= 1
}

// take takes one for an address.
func (l *limiter) take(from netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr := network(from)
	b := l.buckets[addr]
	if b == nil {
		if len(l.buckets) >= maxBuckets {
			l.forget(now)
		}
		b = &bucket{}
		l.buckets[addr] = b
	}
	b.take(l.limit, now)
}

// forget makes room, for many at a time, as it looks at all: by those who have waited long enough to be as good as new;
// else somebody has so many addresses that no limit for one of them is of use.
func (l *limiter) forget(now time.Time) {
	for addr, b := range l.buckets {
		if b.level(l.limit, now) >= l.limit.burst {
			delete(l.buckets, addr)
		}
	}
	for addr := range l.buckets {
		if len(l.buckets) <= maxBuckets/2 {
			return
		}
		delete(l.buckets, addr)
	}
}
