package main

import (
	"runtime/debug"
	"time"
)

// A viewer at rest is two small objects, and serving it makes no garbage; opening it makes a few hundred bytes. So a
// tighter heap than Go's default costs next to no time, and the memory that a crowd has left behind on its way in goes
// back to the board once all are in.
const (
	heapGrowth = 25 // percent over what is live, for GOGC; Go's default is 100
	settleTime = 5 * time.Second
)

// settler returns memory when nobody has joined for a while.
type settler struct{ timer *time.Timer }

func newSettler() *settler {
	s := &settler{time.AfterFunc(settleTime, debug.FreeOSMemory)}
	s.timer.Stop()
	return s
}

func (s *settler) joined() { s.timer.Reset(settleTime) }
func (s *settler) stop()   { s.timer.Stop() }
