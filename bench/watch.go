package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// watch has viewers watch a car that is driven, and measures how fresh their picture of it is. (slow and soak do the same
// under conditions of their own.)
var watch = scenario{
	name: "watch", help: "drive the car before many viewers: how fresh the state is that they get", counts: "states",
	flags: func(o *options, f *flag.FlagSet) {
		f.IntVar(&o.n, "n", 1000, "viewers that watch")
		f.Float64Var(&o.rate, "rate", 10, "commands per second, each of which changes the state; 0: somebody else drives")
		o.lengthFlags(f, 10*time.Second)
	},
	check: checkWatch,
	play:  playWatch,
}

func checkWatch(o *options) error {
	if o.rate == 0 {
		return cmp.Or(o.checkOpening(), o.checkLength())
	}
	return cmp.Or(o.checkOpening(), o.checkTraffic(1000, "commands"))
}

func playWatch(ctx context.Context, g *rig) error {
	o := g.o
	w := newWatcher(g)
	viewers := w.crowd
	viewers.turns = o.churn > 0
	slow := g.newReaders(o.slow, o.trickle)
	var driver *drivers
	if o.rate > 0 {
		var err error
		if driver, err = g.newDrivers(1); err != nil {
			return err
		}
		driver.follower = w
		driver.connect(ctx)
	}
	g.gather(ctx, viewers, slow.crowd)
	g.phase("warmup")
	stop := slow.start(ctx)
	churned := make(chan struct{})
	go func() {
		defer close(churned)
		if o.churn > 0 {
			viewers.churn(ctx, o.churn, o.warmup+o.length)
		}
	}()
	begin := func() {
		g.begin()
		g.loop.Post(func() { w.counting = true })
	}
	if driver != nil {
		driver.drive(ctx, o.rate, o.warmup, o.length, begin, g.end)
	} else if sleepUntil(ctx, time.Now().Add(o.warmup)) {
		begin()
		sleepUntil(ctx, time.Now().Add(o.length))
		g.end()
	}
	<-churned
	w.settle(ctx)
	g.look(ctx, &g.probe.End)
	stop()
	g.close()

	viewers.figures()
	if viewers.opens == 0 {
		return viewers.err()
	}
	w.figures()
	g.times(w.delivery.times("delivery", "from when the schedule said to send a command until a viewer had a state that shows it, for each viewer"))
	g.times(w.age.times("age", "how long ago a state had come about, by the same count, when a viewer got it"))
	if driver != nil {
		driver.figures()
		driver.times()
	}
	slow.figures()
	g.times(viewers.handshake())
	err := cmp.Or(viewers.err(), slow.crowd.err())
	switch {
	case err != nil:
		return err
	case w.states == 0:
		return errors.New("no state arrived: is anybody driving?")
	case driver != nil:
		return driver.err()
	}
	return nil
}

// watcher knows when each state of the car came about, and when each viewer got it.
//
// A state has a number, seq, which the acknowledgement of a command tells too: so a state was born when the command was
// to be sent that made it. (Where somebody else drives, it was born when the first viewer got it.) A state shows all that
// came before it: a command whose own state a viewer was not sent has been delivered with the next, as late as that is.
// Viewers may be faster than the acknowledgement; then what they got waits for it.
type watcher struct {
	*rig
	crowd       *crowd
	outstanding atomic.Int64 // commands without a reply that has been counted

	// Owned by the loop's goroutine, and by everybody once the loop is closed.
	counting                 bool
	births                   []birth  // by seq
	shown                    []uint64 // the numbers of states that any viewer got, sorted
	early                    []arrival
	states, missed, repeated int64
	delivery, age            histogram
}

// birth tells when the state number seq came about.
type birth struct {
	seq     uint64
	at      time.Time
	counted bool // the command is not of the warm-up
}

// arrival is a state that a viewer got, which had the state since before.
type arrival struct {
	since, seq uint64
	at         time.Time
}

// mostEarly bounds how many arrivals wait: an acknowledgement that never comes must not cost all memory.
const mostEarly = 1 << 20

func newWatcher(g *rig) *watcher {
	w := &watcher{rig: g, crowd: g.newCrowd("viewer", g.o.n), delivery: newHistogram(), age: newHistogram()}
	w.crowd.member = func() role { return &watching{watcher: w} }
	return w
}

func (w *watcher) sending() { w.outstanding.Add(1) }

func (w *watcher) replied(r reply, cmd command) {
	w.loop.Post(func() {
		if r.Applied {
			w.born(birth{r.Seq, cmd.intended, cmd.counted})
		}
		if w.outstanding.Add(-1) == 0 {
			w.early = w.early[:0] // what comes to be later has higher numbers
		}
	})
}

// newest returns the number of the state that was born last.
func (w *watcher) newest() uint64 {
	if n := len(w.births); n > 0 {
		return w.births[n-1].seq
	}
	return 0
}

// born tells of a birth, and counts the arrivals that waited for it.
func (w *watcher) born(b birth) {
	if w.newest() >= b.seq {
		return // two commands that one state shows: it is as old as the first
	}
	w.births = append(w.births, b)
	left := w.early[:0]
	for _, a := range w.early {
		w.tally(a, b)
		if a.seq > b.seq {
			left = append(left, a)
		}
	}
	w.early = left
}

// arrived counts an arrival for all births that are known, and has it wait for those that are not.
func (w *watcher) arrived(a arrival) {
	for i := len(w.births) - 1; i >= 0 && w.births[i].seq > a.since; i-- {
		w.tally(a, w.births[i])
	}
	if newest := w.newest(); a.seq > newest && w.outstanding.Load() > 0 && len(w.early) < mostEarly {
		a.since = max(a.since, newest)
		w.early = append(w.early, a)
	}
}

// tally counts an arrival if it is the delivery of what was born.
func (w *watcher) tally(a arrival, b birth) {
	if b.seq <= a.since || b.seq > a.seq {
		return
	}
	took := a.at.Sub(b.at)
	w.took(took)
	if !b.counted {
		return
	}
	if b.seq == a.seq {
		w.age.add(took)
	}
	w.delivery.add(took)
}

// show tells that a viewer got the state number seq.
func (w *watcher) show(seq uint64) {
	if n := len(w.shown); n == 0 || w.shown[n-1] < seq {
		w.shown = append(w.shown, seq)
	} else if i, ok := slices.BinarySearch(w.shown, seq); !ok {
		w.shown = slices.Insert(w.shown, i, seq)
	}
}

// between returns how many states between two were shown to anybody. (The car counts more: several changes may be shown
// by one state.)
func (w *watcher) between(since, seq uint64) int64 {
	from, _ := slices.BinarySearch(w.shown, since+1)
	to, _ := slices.BinarySearch(w.shown, seq)
	return int64(to - from)
}

// missing returns how many viewers have yet to get how many states; unknown, so 0, when viewers come and go.
func (w *watcher) missing() int64 {
	if w.crowd.turns {
		return 0
	}
	born := 0
	for _, b := range w.births {
		if b.counted {
			born++
		}
	}
	return max(int64(born*w.crowd.there())-w.delivery.count(), 0)
}

// settle lets the last state arrive, for a bounded time.
func (w *watcher) settle(ctx context.Context) {
	const step = 20 * time.Millisecond
	missing := make(chan int64, 1)
	for to := time.Now().Add(grace); time.Now().Before(to); {
		w.loop.Post(func() { missing <- w.missing() })
		select {
		case n := <-missing:
			if n == 0 || !sleepUntil(ctx, time.Now().Add(step)) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (w *watcher) figures() {
	w.cost(w.states, "state", "states")
	w.figure("states", float64(w.states), "", "")
	// Of the states that there were, those that this viewer was not sent, and another was: it, or the server, was slow.
	share := 0.
	if total := w.states + w.missed; total > 0 {
		share = float64(w.missed) / float64(total)
	}
	w.figure("missed_states", float64(w.missed), "", "less")
	w.figure("missed_share", share, "", "less")
	w.figure("undelivered", float64(w.missing()), "", "less")
	w.figure("repeated_states", float64(w.repeated), "", "") // of an older number: who drives or watches has changed
}

// watching is a viewer.
type watching struct {
	*watcher
	seq uint64 // of the newest state it has; 0 is none
}

func (v *watching) opened(c *client, took time.Duration) { v.crowd.opened(c, took) }
func (v *watching) ended(c *client, err error)           { v.crowd.ended(c, err) }

func (v *watching) message(_ *client, p []byte, at time.Time) {
	seq, ok := stateSeq(p)
	if !ok {
		return
	}
	since := v.seq
	v.seq = seq
	v.note("states", 0)
	v.show(seq)
	if v.counting {
		v.states++
		if seq <= since {
			v.repeated++
		} else if since > 0 {
			v.missed += v.between(since, seq)
		}
	}
	if since == 0 || seq <= since {
		return // the first shows the past
	}
	if v.o.rate == 0 {
		v.born(birth{seq, at, v.counting})
	}
	v.arrived(arrival{since, seq, at})
}

// stateSeq returns the number of a state. It looks, as isState does.
func stateSeq(p []byte) (seq uint64, ok bool) {
	if !isState(p) {
		return 0, false
	}
	const key = `"seq":`
	i := bytes.Index(p, []byte(key))
	if i < 0 {
		return 0, false
	}
	for _, d := range p[i+len(key):] {
		if d < '0' || d > '9' {
			break
		}
		seq, ok = seq*10+uint64(d-'0'), true
	}
	return seq, ok
}

func (o *options) checkSlow() error {
	if o.slow < 0 || o.slow > 100_000 {
		return fmt.Errorf("-slow %d: want up to 100000 connections", o.slow)
	}
	if o.trickle < 0 || o.trickle > 1<<20 {
		return fmt.Errorf("-trickle %d: want 0 to %d bytes per second", o.trickle, 1<<20)
	}
	return nil
}
