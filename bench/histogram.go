package main

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the longest time that a histogram tells from longer ones.
const longest = time.Hour

// histogram describes any number of times in a fixed space, each to three significant digits.
type histogram struct{ hdr *hdrhistogram.Histogram }

func newHistogram() histogram { return histogram{hdrhistogram.New(1, longest.Nanoseconds(), 3)} }

func (h histogram) add(d time.Duration) { h.addTimes(d, 1) }

// addTimes counts a time that was measured n times.
func (h histogram) addTimes(d time.Duration, n int64) {
	h.hdr.RecordValues(min(max(d, 0), longest).Nanoseconds(), n) // fails only out of range
}

func (h histogram) count() int64 { return h.hdr.TotalCount() }

// times describes what was counted. It is empty when nothing was, which is no time of zero.
func (h histogram) times(name, what string) times {
	t := times{Name: name, What: what, Count: h.count(), Curve: []point{}}
	if t.Count == 0 {
		return t
	}
	micros := func(ns int64) int64 { return (ns + 500) / 1000 }
	at := func(p float64) int64 { return micros(h.hdr.ValueAtQuantile(p)) }
	t.Mean = h.hdr.Mean() / 1e3
	t.Min, t.P50, t.P90, t.P99, t.P999, t.P9999 = micros(h.hdr.Min()), at(50), at(90), at(99), at(99.9), at(99.99)
	t.Max = micros(h.hdr.Max())
	// As HdrHistogram prints it: so many points until half of what is left to 100 % has passed, and again.
	const pointsPerHalf = 5
	for _, b := range h.hdr.CumulativeDistributionWithTicks(pointsPerHalf) {
		t.Curve = append(t.Curve, point{b.Quantile, micros(b.ValueAt)})
	}
	return t
}
