package main

import (
	"cmp"
	"context"
)

// driveFigures is what drive found.
type driveFigures struct {
	driverFigures
	WarmupSeconds float64      `json:"warmup_s"`
	Viewers       crowdFigures `json:"viewers"`
	Footprint     *footprint   `json:"server_process,omitempty"`
}

// drive drives the car before a crowd.
func drive(ctx context.Context, o *options, t *target, r *report) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	loop, err := newLoop(fail)
	if err != nil {
		return err
	}
	defer loop.Close()
	// The driver has a loop of its own: else the time to read the crowd's states would be in what it measures.
	driverLoop, err := newLoop(fail)
	if err != nil {
		return err
	}
	defer driverLoop.Close()
	driver := newDriver(driverLoop, t, o.rate, fail)
	viewers := newCrowd(loop, t, o.n, o.openRate, fail)
	watch, err := newProbe(ctx, o.pid, t, r)
	if err != nil {
		return err
	}

	driver.connect(ctx)
	viewers.gather(ctx)
	watch.note(ctx, fail, &watch.Opened)
	driver.drive(ctx, o.warmup, o.length, viewers.recount)
	watch.note(ctx, fail, &watch.Held)
	driverLoop.Close()
	loop.Close()

	f := &driveFigures{driver.figures(), o.warmup.Seconds(), viewers.figures(), watch.figures(o.n)}
	if f.Sent > 0 {
		r.Drive = f
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return cmp.Or(f.Viewers.err(), f.driverFigures.err())
}
