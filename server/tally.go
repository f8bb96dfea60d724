package main

import (
	"maps"
	"slices"
	"sync/atomic"

	"roverd/hardware"
)

// tally counts what has one of a few names, all of them known from the start. Any goroutine may use it.
type tally map[string]*atomic.Uint64

func newTally(names ...string) tally {
	t := tally{}
	for _, name := range names {
		t[name] = new(atomic.Uint64)
	}
	return t
}

func (t tally) add(name string) { t[name].Add(1) }

func (t tally) names() []string { return slices.Sorted(maps.Keys(t)) }

// What becomes of a command that gets to the car.
const (
	outcomeApplied    = "applied"
	outcomeSuperseded = "superseded"
	outcomeRefused    = "refused"
)

func newOutcomes() tally { return newTally(outcomeApplied, outcomeSuperseded, outcomeRefused) }

func outcomeOf(r hardware.Result) string {
	switch {
	case r.Err != nil:
		return outcomeRefused
	case !r.Applied:
		return outcomeSuperseded
	}
	return outcomeApplied
}

// newStops counts by the causes that a state may tell.
func newStops() tally {
	return newTally(hardware.CauseTTL, hardware.CauseDisconnect, hardware.CauseEStop, hardware.CauseSensor, hardware.CauseFault, causeHandover)
}
