package main

import (
	"slices"
	"time"
)

// This file is the JSON that bench writes (-json) and reads (compare, plot): what a table, a plot and a comparison need,
// under names that say themselves what they are, so that none of these has to know the scenarios. Times are in
// microseconds where a name ends in us, in seconds where it ends in s. An old reader finds all fields of an old Schema.

// report is what the runs of one scenario found. The figures of a run that failed or was interrupted are of the part
// that ran.
type report struct {
	Schema   int               `json:"schema"`   // 1; grows when a field changes its meaning, not when one is added
	Scenario string            `json:"scenario"` // as on the command line: echo, drive, ...
	Target   string            `json:"target"`   // the server's URL
	Settings map[string]string `json:"settings"` // all flags that bear upon the figures, by name; defaults too
	Started  time.Time         `json:"started"`
	Machine  machine           `json:"machine"` // where bench ran
	Server   server            `json:"server"`
	Runs     []*run            `json:"runs"`            // -repeat of them, in order; runs that found nothing are left out
	Summary  []summary         `json:"summary"`         // of the runs without an error; of all runs if each has one
	Error    string            `json:"error,omitempty"` // why the program ended with exit code 1
}

const schema = 1

// machine describes where bench ran, as far as it bears upon the figures. What can't be read is empty.
type machine struct {
	Model      string            `json:"cpu_model"`
	CPUs       int               `json:"cpus"`       // that this process may use
	GOMAXPROCS int               `json:"gomaxprocs"` // that it does use
	Governor   string            `json:"cpu_governor,omitempty"`
	Hypervisor bool              `json:"hypervisor"` // a virtual machine, whose neighbours are felt
	Memory     int64             `json:"memory_bytes"`
	Kernel     string            `json:"kernel"`
	Go         string            `json:"go"`
	Files      [2]uint64         `json:"rlimit_nofile"` // soft and hard
	Sysctls    map[string]string `json:"sysctls"`       // those that bound or shape the runs, by their dotted name
}

// server is who was measured. All is empty of one that does not say.
type server struct {
	Car     string `json:"car,omitempty"` // as GET /healthz of roverd says
	Version string `json:"version,omitempty"`
	PID     int    `json:"pid,omitempty"` // given by -pid
	// Source is where the server's memory and CPU time come from: "proc" with -pid, "metrics" when GET /metrics has
	// process_resident_memory_bytes and its like; empty when they are not known.
	Source string `json:"process_from,omitempty"`
}

// run is one run of the scenario.
type run struct {
	Started time.Time `json:"started"`
	Error   string    `json:"error,omitempty"`
	// Seconds is how long was measured; what came before it, opening and warm-up, is in no figure but those of the
	// connections and the memory.
	Seconds     float64        `json:"measured_s"`
	Connections *connections   `json:"connections,omitempty"` // the crowd: viewers, or whatever the scenario has many of
	Figures     []figure       `json:"figures"`               // in the order of their worth
	Times       []times        `json:"times"`                 // in the order of their worth
	Refusals    map[string]int `json:"refusals,omitempty"`    // commands that the server answered with an error, by its code
	Process     *looks         `json:"server_process,omitempty"`
	Series      series         `json:"series"`
	// Marks say why figures of this run are to be doubted: most often that bench, not the server, was the bottleneck.
	Marks []mark `json:"marks,omitempty"`
}

// figure is one number.
type figure struct {
	Name   string  `json:"name"`             // in the run unique among the figures: "messages_per_s"
	Value  float64 `json:"value"`            //
	Unit   string  `json:"unit,omitempty"`   // "1/s", "us", "bytes", "cores", ...; empty of a count
	Better string  `json:"better,omitempty"` // "more", "less"; empty of what is neither good nor bad
}

// times describes many measured times, from an HdrHistogram with three significant digits.
type times struct {
	Name  string  `json:"name"`  // in the run unique among the times: "latency"
	What  string  `json:"what"`  // from what to what, for people
	Count int64   `json:"count"` // 0: all else is 0 too, and Curve is empty
	Mean  float64 `json:"mean_us"`
	Min   int64   `json:"min_us"`
	P50   int64   `json:"p50_us"`
	P90   int64   `json:"p90_us"`
	P99   int64   `json:"p99_us"`
	P999  int64   `json:"p99_9_us"`
	P9999 int64   `json:"p99_99_us"`
	Max   int64   `json:"max_us"`
	// Curve is the distribution, the way HdrHistogram plots it: points that grow denser towards 100 %, which is the
	// last; each is how many percent of the times were at most as many microseconds.
	Curve []point `json:"curve"`
}

// point is one of a curve.
type point struct {
	Percentile float64 `json:"percentile"` // 0 to 100
	Micros     int64   `json:"us"`
}

// connections tells what became of a crowd.
type connections struct {
	Role        string         `json:"role"` // what each is: "viewer", "connection"
	Wanted      int            `json:"wanted"`
	Opened      int            `json:"opened"`
	Failed      int            `json:"failed"`            // never opened
	Lost        int            `json:"lost"`              // ended before the run did, and not by bench
	Reasons     map[string]int `json:"reasons,omitempty"` // of those two
	OpenSeconds float64        `json:"open_s"`            // until the last had opened
	// BenchBytes is the memory, resident and anonymous, that bench itself needed for each; 0 of a crowd too small to tell.
	BenchBytes float64 `json:"bench_bytes_each,omitempty"`
	// ServerBytes is the same of the server, from before the first to the end of the run.
	ServerBytes float64 `json:"server_bytes_each,omitempty"`
}

// looks are at the server's process: before the first connection, when the last had opened, at the end.
type looks struct {
	Before process `json:"before"`
	Opened process `json:"opened"`
	End    process `json:"end"`
}

// process is what the server's process used at one moment (proc_pid_status(5), proc_pid_stat(5)).
type process struct {
	Resident   int64   `json:"resident_bytes,omitempty"`  // VmRSS
	Anonymous  int64   `json:"anonymous_bytes,omitempty"` // RssAnon: without the pages of the program's file
	Threads    int     `json:"threads,omitempty"`
	Files      int     `json:"open_files,omitempty"`
	CPU        float64 `json:"cpu_s,omitempty"` // used since its start, user and system
	Goroutines int     `json:"goroutines,omitempty"`
}

// series is what was seen over time, one look each quarter of a second (fewer in a long run: 2,400 at most): a table,
// whose columns all have as many values as At has.
type series struct {
	Phases []stretch `json:"phases"` // in order: "open", "warmup", "measure", "end"; those that took place
	At     []float64 `json:"at_s"`   // seconds since the run's start
	// Columns that may be there: "connections"; "messages_per_s" (or what the scenario counts: "commands_per_s",
	// "deliveries_per_s"), since the look before; "server_cores", "bench_cores", since the look before (a server's metrics
	// are asked for once a second, and are the same in between); "server_resident_bytes", "server_open_files",
	// "bench_resident_bytes"; "worst_us", the longest time of the first of the run's Times since the look before (0 when
	// there was none).
	Columns []column `json:"columns"`
}

// stretch is a phase of a run, in seconds since its start.
type stretch struct {
	Name string  `json:"name"`
	From float64 `json:"from_s"`
	To   float64 `json:"to_s"`
}

type column struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit,omitempty"` // as of a figure
	Values []float64 `json:"values"`
}

// mark says why figures are to be doubted.
type mark struct {
	// Code is for programs: "bench_cpu" (bench used up its own processor), "late" (it sent later than the schedule said),
	// "gc" (its garbage collection took too long), "shared_cpu" (bench and the server had one processor together),
	// "waited" (bench or the server waited for a processor), "pid" (the process is not who listens), "connections" (some
	// did not open, or were lost), "unanswered", "skipped", "incomplete", "undelivered", "interrupted".
	Code string `json:"code"`
	Text string `json:"text"` // for people: what was seen, and the remedy
	// Of are the names of the figures and times concerned; all of the run when empty.
	Of []string `json:"of,omitempty"`
}

// summary is what one number came to over the runs: a figure under its name, and the percentiles of times as in
// "latency p50", "latency p99", "latency p99.99", "latency max".
type summary struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit,omitempty"`
	Better string    `json:"better,omitempty"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Values []float64 `json:"values"`           // of each run, in order
	Marked bool      `json:"marked,omitempty"` // by a mark of any run
}

// summarize makes the summary of the runs. A number that only some of them have is one of those that have it.
func (r *report) summarize() {
	runs := slices.DeleteFunc(slices.Clone(r.Runs), func(one *run) bool { return one.Error != "" })
	if len(runs) == 0 {
		runs = r.Runs
	}
	r.Summary = []summary{}
	for _, one := range runs {
		for _, f := range one.Figures {
			r.sum(f, one.marked(f.Name))
		}
		for _, t := range one.Times {
			if t.Count == 0 {
				continue
			}
			for _, p := range []figure{
				{Name: "p50", Value: float64(t.P50)}, {Name: "p99", Value: float64(t.P99)},
				{Name: "p99.99", Value: float64(t.P9999)}, {Name: "max", Value: float64(t.Max)},
			} {
				r.sum(figure{t.Name + " " + p.Name, p.Value, "us", "less"}, one.marked(t.Name))
			}
		}
	}
	for i := range r.Summary {
		s := &r.Summary[i]
		sorted := slices.Sorted(slices.Values(s.Values))
		n := len(sorted)
		s.Median, s.Min, s.Max = (sorted[(n-1)/2]+sorted[n/2])/2, sorted[0], sorted[n-1]
	}
}

// sum adds the figure of one more run.
func (r *report) sum(f figure, marked bool) {
	i := slices.IndexFunc(r.Summary, func(s summary) bool { return s.Name == f.Name })
	if i < 0 {
		i = len(r.Summary)
		r.Summary = append(r.Summary, summary{Name: f.Name, Unit: f.Unit, Better: f.Better})
	}
	s := &r.Summary[i]
	s.Values = append(s.Values, f.Value)
	s.Marked = s.Marked || marked
}

// marked tells whether the figure or times of that name are to be doubted.
func (r *run) marked(name string) bool {
	return slices.ContainsFunc(r.Marks, func(m mark) bool { return len(m.Of) == 0 || slices.Contains(m.Of, name) })
}
