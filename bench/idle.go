package main

import (
	"context"
	"flag"
	"fmt"
	"time"
)

// idle opens viewers and holds them; it may replace some all the while.
var idle = scenario{
	name: "idle", help: "open many viewers and hold them", counts: "messages",
	flags: func(o *options, f *flag.FlagSet) {
		f.IntVar(&o.n, "n", 10_000, "viewers to open")
		f.Float64Var(&o.openRate, "rate", openPerSecond, "viewers to open per second, at most")
		f.DurationVar(&o.hold, "hold", 10*time.Second, "how long to hold them")
		f.Float64Var(&o.churn, "churn", 0, "viewers to replace per second while holding: the oldest leaves, another comes")
		o.rawFlag(f)
	},
	check: func(o *options) error {
		if err := o.checkChurn(); err != nil {
			return err
		}
		return o.checkOpening()
	},
	play: playIdle,
}

func (o *options) checkChurn() error {
	if o.churn != 0 && !(o.churn >= 0.1 && o.churn <= 10_000) {
		return fmt.Errorf("-churn %v: want 0.1 to 10000 connections per second, or 0", o.churn)
	}
	return nil
}

func playIdle(ctx context.Context, g *rig) error {
	viewers := g.newCrowd("viewer", g.o.n)
	viewers.turns = g.o.churn > 0
	g.gather(ctx, viewers)
	viewers.recount()
	g.begin()
	if g.o.churn > 0 {
		viewers.churn(ctx, g.o.churn, g.o.hold)
	} else {
		sleepUntil(ctx, time.Now().Add(g.o.hold))
	}
	g.end()
	g.look(ctx, &g.probe.End)
	g.close()

	viewers.figures()
	if viewers.opens == 0 {
		return viewers.err()
	}
	g.figure("viewers_held", float64(viewers.there()), "", "more")
	g.figure("viewers_replaced", float64(viewers.opens+viewers.failed-min(g.o.n, viewers.opens+viewers.failed)), "", "")
	got := &viewers.received
	g.figure("messages", float64(got.messages), "", "")
	g.figure("states", float64(got.states), "", "")
	g.figure("received_bytes", float64(got.bytes), "bytes", "")
	g.times(viewers.handshake())
	return viewers.err()
}
