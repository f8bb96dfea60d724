package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// storm has clients come and go.
var storm = scenario{
	name: "storm", help: "connect and disconnect at a rate: how long getting in takes", counts: "connects",
	flags: func(o *options, f *flag.FlagSet) {
		f.Float64Var(&o.rate, "rate", 1000, "connects per second")
		f.DurationVar(&o.hold, "hold", 0, "how long each stays")
		f.IntVar(&o.n, "n", 1000, "connections at a time, at most: beyond that the storm waits, and the times show it")
		o.lengthFlags(f, 10*time.Second)
		o.openRate = mostConnections // nothing is opened before
		o.rawFlag(f)
	},
	check: func(o *options) error {
		if o.hold > time.Minute {
			return fmt.Errorf("-hold %s: want up to 1m", o.hold)
		}
		if most := float64(o.n) / max(o.hold.Seconds(), 1e-9); o.rate > most {
			return fmt.Errorf("-rate %v -hold %s: that is more than -n %d connections at a time", o.rate, o.hold, o.n)
		}
		return cmp.Or(o.checkOpening(), o.checkTraffic(100_000, "connects"))
	},
	play: playStorm,
}

// stormy is the storm.
type stormy struct {
	*rig
	slots slots // one is taken by each connection that has not ended

	// Owned by the loop's goroutine, and by everybody once the loop is closed.
	odd              bool
	dialed           int // of those that count
	in, failed, lost int // of them: got in; did not; got in, and were thrown out
	reasons          map[string]int
	connect, late    histogram
}

func playStorm(ctx context.Context, g *rig) error {
	o := g.o
	s := &stormy{rig: g, slots: make(slots, o.n), reasons: map[string]int{}, connect: newHistogram(), late: newHistogram()}
	// A port that was closed in order can't be used again for a while: the storm leaves from many addresses.
	sources := g.target.sources(int(o.rate * min(o.warmup+o.length, time.Minute).Seconds()))
	g.phase("warmup")
	begun := false
	i := -1
	for at, due := range ticks(ctx, o.rate, o.warmup+o.length) {
		if !s.slots.take(ctx) {
			break
		}
		i++
		from, counted := sources[i%len(sources)], at >= o.warmup
		if counted && !begun {
			begun = true
			g.begin()
		}
		g.loop.Post(func() { s.dial(from, due, counted) })
	}
	g.end()
	late, cancel := context.WithTimeout(ctx, grace)
	s.slots.settle(late)
	s.cleared(late)
	cancel()
	g.look(ctx, &g.probe.End)
	g.close()

	g.run.Connections = &connections{Role: "connect", Wanted: s.dialed, Opened: s.in, Failed: s.failed, Lost: s.lost, Reasons: s.reasons,
		OpenSeconds: g.meter.seconds()}
	if s.in == 0 {
		why := strings.Join(slices.Sorted(maps.Keys(s.reasons)), "; ")
		return fmt.Errorf("nobody got in: %s", cmp.Or(why, "the server answers nobody"))
	}
	g.cost(int64(s.in), "connect", "connects")
	g.figure("connects", float64(s.in), "", "more")
	g.figure("failed", float64(s.failed), "", "less")
	g.figure("unanswered", float64(s.dialed-s.in-s.failed), "", "less")
	if p := g.probe; p.End.Resident > 0 {
		g.figure("server_growth_bytes", float64(p.End.Resident-p.Before.Resident), "bytes", "less")
		g.figure("server_files_left", float64(p.End.Files-p.Before.Files), "", "less")
	}
	g.times(s.connect.times("connect", "from when the schedule said to connect until the server had agreed"))
	g.times(s.late.times(scheduleLateness, "from when the schedule said to connect until that was begun: bench's own part, and waiting for -n"))
	if s.failed+s.lost > 0 {
		return fmt.Errorf("%d of %d did not get in, %d were thrown out", s.failed, s.dialed, s.lost)
	}
	return nil
}

// cleared gives the server time to close its side of the last connections: only what stays open has been left.
func (s *stormy) cleared(ctx context.Context) {
	const step = 20 * time.Millisecond
	for {
		now, at := s.probe.glance()
		if at.IsZero() || now.Files <= s.probe.Before.Files || !sleepUntil(ctx, time.Now().Add(step)) {
			return
		}
	}
}

func (s *stormy) dial(from netip.Addr, due time.Time, counted bool) {
	if counted {
		s.dialed++
		s.late.add(time.Since(due))
	}
	dial(s.loop, s.target, from, &passer{stormy: s, counted: counted}, due)
}

// passer comes and goes.
type passer struct {
	*stormy
	counted bool
}

func (p *passer) opened(c *client, took time.Duration) {
	p.connections.Add(1)
	p.note("connects", took)
	if p.counted {
		p.in++
		p.connect.add(took)
	}
	if p.o.hold == 0 {
		p.part(c)
		return
	}
	time.AfterFunc(p.o.hold, func() {
		p.loop.Post(func() {
			if c.role != nil {
				p.part(c)
			}
		})
	})
}

// part leaves in order and by a reset, in turn: both happen, and the server has to clear up after both.
func (p *passer) part(c *client) {
	if p.odd = !p.odd; p.odd {
		c.reset()
	} else {
		c.leave()
	}
}

func (p *passer) message(*client, []byte, time.Time) {}

func (p *passer) ended(c *client, err error) {
	p.slots.free()
	if c.open {
		p.connections.Add(-1)
	}
	if err == errLeft || !p.counted {
		return
	}
	err = p.target.explain(err)
	p.reasons[err.Error()]++
	if c.open {
		p.lost++
		return
	}
	if p.failed++; p.in == 0 && p.failed >= maxInFlight {
		p.fail(err) // no use in sending thousands more
	}
}
