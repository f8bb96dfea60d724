package main

import (
	"slices"
	"time"
)

// samples are measured times; their number is bounded by whoever measures.
type samples []time.Duration

// percentiles describes samples, in microseconds.
type percentiles struct {
	Count int   `json:"count"`
	P50   int64 `json:"p50_us"`
	P90   int64 `json:"p90_us"`
	P99   int64 `json:"p99_us"`
	P999  int64 `json:"p99_9_us"`
	Max   int64 `json:"max_us"`
}

// percentiles sorts s. A percentile is the smallest sample that is not exceeded by that share of them (nearest rank).
func (s samples) percentiles() percentiles {
	if len(s) == 0 {
		return percentiles{}
	}
	slices.Sort(s)
	at := func(permille int) int64 { return s[(len(s)*permille+999)/1000-1].Microseconds() }
	return percentiles{len(s), at(500), at(900), at(990), at(999), at(1000)}
}
