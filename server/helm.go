package main

import "time"

// helmIdle is how long a driver may be silent before others can take the helm.
const helmIdle = 10 * time.Second

// helm decides who drives: one viewer at a time. The first command takes a free helm; it falls free when its driver
// leaves or has been silent for helmIdle. It is a plain state machine; its owner serializes the calls.
type helm struct {
	driver uint64 // 0 when free
	used   time.Time
}

// take reports whether id drives now, taking the helm if it is free.
func (h *helm) take(id uint64, now time.Time) bool {
	if h.driver != id && h.driver != 0 && now.Sub(h.used) < helmIdle {
		return false
	}
	h.driver, h.used = id, now
	return true
}

// release frees the helm if id holds it.
func (h *helm) release(id uint64) bool {
	if h.driver != id {
		return false
	}
	h.driver = 0
	return true
}
