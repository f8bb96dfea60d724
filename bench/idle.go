package main

import (
	"context"
	"time"

	"roverd/netpoll"
)

// idleFigures is what idle found.
type idleFigures struct {
	crowdFigures
	HoldSeconds float64    `json:"hold_s"`
	Footprint   *footprint `json:"server_process,omitempty"`
}

// idle opens viewers and holds them.
func idle(ctx context.Context, o *options, t *target, r *report) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	loop, err := newLoop(fail)
	if err != nil {
		return err
	}
	defer loop.Close()
	viewers := newCrowd(loop, t, o.n, o.openRate, fail)
	watch, err := newProbe(ctx, o.pid, t, r)
	if err != nil {
		return err
	}

	viewers.gather(ctx)
	watch.note(ctx, fail, &watch.Opened)
	viewers.recount()
	held := time.Now()
	sleepUntil(ctx, held.Add(o.hold))
	hold := time.Since(held)
	watch.note(ctx, fail, &watch.Held)
	loop.Close()

	f := viewers.figures()
	if f.Opened > 0 {
		r.Idle = &idleFigures{f, hold.Seconds(), watch.figures(f.Opened)}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return f.err()
}

// newLoop starts the event loop; its end by a fault ends the run.
func newLoop(fail context.CancelCauseFunc) (*netpoll.Loop, error) {
	return netpoll.NewLoop(netpoll.Config{OnError: func(err error, _ bool) { fail(err) }})
}
