package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/gobwas/ws"
)

// failsafe has drivers vanish while the car moves, and measures how long until a viewer sees it stand.
var failsafe = scenario{
	name: "failsafe", help: "a driver vanishes while the car moves: how long until a viewer sees it stand; a real car really moves", counts: "rounds",
	flags: func(o *options, f *flag.FlagSet) {
		f.IntVar(&o.rounds, "rounds", 10, "how often a driver vanishes in each way")
		f.Float64Var(&o.rate, "rate", 20, "commands per second, until it does")
	},
	check: func(o *options) error {
		if o.rounds < 1 || o.rounds > 1000 {
			return fmt.Errorf("-rounds %d: want 1 to 1000", o.rounds)
		}
		if !(o.rate >= 1 && o.rate <= 1000) {
			return fmt.Errorf("-rate %v: want 1 to 1000 commands per second", o.rate)
		}
		o.length = time.Duration(o.rounds*len(vanishings)) * (movingFor + time.Second) // about
		return nil
	},
	play: playFailsafe,
}

const (
	movingFor = 200 * time.Millisecond // the car is driven before the driver vanishes
	mostWait  = 5 * time.Second        // for the car to move, or to stand
)

// vanishing is a way for a driver to go.
type vanishing struct {
	name, what string
	drives     bool // says a last word as it goes
	// leave runs on the loop's goroutine and returns the descriptor of a connection that is left open, or -1.
	leave func(c *client) (fd int)
}

var vanishings = []vanishing{
	// What the end of a network looks like to the server: the connection stands, and nothing comes any more, not even the
	// answer to a ping. The motion's time to live counts from the last command, and so do we.
	{"silent", "last command before it says and reads nothing more, on a connection that stays open", true, (*client).detach},
	{"reset", "connection is reset, as when its computer has crashed and come back", false, func(c *client) int { c.reset(); return -1 }},
	{"closed", "connection is closed in order, as when the browser's tab is", false, func(c *client) int { c.leave(); return -1 }},
}

func playFailsafe(ctx context.Context, g *rig) error {
	f := &vanisher{rig: g, events: make(chan event, 1024), causes: map[string]int{}}
	for range vanishings {
		f.took = append(f.took, newHistogram())
	}
	g.loop.Post(func() { dial(g.loop, g.target, netip.Addr{}, &onlooker{f}, time.Now()) })
	err := f.await(ctx, "no viewer got a state", func(e event) bool { return e.state != nil })
	if err == nil {
		g.begin()
		err = f.rounds(ctx)
		g.end()
	}
	g.look(ctx, &g.probe.End)
	g.close()
	if f.stood == 0 {
		return err
	}
	g.figure("rounds", float64(f.stood), "", "")
	for i, way := range vanishings {
		g.times(f.took[i].times(way.name+"_to_stop", "from when the driver's "+way.what+", until a viewer had the state that the car stands"))
	}
	for _, name := range slices.Sorted(maps.Keys(f.causes)) {
		g.figure(name, float64(f.causes[name]), "", "")
	}
	return err
}

// vanisher runs the rounds, on a goroutine of its own, which hears of what happens on the loop by events.
type vanisher struct {
	*rig
	events chan event
	viewer *client // owned by the loop

	stood  int // rounds after which the car did
	took   []histogram
	causes map[string]int
}

// event is something that a round waits for.
type event struct {
	at     time.Time
	state  *carState // the viewer got it
	driver *client   // it has opened
}

// carState is what is read of a state.
type carState struct {
	Motion struct {
		Left  float64 `json:"left"`
		Right float64 `json:"right"`
	} `json:"motion"`
	Cause string `json:"cause"`
}

func (s *carState) moves() bool { return s.Motion.Left != 0 || s.Motion.Right != 0 }

func (f *vanisher) rounds(ctx context.Context) error {
	for range f.o.rounds {
		for i, way := range vanishings { // in turn, since one may suffer from the one before
			took, cause, err := f.round(ctx, way)
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			f.stood++
			f.took[i].add(took)
			f.note("rounds", took)
			f.causes[way.name+"_by_"+cmp.Or(cause, "nothing")]++
		}
	}
	return nil
}

// round drives the car, has the driver vanish, and waits until the car is seen to stand.
func (f *vanisher) round(ctx context.Context, way vanishing) (took time.Duration, cause string, err error) {
	var driver *client
	f.loop.Post(func() { dial(f.loop, f.target, netip.Addr{}, &leaver{f}, time.Now()) })
	if err := f.await(ctx, "the driver did not get in", func(e event) bool { driver = e.driver; return driver != nil }); err != nil {
		return 0, "", err
	}
	start, moved := time.Now(), time.Time{}
	last := &carState{}
	for next := start; moved.IsZero() || next.Sub(moved) < movingFor; next = next.Add(every(f.o.rate)) {
		if next.Sub(start) > mostWait {
			return 0, "", fmt.Errorf("the car did not move for the driver within %s", mostWait)
		}
		f.loop.Post(func() { driver.drive() })
		if !sleepUntil(ctx, next) {
			return 0, "", context.Cause(ctx)
		}
		for f.pending(&last) {
			if moved.IsZero() && last.moves() {
				moved = time.Now()
			}
		}
	}
	if !last.moves() {
		return 0, "", fmt.Errorf("the car stood (%s) while it was driven: raise -rate, and look to its sensors", cmp.Or(last.Cause, "no cause"))
	}
	type departure struct {
		at time.Time
		fd int
	}
	departed := make(chan departure, 1)
	f.loop.Post(func() {
		at := time.Now()
		if way.drives {
			driver.drive()
		}
		departed <- departure{at, way.leave(driver)}
	})
	var left departure
	select {
	case left = <-departed:
	case <-ctx.Done():
		return 0, "", context.Cause(ctx)
	}
	if left.fd >= 0 {
		defer resetAndClose(left.fd)
	}
	err = f.await(ctx, "the car did not stop", func(e event) bool {
		if e.state == nil || e.state.moves() {
			return false
		}
		took, cause = e.at.Sub(left.at), e.state.Cause
		return true
	})
	if err != nil { // whatever happens, the car must not drive on
		f.loop.Post(func() { f.viewer.write(ws.OpText, []byte("stop")) })
	}
	return took, cause, err
}

// drive sends a command for motion.
func (c *client) drive() {
	if c.role != nil {
		c.write(ws.OpText, []byte(driveWords[0]))
	}
}

// pending takes the next event, if there is one, and remembers the state in it.
func (f *vanisher) pending(last **carState) bool {
	select {
	case e := <-f.events:
		if e.state != nil {
			*last = e.state
		}
		return true
	default:
		return false
	}
}

// await waits for an event, for a bounded time.
func (f *vanisher) await(ctx context.Context, otherwise string, is func(e event) bool) error {
	late := time.NewTimer(mostWait)
	defer late.Stop()
	for {
		select {
		case e := <-f.events:
			if is(e) {
				return nil
			}
		case <-late.C:
			return fmt.Errorf("%s within %s", otherwise, mostWait)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tell passes an event on. Nobody waits for more than the channel holds.
func (f *vanisher) tell(e event) {
	select {
	case f.events <- e:
	default:
	}
}

// onlooker is the viewer.
type onlooker struct{ *vanisher }

func (v *onlooker) opened(c *client, _ time.Duration) {
	v.viewer = c
	v.connections.Add(1)
}

func (v *onlooker) message(_ *client, p []byte, at time.Time) {
	if !isState(p) {
		return
	}
	s := new(carState)
	if err := json.Unmarshal(p, s); err != nil {
		v.fail(fmt.Errorf("the server sent the viewer %q: %w", p, err))
		return
	}
	v.tell(event{at: at, state: s})
}

func (v *onlooker) ended(_ *client, err error) {
	v.fail(fmt.Errorf("the viewer's connection: %w", v.target.explain(err)))
}

// leaver is a driver.
type leaver struct{ *vanisher }

func (d *leaver) opened(c *client, _ time.Duration) {
	d.connections.Add(1)
	d.tell(event{driver: c})
}

func (d *leaver) message(_ *client, p []byte, _ time.Time) {
	var r reply
	if isState(p) || json.Unmarshal(p, &r) != nil {
		return
	}
	if r.Code == "not_allowed" {
		d.fail(refused(r))
	}
}

func (d *leaver) ended(_ *client, err error) {
	if err == errLeft {
		d.connections.Add(-1)
	} else {
		d.fail(fmt.Errorf("the driver's connection: %w", d.target.explain(err)))
	}
}
