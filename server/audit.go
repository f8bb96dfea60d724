package main

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxEvents is how many events of each of the two sorts are kept for /drivelog.
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

	mu sync.Mutex
	// The oldest first. What anyone can bring about who reaches the server stands apart, or it could drown the rest.
	events, refusals []event
}

// newAudit makes an audit that also writes to the log: of each kind, ten events a second.
func newAudit(log *zap.Logger) *audit {
	return &audit{log: log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, time.Second, 10, 0)
	}))}
}

// add notes an event. One that is like the last of its sort is counted there.
func (a *audit) add(e event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.At = time.Now().UTC()
	events := &a.events
	if e.What == "login_refused" || e.What == "too_fast" {
		events = &a.refusals
	}
	n := len(*events)
	if n > 0 && (*events)[n-1].like(e) {
		last := &(*events)[n-1]
		last.At, last.Times = e.At, max(last.Times, 1)+1
		return
	}
	a.log.Info(e.What, zap.Inline(e))
	if n == maxEvents {
		*events = slices.Delete(*events, 0, 1)
	}
	*events = append(*events, e)
}

// loginRefused notes that a token from an address was not good.
func (a *audit) loginRefused(err error, from netip.Addr) {
	a.add(event{What: "login_refused", Addr: from.String(), Why: err.Error()})
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
	all := append(append([]event{}, a.events...), a.refusals...)
	slices.SortStableFunc(all, func(a, b event) int { return a.At.Compare(b.At) })
	return all
}
