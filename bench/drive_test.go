package main

import (
	"strings"
	"testing"
	"time"
)

func runDrive(t *testing.T, args ...string) *driveFigures {
	t.Helper()
	r := runBench(t, t.Context(), append([]string{"drive", "-warmup", "0s"}, args...)...)
	if r.code != 0 || r.report.Drive == nil {
		t.Fatalf("exit code %d, figures %v", r.code, r.report.Drive)
	}
	return r.report.Drive
}

func TestDriveMeasuresTheDelay(t *testing.T) {
	f := &fake{delay: 5 * time.Millisecond}
	got := runDrive(t, "-rate", "50", "-d", "1s", f.serve(t))
	if got.Sent != 50 || got.Applied != 50 || got.Unanswered != 0 {
		t.Errorf("sent %d, applied %d, unanswered %d; want 50, 50, 0", got.Sent, got.Applied, got.Unanswered)
	}
	if got.Latency.Count != 50 || got.Latency.P50 < 5000 {
		t.Errorf("latency %+v: want 50 of at least 5 ms", got.Latency)
	}
	if got.Server.Count != 50 || got.Server.Max != 42 {
		t.Errorf("the server said 42 us 50 times, bench %+v", got.Server)
	}
}

// A stall must be felt by all commands whose time falls into it. A tool that waits for one reply before it sends the
// next command would find a single slow one.
func TestDriveFeelsAStall(t *testing.T) {
	f := &fake{delay: time.Millisecond, stallAt: 50, stall: 300 * time.Millisecond}
	got := runDrive(t, "-rate", "100", "-d", "2s", f.serve(t))
	if got.Sent != 200 || got.Latency.Count != 200 {
		t.Fatalf("sent %d, %d answers; want 200 each", got.Sent, got.Latency.Count)
	}
	// Command j after the one that met the stall is due 10j ms into it, so it waits 300-10j ms or longer. Of 200
	// commands p90 leaves out 20 and p99 two: they are those of j=20 and j=2.
	if got.Latency.Max < 300_000 || got.Latency.P99 < 280_000 || got.Latency.P90 < 100_000 {
		t.Errorf("latency %+v: want p90, p99 and maximum of 100, 280 and 300 ms or more", got.Latency)
	}
	if got.Latency.P50 >= got.Latency.P90 {
		t.Errorf("latency %+v: half of the commands met no stall", got.Latency)
	}
}

func TestDriveReportsUnanswered(t *testing.T) {
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
	got := r.report.Drive
	if r.code != 1 || got == nil || got.Sent != 40 || got.Unanswered != 10 || got.Latency.Count != 30 {
		t.Fatalf("exit code %d, figures %+v; want 1, and 10 of 40 unanswered", r.code, got)
	}
	if !strings.Contains(r.stderr, "10 of 40 commands were not answered") {
		t.Errorf("stderr is %q", r.stderr)
	}
}

func TestDriveWarmupIsNotCounted(t *testing.T) {
	f := &fake{stallAt: 0, stall: 200 * time.Millisecond}
	got := runDrive(t, "-warmup", "500ms", "-rate", "100", "-d", "200ms", f.serve(t))
	if got.Sent != 20 || got.Latency.Count != 20 || got.Applied != 20 {
		t.Errorf("sent %d, %d latencies, applied %d; want 20 each", got.Sent, got.Latency.Count, got.Applied)
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
	if got.Applied != 20 || got.Superseded != 10 || got.Errors["stale"] != 10 || got.Latency.Count != 40 || got.Server.Count != 20 {
		t.Errorf("got %+v; want 20 applied, 10 superseded, 10 stale", got)
	}
}

func TestDriveCountsWhatViewersGet(t *testing.T) {
	f := &fake{announce: `{"op":"state","seq":1}`}
	got := runDrive(t, "-n", "20", "-rate", "50", "-d", "1s", f.serve(t)).Viewers
	// The last ones may still be on their way when the run ends.
	if got.Opened != 20 || got.Received.States < 20*40 || got.Received.States > 20*50 {
		t.Errorf("%d viewers got %d states; want 20 and about 1000", got.Opened, got.Received.States)
	}
	if got.Received.Bytes != got.Received.States*int64(len(f.announce)) {
		t.Errorf("%d states had %d bytes", got.Received.States, got.Received.Bytes)
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
