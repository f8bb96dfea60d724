package main

import (
	"sync"
	"time"

	"roverd/hardware"
)

// causeHandover is why the car stops when somebody else gets the helm.
const causeHandover = "handover"

// bridge is where the helm and the car are: what the pilots ask for goes through it. The helm's decision and the command's
// way into the car's mailbox are one step under mu, so that the car gets the commands in the order in which the helm let
// them through: none of a former driver comes after the new one's.
type bridge struct {
	// Fixed.
	car       *hardware.Car
	publisher *publisher
	audit     *audit

	mu    sync.Mutex
	helm  helm[*pilot]
	alarm *time.Timer // rings when the helm has to settle
	due   time.Time   // when the alarm goes off; zero if it is off
}

func newBridge(car *hardware.Car, p *publisher, a *audit, shared bool) *bridge {
	b := &bridge{car: car, publisher: p, audit: a, helm: helm[*pilot]{shared: shared}}
	b.alarm = time.AfterFunc(time.Hour, b.ring)
	b.alarm.Stop()
	return b
}

var (
	errNoClaim = &wireError{noClaim, "nobody asks you for the helm"}
	errNoHelm  = &wireError{notDriver, "you do not drive"}
)

// command passes a command to the car, if its pilot may give it.
func (b *bridge) command(p *pilot, cmd hardware.Command, now time.Time) error {
	defer stepAside()
	b.mu.Lock()
	defer b.mu.Unlock()
	if stops(cmd.Kind) {
		if cmd.Kind != hardware.Stop || b.helm.driver != p { // else it is ordinary driving
			b.audit.add(event{What: stopNames[cmd.Kind], Who: p.String()})
		}
		b.car.Do(cmd)
		return nil
	}
	b.settle(now)
	before := b.helm
	// In a shared helm the driver is whose motion it is: who turns the camera is none.
	took := b.helm.shared && cmd.Kind != hardware.Drive || b.helm.take(p, now)
	b.changed(before, "it was free", "", now)
	if !took {
		return refusal(notDriver, "%s drives; send claim to ask for the helm", b.helm.driver)
	}
	b.car.Do(cmd)
	return nil
}

var stopNames = map[hardware.Kind]string{hardware.Stop: "stop", hardware.EStop: "estop", hardware.Reset: "reset"}

// claim asks for the helm, and tells how long it may take until p has it.
func (b *bridge) claim(p *pilot, now time.Time) (time.Duration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(now)
	before := b.helm
	got := b.helm.claim(p, now)
	b.changed(before, "it was free", "", now)
	switch got {
	case asked:
		return b.helm.next().Sub(now), nil
	case othersClaim:
		return 0, refusal(isClaimed, "%s has asked for the helm already", b.helm.claimant)
	case stillRefused:
		return 0, refusal(isRefused, "%s keeps the helm: ask again in %s", b.helm.driver, b.helm.refusedUntil.Sub(now).Round(time.Second))
	}
	return 0, nil
}

// grant gives the helm from p to the claimant.
func (b *bridge) grant(p *pilot, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, granted := b.act((*helm[*pilot]).grant, p, "the driver granted it", causeHandover, now); !granted {
		return errNoClaim
	}
	return nil
}

// refuse keeps the helm for p.
func (b *bridge) refuse(p *pilot, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	before, refused := b.act((*helm[*pilot]).refuse, p, "", "", now)
	if !refused {
		return errNoClaim
	}
	who := before.claimant
	who.deck.answer(answer{pilot: who, message: appendError(nil, noID, refusal(isRefused, "%s keeps the helm", p))})
	return nil
}

// release gives p's helm back, or its claim up.
func (b *bridge) release(p *pilot, now time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, had := b.act((*helm[*pilot]).release, p, "the driver gave it back", "", now); !had {
		return errNoHelm
	}
	return nil
}

// leave is the end of a pilot. If it drove, the car stops at once.
func (b *bridge) leave(p *pilot, now time.Time) {
	b.mu.Lock()
	before, _ := b.act((*helm[*pilot]).release, p, "the driver disconnected", hardware.CauseDisconnect, now)
	b.mu.Unlock()
	if before.driver == p {
		stepAside()
	}
}

// act has p do something with the helm, once time has had its effect, and returns how the helm was before, and whether p
// could. why and cause are for changed. The caller holds mu.
func (b *bridge) act(do func(*helm[*pilot], *pilot, time.Time) bool, p *pilot, why, cause string, now time.Time) (before helm[*pilot], could bool) {
	b.settle(now)
	before = b.helm
	could = do(&b.helm, p, now)
	b.changed(before, why, cause, now)
	return before, could
}

// ring is the alarm. It runs on a goroutine of its own.
func (b *bridge) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.due = time.Time{}
	b.settle(time.Now())
}

// settle lets time have its effect on the helm: before all else, as the alarm may be late. The caller holds mu.
func (b *bridge) settle(now time.Time) {
	before := b.helm
	b.helm.settle(now)
	why := "the driver was silent"
	if before.claimant != nil {
		why = "the claim was not answered"
	}
	b.changed(before, why, causeHandover, now)
}

// changed deals with what has become of the helm since before, and why: cause is what the car's stop has to say, if it
// has to stop. The caller holds mu.
func (b *bridge) changed(before helm[*pilot], why, cause string, now time.Time) {
	h := &b.helm
	if next := h.next(); !next.IsZero() && (b.due.IsZero() || next.Before(b.due)) {
		b.due = next
		b.alarm.Reset(time.Until(next))
	}
	if h.driver == before.driver && h.claimant == before.claimant {
		return
	}
	if h.driver != before.driver {
		passes := h.shared && h.driver != nil // it is still everyone's
		if before.driver != nil && !passes && now.Sub(before.used) < helmIdle {
			b.car.Do(hardware.Command{Kind: hardware.Stop, Cause: cause, At: now})
		}
		if before.driver == nil || !passes {
			b.audit.add(event{What: "driver", Who: h.driver.String(), Before: before.driver.String(), Why: why})
		}
	}
	if h.claimant != nil && h.claimant != before.claimant {
		b.audit.add(event{What: "claim", Who: h.claimant.String(), Before: h.driver.String()})
		h.driver.deck.answer(answer{pilot: h.driver, message: encodeClaim(h.claimant.String(), h.claimant.name, h.next().Sub(now))})
	}
	b.tell()
}

// tell has everyone know who drives. The caller holds mu.
func (b *bridge) tell() {
	driver, name, claim := b.helm.driver.String(), "", b.helm.claimant.String()
	if b.helm.driver != nil {
		name = b.helm.driver.name
	}
	b.publisher.change(func(m *stateMessage) { m.Driver, m.Name, m.Claim = driver, name, claim })
}

// rename gives a pilot a name.
func (b *bridge) rename(p *pilot, name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.name = name; p == b.helm.driver {
		b.tell()
	}
}

// close ends the alarm.
func (b *bridge) close() { b.alarm.Stop() }
