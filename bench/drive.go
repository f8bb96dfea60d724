package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"time"
)

// drive has controllers drive the car before a crowd.
var drive = scenario{
	name: "drive", help: "drive the car, while viewers watch if -n says so; a real car really moves", counts: "commands",
	flags: func(o *options, f *flag.FlagSet) {
		f.IntVar(&o.n, "n", 0, "viewers that watch")
		f.IntVar(&o.controllers, "controllers", 1, "how many drive at a time; a server with one helm refuses all but one (helm = \"shared\" lets all)")
		f.Float64Var(&o.rate, "rate", 20, "commands per second of each controller")
		o.lengthFlags(f, 10*time.Second)
	},
	check: func(o *options) error {
		if o.controllers < 1 || o.controllers > 10_000 {
			return fmt.Errorf("-controllers %d: want 1 to 10000", o.controllers)
		}
		return o.checkTraffic(10_000, "commands")
	},
	play: playDrive,
}

func playDrive(ctx context.Context, g *rig) error {
	o := g.o
	all, err := g.newDrivers(o.controllers)
	if err != nil {
		return err
	}
	viewers := g.newCrowd("viewer", o.n)
	all.connect(ctx)
	g.gather(ctx, viewers)
	g.phase("warmup")
	all.drive(ctx, o.rate, o.warmup, o.length, func() {
		viewers.recount()
		g.begin()
	}, g.end)
	g.look(ctx, &g.probe.End)
	g.close()

	if o.n > 0 {
		viewers.figures()
	}
	if all.sent == 0 {
		return viewers.err()
	}
	g.cost(int64(all.applied+all.superseded), "command", "commands")
	all.figures()
	g.figure("states_received", float64(viewers.received.states), "", "")
	g.figure("received_bytes", float64(viewers.received.bytes), "bytes", "")
	all.times()
	if o.n > 0 {
		g.times(viewers.handshake())
	}
	return cmp.Or(viewers.err(), all.err())
}
