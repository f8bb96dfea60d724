package main

import (
	"context"
	"runtime/debug"
	"time"

	"roverd/netpoll"
)

// rig is what one run stands on: the loop of the crowd, the clocks, and what is found.
type rig struct {
	o      *options
	target *target
	run    *run
	fail   context.CancelCauseFunc // ends the run
	loop   *netpoll.Loop           // the crowd's
	loops  []*netpoll.Loop         // all there are
	probe  *probe
	meter  meter
	*recorder

	self [2]int64 // anonymous bytes of bench, before the crowd and with it
}

// perform runs a scenario once. The run is never nil; it may have found nothing.
func perform(ctx context.Context, sc *scenario, o *options, t *target, s *server, bar *progress) (one *run, err error) {
	one = &run{Started: time.Now(), Figures: []figure{}, Times: []times{}}
	defer func() {
		if err != nil {
			one.Error = err.Error()
		}
	}()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	g := &rig{o: o, target: t, run: one, fail: fail, meter: meter{pid: o.pid}}
	if g.loop, err = g.newLoop(); err != nil {
		return one, err
	}
	defer g.close()
	if g.probe, err = newProbe(ctx, o.pid, t, s); err != nil {
		return one, err
	}
	g.recorder = newRecorder(sc, g.probe, o, bar)

	err = sc.play(ctx, g)
	g.close()
	one.Series = g.series
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if one.found() {
		one.Seconds = g.meter.seconds()
		g.connectionCost()
		g.judge(ctx.Err() != nil)
	}
	return one, err
}

// found tells whether there is anything to report.
func (r *run) found() bool { return len(r.Figures) > 0 || len(r.Times) > 0 }

// close ends the loops and the recorder. What belongs to their goroutines may be read then.
func (g *rig) close() {
	if g.recorder != nil {
		g.recorder.stop()
	}
	for _, loop := range g.loops {
		loop.Close()
	}
}

// gather opens crowds, and looks at what they cost.
func (g *rig) gather(ctx context.Context, crowds ...*crowd) {
	g.phase("open")
	debug.FreeOSMemory()
	_, g.self[0] = memorySelf()
	for _, cr := range crowds {
		cr.gather(ctx)
	}
	debug.FreeOSMemory() // what opening left behind is not what holding costs, and would be collected in the measurement
	_, g.self[1] = memorySelf()
	g.look(ctx, &g.probe.Opened)
}

// look takes one of the looks at the server; a process that is gone ends the run.
func (g *rig) look(ctx context.Context, into *process) {
	if err := g.probe.look(ctx, into); err != nil {
		g.fail(err)
	}
}

// connectionCost tells what each connection cost both sides.
func (g *rig) connectionCost() {
	g.run.Process = g.probe.figures()
	const few = 5000 // in fewer the noise of the allocators is the larger part
	c := g.run.Connections
	if c == nil || c.Opened < few {
		return
	}
	c.BenchBytes = max(float64(g.self[1]-g.self[0])/float64(c.Opened), 0)
	if p := g.run.Process; p != nil && p.Before.Resident > 0 {
		c.ServerBytes = float64(p.End.Resident-p.Before.Resident) / float64(c.Opened)
	}
}

// begin and end mark the measurement. They may be called on a loop's goroutine.
func (g *rig) begin() { g.mark(&g.meter.begun, "measure") }
func (g *rig) end()   { g.mark(&g.meter.end, "end") }

func (g *rig) mark(into *reading, phase string) {
	r, err := g.meter.read()
	if err != nil {
		g.fail(err)
		return
	}
	*into = r
	g.phase(phase)
}

func (g *rig) figure(name string, value float64, unit, better string) {
	g.run.Figures = append(g.run.Figures, figure{name, value, unit, better})
}

func (g *rig) times(t times) { g.run.Times = append(g.run.Times, t) }

// grace is how long the last answers are waited for.
const grace = 5 * time.Second

// await waits for the answers to what was sent last: until done is closed, enough time has passed, or ctx ends.
func await(ctx context.Context, done <-chan struct{}) {
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
	case <-ctx.Done():
	}
}
