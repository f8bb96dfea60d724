package main

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"roverd/netpoll"
)

// runScenario runs one without a warm-up, which must succeed.
func runScenario(t *testing.T, name string, args ...string) *run {
	t.Helper()
	r := runBench(t, t.Context(), append([]string{name, "-warmup", "0s"}, args...)...)
	if r.code != 0 || !r.found() {
		r.skipUnlessBelievable(t)
		t.Fatalf("exit code %d, figures %v", r.code, r.Figures)
	}
	return r.run
}

// believable tells whether bench says so itself: bench, and the server in the same process, ran when they had to. What
// may take longer on a machine that is used by others, or not come to pass, is judged only then.
func (r *run) believable() bool {
	return !slices.ContainsFunc(r.Marks, func(m mark) bool {
		return slices.Contains([]string{"bench_cpu", "waited", "late", "gc"}, m.Code)
	})
}

func (r *run) skipUnlessBelievable(t *testing.T) {
	t.Helper()
	if !r.believable() {
		t.Skipf("NOT TESTED here: the machine is too busy: %+v", r.Marks)
	}
}

// figures are some of a run by name.
type figures map[string]float64

// check compares the figures that are given with the run's.
func (want figures) check(t *testing.T, r *run) {
	t.Helper()
	for name, value := range want {
		i := slices.IndexFunc(r.Figures, func(f figure) bool { return f.Name == name })
		if i < 0 {
			t.Errorf("no figure is called %s", name)
		} else if got := r.Figures[i].Value; got != value {
			t.Errorf("%s = %v; want %v", name, got, value)
		}
	}
}

func runDrive(t *testing.T, args ...string) *run {
	t.Helper()
	return runScenario(t, "drive", args...)
}

func TestDriveMeasuresTheDelay(t *testing.T) {
	f := &fake{delay: 5 * time.Millisecond}
	got := runDrive(t, "-rate", "50", "-d", "1s", f.serve(t))
	figures{"sent": 50, "applied": 50, "unanswered": 0}.check(t, got)
	if l := got.measured("command_to_ack"); l.Count != 50 || l.P50 < 5000 || l.Min < 5000 {
		t.Errorf("latency %+v: want 50 of at least 5 ms", l)
	}
	if s := got.measured("read_to_line"); s.Count != 50 || s.Max != 42 {
		t.Errorf("the server said 42 us 50 times, bench %+v", s)
	}
}

// hog keeps the drivers' loop busy after each command: the reply lies there meanwhile.
type hog struct{ loop *netpoll.Loop }

func (h hog) sending() {
	h.loop.Post(func() {
		for began := time.Now(); time.Since(began) < 10*time.Millisecond; {
		}
	})
}

func (hog) replied(reply, command) {}

// When it is bench that keeps a reply waiting, it says so.
func TestDriveTellsThatItReadLate(t *testing.T) {
	o, err := parseOptions(&drive, []string{"-rate", "50", "-warmup", "0s", "-d", "400ms", (&fake{}).serve(t)})
	if err != nil {
		t.Fatal(err)
	}
	to, err := resolve(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	hogged := &scenario{name: "drive", counts: "commands", play: func(ctx context.Context, g *rig) error {
		d, err := g.newDrivers(1)
		if err != nil {
			return err
		}
		d.follower = hog{d.loop}
		d.connect(ctx)
		d.drive(ctx, o.rate, o.warmup, o.length, g.begin, g.end)
		g.close()
		d.times()
		return nil
	}}
	got, err := perform(t.Context(), hogged, o, to, &server{}, &progress{})
	if err != nil {
		t.Fatal(err)
	}
	l := got.measured(readingLateness)
	if l.Count != 20 || l.Max < 8000 || !slices.ContainsFunc(got.Marks, func(m mark) bool {
		return strings.Contains(m.Text, "late to read replies") && slices.Equal(m.Of, []string{commandToAck})
	}) {
		t.Errorf("reading lateness %+v, marks %+v; want 20 of up to 9 ms or more, and the acknowledgements marked", l, got.Marks)
	}
}

// A stall must be felt by all commands whose time falls into it. A tool that waits for one reply before it sends the
// next command would find a single slow one.
func TestDriveFeelsAStall(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := &fake{delay: time.Millisecond, stallAt: 50, stall: 300 * time.Millisecond}
	got := runDrive(t, "-rate", "100", "-d", "2s", f.serve(t))
	l := got.measured("command_to_ack")
	figures{"sent": 200, "applied": 200}.check(t, got)
	// Command j after the one that met the stall is due 10j ms into it, so it waits 300-10j ms or longer. Of 200
	// commands p90 leaves out 20 and p99 two: they are those of j=20 and j=2.
	if l.Count != 200 || l.Max < 300_000 || l.P9999 != l.Max || l.P99 < 279_000 || l.P90 < 99_900 {
		t.Errorf("latency %+v: want p90, p99 and maximum of 100, 280 and 300 ms or more", l)
	}
	if l.P50 >= l.P90 {
		t.Errorf("latency %+v: half of the commands met no stall", l)
	}
}

func TestDriveReportsUnanswered(t *testing.T) {
	t.Parallel() // it waits for the answers as long as bench does
	release := make(chan struct{})
	f := &fake{reply: func(i int) string {
		if i >= 30 {
			<-release
		}
		return ack
	}}
	url := f.serve(t)
	t.Cleanup(func() { close(release) })
	r := runBench(t, t.Context(), "drive", "-warmup", "0s", "-rate", "100", "-d", "400ms", url)
	figures{"sent": 40, "unanswered": 10}.check(t, r.run)
	if l := r.measured("command_to_ack"); r.code != 1 || l.Count != 30 || !r.marked("command_to_ack") {
		t.Fatalf("exit code %d, latency %+v; want 1, and 10 of 40 unanswered, and that the others' latency is marked", r.code, l)
	}
	if !strings.Contains(r.stderr, "10 of 40 commands were not answered") {
		t.Errorf("stderr is %q", r.stderr)
	}
}

func TestDriveWarmupIsNotCounted(t *testing.T) {
	f := &fake{stallAt: 0, stall: 200 * time.Millisecond}
	got := runDrive(t, "-warmup", "500ms", "-rate", "100", "-d", "200ms", f.serve(t))
	figures{"sent": 20, "applied": 20}.check(t, got)
	if l := got.measured("command_to_ack"); l.Count != 20 {
		t.Errorf("%d latencies; want 20", l.Count)
	}
}

func TestDriveCountsReplies(t *testing.T) {
	f := &fake{reply: func(i int) string {
		switch i % 4 {
		case 1:
			return `{"op":"ack","seq":1,"applied":false,"us":0}`
		case 2:
			return `{"op":"error","code":"stale","message":"too old"}`
		}
		return ack
	}}
	got := runDrive(t, "-rate", "100", "-d", "400ms", f.serve(t))
	figures{"applied": 20, "superseded": 10}.check(t, got)
	if got.Refusals["stale"] != 10 || got.measured("command_to_ack").Count != 40 || got.measured("read_to_line").Count != 20 {
		t.Errorf("got %+v; want 20 applied, 10 superseded, 10 stale", got)
	}
}

func TestDriveCountsWhatViewersGet(t *testing.T) {
	const state = `{"op":"state","seq":1}`
	f := &fake{announce: func(int) string { return state }}
	got := runDrive(t, "-n", "20", "-rate", "50", "-d", "1s", f.serve(t))
	states, bytes := got.value("states_received"), got.value("received_bytes")
	// The last ones may still be on their way when the run ends.
	if got.Connections.Opened != 20 || states < 20*40 && got.believable() || states > 20*50 {
		t.Errorf("%d viewers got %v states; want 20 and about 1000", got.Connections.Opened, states)
	}
	if bytes != states*float64(len(state)) {
		t.Errorf("%v states had %v bytes", states, bytes)
	}
}

// With one helm, the commands of all but one controller are refused.
func TestDriveWithControllers(t *testing.T) {
	var first atomic.Bool
	f := &fake{}
	f.serveEach = func() func(int) string {
		if first.CompareAndSwap(false, true) {
			return nil
		}
		return func(int) string { return `{"op":"error","code":"not_driver","message":"v1 drives"}` }
	}
	got := runDrive(t, "-controllers", "5", "-rate", "20", "-d", "1s", f.serve(t))
	figures{"sent": 100, "applied": 20, "unanswered": 0}.check(t, got)
	if got.Refusals["not_driver"] != 80 || got.measured("command_to_ack").Count != 100 {
		t.Errorf("%v were refused; want 80 of 100", got.Refusals)
	}
}

func TestDriveFails(t *testing.T) {
	for name, test := range map[string]struct {
		reply string
		want  string
	}{
		"another drives": {`{"op":"error","code":"not_driver","message":"v7 drives"}`, "does not let bench drive: v7 drives (not_driver)"},
		"not allowed":    {`{"op":"error","code":"not_allowed","message":"watch"}`, "does not let bench drive: watch (not_allowed)"},
		"lost":           {"", "the driver's connection: the server at 127.0.0.1:"},
		"not JSON":       {"hello", `the server sent the driver "hello"`},
		"only errors":    {`{"op":"error","code":"off","message":"off"}`, "no command was acknowledged"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fake{reply: func(int) string { return test.reply }}
			r := runBench(t, t.Context(), "drive", "-warmup", "0s", "-d", "500ms", "-rate", "100", f.serve(t))
			if r.code != 1 || !strings.Contains(r.stderr, test.want) {
				t.Errorf("exit code %d, %q; want 1 and %q", r.code, r.stderr, test.want)
			}
			if !strings.Contains(r.report.Error, test.want) {
				t.Errorf("the JSON file's error is %q", r.report.Error)
			}
		})
	}
}
