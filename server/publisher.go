package main

import (
	"context"
	"sync"
	"time"

	"roverd/server/websocket"

	"github.com/gobwas/ws"
)

const (
	stateInterval = 50 * time.Millisecond // state is sent on change, at most 20 times a second; see also interval
	longInterval  = 5 * time.Second       // however long it takes to show a state
	crowdInterval = time.Second           // the mere number of viewers is not worth that: each costs every other a frame
)

// frame is one state, encoded once for all viewers, and immutable.
type frame struct {
	version uint32
	bytes   []byte
}

// publisher turns changes of the state, from whichever goroutine, into frames for the decks.
type publisher struct {
	// Fixed before run.
	decks []*deck
	wake  chan struct{} // has an element while there is something to publish

	mu      sync.Mutex
	state   stateMessage
	crowded bool // the crowd has changed since the last publication
	waiting bool // the crowd's time is coming

	// Owned by run.
	version uint32
}

func newPublisher() *publisher {
	return &publisher{wake: make(chan struct{}, 1), state: stateMessage{Op: "state"}}
}

// change has f change the state, to be published as soon as the interval allows.
func (p *publisher) change(f func(*stateMessage)) {
	p.mu.Lock()
	f(&p.state)
	p.mu.Unlock()
	p.kick()
}

// crowd changes the number of viewers.
func (p *publisher) crowd(by int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.Viewers += by
	p.crowded = true
	if !p.waiting {
		p.waiting = true
		time.AfterFunc(crowdInterval, p.showCrowd)
	}
}

// showCrowd has the number of viewers published, unless something else has shown it meanwhile.
func (p *publisher) showCrowd() {
	p.mu.Lock()
	p.waiting = false
	crowded := p.crowded
	p.mu.Unlock()
	if crowded {
		p.kick()
	}
}

func (p *publisher) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// current returns the state.
func (p *publisher) current() stateMessage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// snapshot returns the state as JSON.
func (p *publisher) snapshot() []byte {
	state := p.current()
	return encode(&state)
}

func (p *publisher) publish() {
	p.mu.Lock()
	p.crowded = false
	p.mu.Unlock()
	p.version++
	f := &frame{p.version, websocket.AppendFrame(nil, ws.OpText, p.snapshot())}
	for _, d := range p.decks {
		d.publish(f)
	}
}

// interval returns how long to wait after a publication. Showing a state to a great crowd takes a loop a while: as long
// again is left to the commands, and to whatever else the board has to do.
func (p *publisher) interval() time.Duration {
	longest := time.Duration(0)
	for _, d := range p.decks {
		longest = max(longest, time.Duration(d.walkTime.Load()))
	}
	return min(max(stateInterval, 2*longest), longInterval)
}

// run publishes until ctx ends, and then once more what is still due.
func (p *publisher) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			p.publish()
			return
		case <-p.wake:
		}
		p.publish()
		pause.Reset(p.interval())
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
}
