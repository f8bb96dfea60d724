package main

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxEvents is how many events are kept for /drivelog.
const maxEvents = 256

// event is something that one may want to know of afterwards: who drove, who stopped the car and why, who was refused.
type event struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"` // driver, claim, stop, estop, reset, stopped, fault, login_refused, too_fast
	Who    string    `json:"who,omitempty"`
	Before string    `json:"before,omitempty"` // who drove until then
	Why    string    `json:"why,omitempty"`
	Addr   string    `json:"addr,omitempty"`
	Times  int       `json:"times,omitempty"` // it happened again and again, until At
}

// MarshalLogObject writes the event into the log.
func (e event) MarshalLogObject(o zapcore.ObjectEncoder) error {
	for _, f := range [...]struct{ name, value string }{{"who", e.Who}, {"before", e.Before}, {"why", e.Why}, {"addr", e.Addr}} {
		if f.value != "" {
			o.AddString(f.name, f.value)
		}
	}
	return nil
}

// audit remembers the last events. Any goroutine may call it.
type audit struct {
	log *zap.Logger // which takes no more than so many of a kind

	mu     sync.Mutex
	events []event // the oldest at next, once there are maxEvents
	next   int
}

// newAudit makes an audit that also writes to the log: of each kind, ten events a second.
func newAudit(log *zap.Logger) *audit {
	return &audit{log: log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, time.Second, 10, 0)
	}))}
}

// add notes an event. One that is like the last is counted there: nobody can drown the others by repeating themselves.
func (a *audit) add(e event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.At = time.Now().UTC()
	if n := len(a.events); n > 0 {
		last := &a.events[(a.next+n-1)%n]
		if same := *last; same.like(e) {
			last.At, last.Times = e.At, max(last.Times, 1)+1
			return
		}
	}
	a.log.Info(e.What, zap.Inline(e))
	if len(a.events) < maxEvents {
		a.events = append(a.events, e)
		return
	}
	a.events[a.next] = e
	a.next = (a.next + 1) % maxEvents
}

// like tells whether two events are the same but for when and how often.
func (e event) like(other event) bool {
	e.At, e.Times, other.At, other.Times = time.Time{}, 0, time.Time{}, 0
	return e == other
}

// list returns the events, the oldest first.
func (a *audit) list() []event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append(append([]event{}, a.events[a.next:]...), a.events[:a.next]...)
}
