package main

import "time"

const (
	helmIdle    = 10 * time.Second // how long a driver may be silent before the helm falls free
	claimTime   = 10 * time.Second // how long a driver may leave a claim unanswered before it goes through by itself
	refusalTime = 30 * time.Second // how long who has been refused may not ask the same driver again
)

// helm decides who drives: one at a time. The first command takes a free helm. It falls free when its driver gives it
// back, leaves, or has been silent for helmIdle. Who wants it meanwhile claims it: the driver grants or refuses, and
// silence is consent after claimTime. It is a plain state machine, told the time; its owner serializes the calls. (Those
// of several loops come in their order only nearly: that the time goes back a little does no harm.) T names a client; its
// zero value is nobody.
type helm[T comparable] struct {
	shared bool // everyone may drive at any time: the driver is who drove last, and there is nothing to claim

	driver T
	used   time.Time // when it last drove

	claimant T
	until    time.Time // when the claim goes through by itself

	refused      T
	refusedUntil time.Time
}

// claimed is what became of a claim.
type claimed uint8

const (
	taken        claimed = iota // the claimant drives
	asked                       // the driver has to answer
	othersClaim                 // somebody else has asked already
	stillRefused                // this driver has said no, a moment ago
)

// settle lets time have its effect.
func (h *helm[T]) settle(now time.Time) {
	var nobody T
	switch {
	case h.driver == nobody:
	case h.claimant != nobody && !now.Before(h.until), now.Sub(h.used) >= helmIdle:
		h.pass(now)
	}
}

// pass ends the driver's turn: it is the claimant's now, if there is one. Who was refused may ask the new driver.
func (h *helm[T]) pass(now time.Time) {
	var nobody T
	h.driver, h.claimant, h.used, h.refused = h.claimant, nobody, now, nobody
}

// take reports whether who drives now, taking the helm if that is free.
func (h *helm[T]) take(who T, now time.Time) bool {
	h.settle(now)
	var nobody T
	if h.driver != nobody && h.driver != who && !h.shared {
		return false
	}
	h.driver, h.used = who, now
	return true
}

// claim asks for the helm.
func (h *helm[T]) claim(who T, now time.Time) claimed {
	var nobody T
	switch {
	case h.shared, h.take(who, now):
		return taken
	case h.claimant == who:
	case h.claimant != nobody:
		return othersClaim
	case h.refused == who && now.Before(h.refusedUntil):
		return stillRefused
	default:
		h.claimant, h.until = who, now.Add(claimTime)
	}
	return asked
}

// grant gives the helm to the claimant, and reports whether who could.
func (h *helm[T]) grant(who T, now time.Time) bool {
	h.settle(now)
	if !h.asks(who) {
		return false
	}
	h.pass(now)
	return true
}

// refuse keeps the helm from the claimant, and reports whether who could.
func (h *helm[T]) refuse(who T, now time.Time) bool {
	h.settle(now)
	if !h.asks(who) {
		return false
	}
	var nobody T
	h.refused, h.refusedUntil, h.claimant = h.claimant, now.Add(refusalTime), nobody
	return true
}

// asks tells whether there is a claim for who to answer.
func (h *helm[T]) asks(who T) bool {
	var nobody T
	return h.driver == who && h.claimant != nobody
}

// release gives the helm back, or a claim up, and reports whether who had one.
func (h *helm[T]) release(who T, now time.Time) bool {
	h.settle(now)
	var nobody T
	switch who {
	case h.driver:
		h.pass(now)
	case h.claimant:
		h.claimant = nobody
	default:
		return false
	}
	return true
}

// next returns when settle has something to do; the zero time if never.
func (h *helm[T]) next() time.Time {
	var nobody T
	if h.driver == nobody {
		return time.Time{}
	}
	idle := h.used.Add(helmIdle)
	if h.claimant != nobody && h.until.Before(idle) {
		return h.until
	}
	return idle
}
