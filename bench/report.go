package main

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// report is what a run found, for people (print) and for programs (JSON). The figures of a run that failed or was
// interrupted are of the part that ran; without any there is only the error.
type report struct {
	Scenario  string            `json:"scenario"`
	Target    string            `json:"target"`
	Started   time.Time         `json:"started"`
	Machine   machine           `json:"machine"`
	Server    health            `json:"server"`
	Error     string            `json:"error,omitempty"`
	Idle      *idleFigures      `json:"idle,omitempty"`
	Drive     *driveFigures     `json:"drive,omitempty"`
	Echo      *echoFigures      `json:"echo,omitempty"`
	Broadcast *broadcastFigures `json:"broadcast,omitempty"`
}

// machine is where bench ran.
type machine struct {
	CPUs       int    `json:"cpus"`
	GOMAXPROCS int    `json:"gomaxprocs"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
}

func thisMachine() machine {
	var name unix.Utsname
	unix.Uname(&name) // can only fail with a bad address
	return machine{runtime.NumCPU(), runtime.GOMAXPROCS(0),
		unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:]), runtime.Version()}
}

// table writes rows of cells in aligned columns.
type table struct{ *tabwriter.Writer }

func (t table) row(cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(t, "\t")
		}
		fmt.Fprint(t, cell)
	}
	fmt.Fprintln(t)
}

// print writes the report as tables.
func (r *report) print(w io.Writer) {
	if r.Idle == nil && r.Drive == nil && r.Echo == nil && r.Broadcast == nil {
		return
	}
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	defer t.Flush()
	t.row("bench "+r.Scenario, r.Target)
	t.row("machine", fmt.Sprintf("%d CPUs, GOMAXPROCS %d, %s, %s", r.Machine.CPUs, r.Machine.GOMAXPROCS, r.Machine.Kernel, r.Machine.Go))
	if r.Server.Version != "" {
		t.row("server", fmt.Sprintf("roverd %s, car: %s", r.Server.Version, r.Server.Car))
	}
	if f := r.Idle; f != nil {
		t.row("held", fmt.Sprintf("%.1f s", f.HoldSeconds))
		t.crowd(&f.crowdFigures)
		t.percentiles(line{"handshake", f.Handshake})
		t.footprint(f.Footprint, "holding")
	}
	if f := r.Drive; f != nil {
		t.row("commands", fmt.Sprintf("%d sent at %v/s, %d applied, %d superseded, %d unanswered",
			f.Sent, f.Rate, f.Applied, f.Superseded, f.Unanswered))
		t.reasons("errors", f.Errors)
		if f.Viewers.Wanted > 0 {
			t.crowd(&f.Viewers)
		}
		t.percentiles(line{"command to ack", f.Latency}, line{"server, read to line", f.Server},
			line{"schedule lateness", f.Lateness}, line{"viewers' handshake", f.Viewers.Handshake})
		t.footprint(f.Footprint, "driving")
	}
	if f := r.Echo; f != nil {
		t.members("connections", &f.Clients)
		kind := fmt.Sprintf("closed loop, %d in flight on each", f.Depth)
		if f.Rate > 0 {
			kind = fmt.Sprintf("open loop, %v/s", f.Rate)
		}
		t.row("messages", fmt.Sprintf("%d of %d bytes, %.0f/s; %s; %d unanswered", f.Messages, f.Size, f.PerSecond, kind, f.Unanswered))
		t.cost(&f.cost, "message")
		t.percentiles(line{"latency", f.Latency}, line{"handshake", f.Clients.Handshake})
	}
	if f := r.Broadcast; f != nil {
		t.members("viewers", &f.Viewers)
		t.row("broadcasts", fmt.Sprintf("%d at %v/s, %d skipped, %d incomplete", f.Sent, f.Rate, f.Skipped, f.Incomplete))
		t.row("deliveries", fmt.Sprintf("%d, %.0f/s", f.Messages, f.PerSecond))
		t.cost(&f.cost, "delivery")
		t.percentiles(line{"fan-out", f.FanOut}, line{"viewers' handshake", f.Viewers.Handshake})
	}
}

// members writes who was there.
func (t table) members(name string, f *crowdFigures) {
	t.row(name, fmt.Sprintf("%d of %d opened in %.2f s (%.0f/s), %d failed, %d lost",
		f.Opened, f.Wanted, f.OpenSeconds, f.OpenRate, f.Failed, f.Lost))
	t.reasons("because", f.Reasons)
}

// cost writes what a message took.
func (t table) cost(f *cost, unit string) {
	t.row("bench itself", fmt.Sprintf("%.2f cores", f.Load))
	s := f.Server
	if s == nil {
		return
	}
	split := ""
	if s.User+s.System > 0 {
		split = fmt.Sprintf(" (%.3f user, %.3f system)", s.User, s.System)
	}
	t.row("server process", fmt.Sprintf("%.3f us of CPU per %s%s, %.2f cores", s.PerMessage, unit, split, s.Cores))
	t.row("context switches", fmt.Sprintf("%.0f/s voluntary, %.0f/s involuntary", s.Voluntary, s.Involuntary))
}

func (t table) crowd(f *crowdFigures) {
	t.members("viewers", f)
	t.row("received", fmt.Sprintf("%d messages (%d states), %.1f MB", f.Received.Messages, f.Received.States, float64(f.Received.Bytes)/1e6))
}

// reasons writes what happened how often.
func (t table) reasons(name string, counts map[string]int) {
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		t.row(name, fmt.Sprintf("%d: %s", counts[reason], reason))
	}
}

// line is a named row of percentiles.
type line struct {
	name string
	percentiles
}

func (t table) percentiles(lines ...line) {
	t.row()
	t.row("microseconds", "p50", "p90", "p99", "p99.9", "max", "count")
	for _, l := range lines {
		if l.Count > 0 {
			t.row(l.name, l.P50, l.P90, l.P99, l.P999, l.Max, l.Count)
		}
	}
}

// footprint writes the looks at the server's process; doing is what it did between the last two.
func (t table) footprint(f *footprint, doing string) {
	if f == nil {
		return
	}
	t.row()
	t.row("server process", "before", "opened", "end")
	if f.PID != 0 {
		mb := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }
		t.row("resident, MB", mb(f.Before.Resident), mb(f.Opened.Resident), mb(f.Held.Resident))
		t.row("  of it anonymous", mb(f.Before.Anonymous), mb(f.Opened.Anonymous), mb(f.Held.Anonymous))
		t.row("threads", f.Before.Threads, f.Opened.Threads, f.Held.Threads)
	}
	if f.Before.Goroutines > 0 {
		t.row("goroutines", f.Before.Goroutines, f.Opened.Goroutines, f.Held.Goroutines)
	}
	if f.PID != 0 {
		t.row()
		if f.PerConnection != 0 {
			t.row("resident per viewer", fmt.Sprintf("%d bytes", f.PerConnection))
		}
		t.row("CPU time opening", fmt.Sprintf("%.2f s", f.Opened.CPU-f.Before.CPU))
		t.row("CPU time "+doing, fmt.Sprintf("%.2f s", f.Held.CPU-f.Opened.CPU))
	}
}
