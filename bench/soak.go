package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math"
	"time"
)

// soak is watch for hours, with viewers who come and go and some who read slowly: does the server's memory grow, does it
// lose descriptors?
var soak = scenario{
	name: "soak", help: "for hours, a mix of all: does the server's memory or the number of its files drift?", counts: "states",
	flags: func(o *options, f *flag.FlagSet) {
		f.IntVar(&o.n, "n", 1000, "viewers that watch")
		f.Float64Var(&o.rate, "rate", 5, "commands per second, each of which changes the state")
		f.Float64Var(&o.churn, "churn", 10, "viewers to replace per second: the oldest leaves, another comes")
		f.IntVar(&o.slow, "slow", 10, "viewers that read slowly")
		f.IntVar(&o.trickle, "trickle", 1000, "bytes per second that each of those reads")
		o.lengthFlags(f, time.Hour)
		o.warmup = time.Minute
		f.Lookup("warmup").DefValue = o.warmup.String()
	},
	check: func(o *options) error {
		if o.rate == 0 {
			return fmt.Errorf("-rate 0: want somebody to drive")
		}
		return cmp.Or(checkWatch(o), o.checkSlow(), o.checkChurn())
	},
	play:    playSoak,
	timeout: 2 * time.Hour,
}

func playSoak(ctx context.Context, g *rig) error {
	err := playWatch(ctx, g)
	if !g.run.found() {
		return err
	}
	measured := g.series.stretch("measure")
	for _, d := range []struct{ column, figure, unit string }{
		{"server_resident_bytes", "server_memory_drift_per_h", "bytes"},
		{"server_open_files", "server_files_drift_per_h", ""},
	} {
		slope, deviation, ok := fit(g.series.between(d.column, measured.From, measured.To))
		if !ok {
			continue
		}
		const hour = 3600
		g.figure(d.figure, slope*hour, d.unit, "less")
		g.figure(d.figure+"_error", deviation*hour, d.unit, "") // a drift within twice this may be none
	}
	return err
}

// fit draws the line through the points that has the least squares: its slope, and the standard error of that.
func fit(x, y []float64) (slope, deviation float64, ok bool) {
	n := float64(len(x))
	if n < 3 {
		return 0, 0, false
	}
	meanX, meanY := 0., 0.
	for i := range x {
		meanX += x[i] / n
		meanY += y[i] / n
	}
	xx, xy, yy := 0., 0., 0.
	for i := range x {
		dx, dy := x[i]-meanX, y[i]-meanY
		xx += dx * dx
		xy += dx * dy
		yy += dy * dy
	}
	if xx == 0 {
		return 0, 0, false
	}
	slope = xy / xx
	return slope, math.Sqrt(max(yy-slope*xy, 0) / (n - 2) / xx), true
}
