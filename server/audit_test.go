package main

import (
	"fmt"
	"testing"

	"go.uber.org/zap"
)

// What strangers do, from however many addresses, does not make the audit forget who drove; and both are bounded.
func TestAuditIsNotDrowned(t *testing.T) {
	a := newAudit(zap.NewNop())
	a.add(event{What: "driver", Who: "v1"})
	a.add(event{What: "stopped", Why: "ttl"})
	for i := range 3 * maxEvents {
		a.add(event{What: "login_refused", Addr: fmt.Sprintf("2001:db8::%x", i)})
		a.add(event{What: "too_fast", Who: fmt.Sprint("v", i)})
	}
	a.add(event{What: "stopped", Why: "ttl"})
	events := a.list()
	if first, last := events[0], events[len(events)-1]; first.What != "driver" || last.What != "stopped" || last.Times != 2 {
		t.Errorf("the first is %+v, the last %+v", first, last)
	}
	for i := range 3 * maxEvents {
		a.add(event{What: "stop", Who: fmt.Sprint("v", i)})
	}
	events = a.list()
	for i, e := range events[1:] {
		if e.At.Before(events[i].At) {
			t.Errorf("%+v comes behind %+v", e, events[i])
		}
	}
	if len(events) != 2*maxEvents || events[len(events)-1].Who != fmt.Sprint("v", 3*maxEvents-1) {
		t.Errorf("%d events, the last %+v", len(events), events[len(events)-1])
	}
}
