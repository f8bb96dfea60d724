package main

import (
	"math/bits"
	"time"
)

// fineness is how many buckets a doubling has: a time is known to 1/128, less than 1 %.
const fineness = 128

// histogram describes any number of times in a fixed space.
type histogram struct {
	counts [57 * fineness]int64 // enough for every 63-bit number
	count  int64
	max    time.Duration
}

// add counts one time. The first buckets are a nanosecond wide, each later run of them twice as wide as the one before.
func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.count++
	h.max = max(h.max, d)
	shift := max(bits.Len64(uint64(d))-bits.Len64(fineness), 0)
	h.counts[shift*fineness+int(d>>shift)]++
}

// percentiles returns the upper edges of the buckets that the percentiles fall into.
func (h *histogram) percentiles() percentiles {
	at := func(permille int64) int64 {
		rank := (h.count*permille + 999) / 1000
		for i, n := range h.counts {
			if rank -= n; rank > 0 {
				continue
			}
			shift := max(i/fineness-1, 0)
			return min(time.Duration(i-shift*fineness+1)<<shift-1, h.max).Microseconds()
		}
		return 0
	}
	if h.count == 0 {
		return percentiles{}
	}
	return percentiles{int(h.count), at(500), at(900), at(990), at(999), h.max.Microseconds()}
}
