package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// jsonSchema is every field of the JSON of a run with all that there can be, and its kind. Whoever changes it breaks the
// programs that read it: add, and change the number of the schema when a meaning changes.
const jsonSchema = `
error string
machine.cpu_model string
machine.cpus number
machine.go string
machine.gomaxprocs number
machine.hypervisor bool
machine.kernel string
machine.memory_bytes number
machine.rlimit_nofile[] number
machine.sysctls.* string
runs[].connections.failed number
runs[].connections.lost number
runs[].connections.open_s number
runs[].connections.opened number
runs[].connections.reasons.* number
runs[].connections.role string
runs[].connections.wanted number
runs[].error string
runs[].figures[].better string
runs[].figures[].name string
runs[].figures[].unit string
runs[].figures[].value number
runs[].marks[].code string
runs[].marks[].of[] string
runs[].marks[].text string
runs[].measured_s number
runs[].refusals.* number
runs[].series.at_s[] number
runs[].series.columns[].name string
runs[].series.columns[].unit string
runs[].series.columns[].values[] number
runs[].series.phases[].from_s number
runs[].series.phases[].name string
runs[].series.phases[].to_s number
runs[].server_process.*.anonymous_bytes number
runs[].server_process.*.cpu_s number
runs[].server_process.*.open_files number
runs[].server_process.*.resident_bytes number
runs[].server_process.*.threads number
runs[].started string
runs[].times[].count number
runs[].times[].curve[].percentile number
runs[].times[].curve[].us number
runs[].times[].max_us number
runs[].times[].mean_us number
runs[].times[].min_us number
runs[].times[].name string
runs[].times[].p50_us number
runs[].times[].p90_us number
runs[].times[].p99_99_us number
runs[].times[].p99_9_us number
runs[].times[].p99_us number
runs[].times[].what string
scenario string
schema number
server.pid number
server.process_from string
settings.* string
started string
summary[].better string
summary[].marked bool
summary[].max number
summary[].median number
summary[].min number
summary[].name string
summary[].unit string
summary[].values[] number
target string
`

// describe collects the paths of a JSON value. The names in some objects are data.
func describe(path string, v any, found map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			for _, open := range []string{"settings", "sysctls", "reasons", "refusals", "server_process"} {
				if strings.HasSuffix(path, open) {
					name = "*"
				}
			}
			describe(strings.TrimPrefix(path+"."+name, "."), inner, found)
		}
	case []any:
		for _, inner := range v {
			describe(path+"[]", inner, found)
		}
	case string:
		found[path+" string"] = true
	case float64:
		found[path+" number"] = true
	case bool:
		found[path+" bool"] = true
	default:
		found[fmt.Sprintf("%s %T", path, v)] = true
	}
}

func TestJSONSchema(t *testing.T) {
	// One of the viewers is lost, one of the commands refused, and one not answered.
	f := fakeCar(0, nil)
	lost := make(chan struct{})
	closed := sync.OnceFunc(func() { close(lost) })
	f.left = func(int) { closed() }
	reply := f.reply
	f.reply = func(i int) string {
		switch i {
		case 20:
			return `{"op":"error","code":"stale","message":"too old"}`
		case 30:
			f.mu.Lock()
			f.conns[len(f.conns)-1].(*net.TCPConn).CloseWrite()
			f.mu.Unlock()
		case 40:
			<-lost    // bench has taken note of that
			return "" // the connection ends, and the command is not answered
		}
		return reply(i)
	}
	file := filepath.Join(t.TempDir(), "figures.json")
	var out strings.Builder
	code := program(t.Context(), []string{"watch", "-n", "5", "-rate", "50", "-d", "1s", "-warmup", "100ms", "-pid", fmt.Sprint(os.Getpid()),
		"-repeat", "2", "-json", file, f.serve(t)}, &out, &out)
	if code != 1 {
		t.Fatalf("exit code %d: %s", code, &out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	describe("", v, found)
	delete(found, "machine.cpu_governor string") // not everywhere
	want := strings.Split(strings.TrimSpace(jsonSchema), "\n")
	for path := range found {
		if !slices.Contains(want, path) {
			t.Errorf("%s is new", path)
		}
	}
	for _, path := range want {
		if !found[path] {
			t.Errorf("%s is missing", path)
		}
	}
}

func TestSeriesIsATable(t *testing.T) {
	f := &fake{echo: true}
	got := runScenario(t, "echo", "-n", "10", "-rate", "200", "-d", "1s", "-pid", fmt.Sprint(os.Getpid()), f.serve(t))
	rows := len(got.Series.At)
	if rows < 2 || !slices.IsSorted(got.Series.At) {
		t.Fatalf("looks at %v; want five or so, in order", got.Series.At)
	}
	sums, most := map[string]float64{}, map[string]float64{} // over the time; of all looks
	for _, c := range got.Series.Columns {
		if len(c.Values) != rows {
			t.Fatalf("%s has %d values; want %d", c.Name, len(c.Values), rows)
		}
		most[c.Name] = slices.Max(c.Values)
		for i := 1; i < rows; i++ {
			sums[c.Name] += c.Values[i] * (got.Series.At[i] - got.Series.At[i-1])
		}
	}
	// Rates are of the time since the look before, so nothing is lost between two looks.
	if n := sums["messages_per_s"]; math.Abs(n-200) > 0.01 {
		t.Errorf("the rates add up to %v messages; want 200", n)
	}
	if open, files := most["connections"], most["server_open_files"]; open != 10 || files < 20 {
		t.Errorf("up to %v were open, and %v files; want 10, and 20 or more", open, files)
	}
	l := got.measured("latency")
	if worst := int64(most["worst_us"]); worst < l.Max*99/100 || worst > l.Max*101/100 {
		t.Errorf("the worst was %d us; want the latency's maximum, %d", worst, l.Max)
	}
	for _, name := range []string{"server_cores", "server_resident_bytes", "bench_cores", "bench_resident_bytes"} {
		if most[name] <= 0 {
			t.Errorf("there is no %s", name)
		}
	}
	measured := got.Series.stretch("measure")
	if measured.To-measured.From < 0.9 || measured.From <= got.Series.stretch("open").From {
		t.Errorf("the phases are %+v; want a second of measurement", got.Series.Phases)
	}
}

// A column that begins late was nothing until then, and one that ends early stays as it was.
func TestSeriesPads(t *testing.T) {
	r := &recorder{columns: map[string]int{}}
	for i, names := range []string{"a", "ab", "b"} {
		r.series.At = append(r.series.At, float64(i))
		for _, name := range names {
			r.put(string(name), "", float64(i+1))
		}
		r.pad()
	}
	if got, want := fmt.Sprint(r.series.Columns), "[{a  [1 2 2]} {b  [0 2 3]}]"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}

func TestRepeatSummarizes(t *testing.T) {
	f := &fake{echo: true, delay: 2 * time.Millisecond}
	r := runBench(t, t.Context(), "echo", "-n", "2", "-d", "200ms", "-warmup", "0s", "-repeat", "3", f.serve(t))
	if r.code != 0 {
		r.skipUnlessBelievable(t)
	}
	if r.code != 0 || len(r.report.Runs) != 3 || !strings.Contains(r.stdout, "of 3 runs") {
		t.Fatalf("exit code %d, %d runs", r.code, len(r.report.Runs))
	}
	for name, unit := range map[string]string{"messages_per_s": "1/s", "latency p50": "us", "latency p99.99": "us"} {
		i := slices.IndexFunc(r.report.Summary, func(s summary) bool { return s.Name == name })
		if i < 0 {
			t.Errorf("no %s", name)
			continue
		}
		s := r.report.Summary[i]
		if s.Unit != unit || len(s.Values) != 3 || s.Min > s.Median || s.Median > s.Max || !slices.Contains(s.Values, s.Median) || s.Min <= 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestSummaryOfRunsThatFailed(t *testing.T) {
	bad := &run{Error: "lost", Figures: []figure{{Name: "a", Value: 100}}, Marks: []mark{{Code: "connections"}}}
	good := func(v float64) *run { return &run{Figures: []figure{{Name: "a", Value: v}}} }
	r := report{Runs: []*run{good(1), bad, good(2), good(9), good(4)}}
	if r.summarize(); len(r.Summary) != 1 || r.Summary[0].Median != 3 || r.Summary[0].Max != 9 || r.Summary[0].Marked {
		t.Errorf("of 1, 2, 4, 9 and a run that failed: %+v", r.Summary)
	}
	r = report{Runs: []*run{bad}}
	if r.summarize(); len(r.Summary) != 1 || r.Summary[0].Median != 100 || !r.Summary[0].Marked {
		t.Errorf("of a run that failed: %+v", r.Summary)
	}
}

func TestHistogram(t *testing.T) {
	h := newHistogram()
	if got := h.times("a", ""); got.Count != 0 || got.Max != 0 || len(got.Curve) != 0 {
		t.Errorf("of none: %+v", got)
	}
	for i := 1; i <= 100_000; i++ {
		h.add(time.Duration(i) * 10 * time.Microsecond) // up to a second
	}
	got := h.times("a", "")
	for _, p := range []struct {
		name      string
		got, want int64
	}{{"min", got.Min, 10}, {"p50", got.P50, 500_000}, {"p90", got.P90, 900_000}, {"p99", got.P99, 990_000}, {"p99.9", got.P999, 999_000},
		{"p99.99", got.P9999, 999_900}, {"max", got.Max, 1_000_000}} {
		if off := float64(p.got-p.want) / float64(p.want); off < -0.001 || off > 0.001 {
			t.Errorf("%s is %d; want %d to three digits", p.name, p.got, p.want)
		}
	}
	last := point{}
	for _, p := range got.Curve {
		if p.Percentile < last.Percentile || p.Micros < last.Micros {
			t.Fatalf("the curve falls: %+v, then %+v", last, p)
		}
		last = p
	}
	if last.Percentile != 100 || last.Micros != got.Max || len(got.Curve) < 50 {
		t.Errorf("the curve has %d points and ends at %+v; want 100 %% and %d", len(got.Curve), last, got.Max)
	}
	h.add(-1)
	h.add(1<<63 - 1)
	if got := h.times("a", ""); got.Count != 100_002 || got.Max < longest.Microseconds() {
		t.Errorf("with the extremes: %+v", got)
	}
}

// judged runs judge on a second in which bench used so much.
func judged(cores float64, times ...times) *run {
	start := time.Now()
	g := &rig{probe: &probe{}, run: &run{Times: times, Figures: []figure{{"messages_per_s", 1, "1/s", "more"}, {"server_cpu_us_per_message", 1, "us", "less"}}}}
	g.meter.begun.at, g.meter.end.at = start, start.Add(time.Second)
	g.meter.end.self = time.Duration(cores * float64(time.Second))
	g.judge(false)
	return g.run
}

func TestMarks(t *testing.T) {
	latency := func(p50, p99 int64) times { return times{Name: "latency", Count: 10, P50: p50, P99: p99} }
	late := func(p50, p99 int64) times { return times{Name: scheduleLateness, Count: 10, P50: p50, P99: p99} }
	acks := func(p99 int64) times { return times{Name: commandToAck, Count: 10, P50: 300, P99: p99} }
	read := func(p99 int64) times { return times{Name: readingLateness, Count: 10, P50: 0, P99: p99} }
	for name, test := range map[string]struct {
		run  *run
		want string // the codes
	}{
		"well":               {judged(0.5, latency(200, 1000), late(60, 300)), ""},
		"busy":               {judged(0.95, latency(200, 1000)), "bench_cpu"},
		"late at the end":    {judged(0.5, latency(200, 1000), late(60, 900)), "late"},
		"late in the middle": {judged(0.5, latency(200, 1000), late(150, 300)), "late"},
		"both":               {judged(1, latency(200, 1000), late(150, 300)), "bench_cpu late"},
		"late to read":       {judged(0.5, acks(1000), latency(200, 500), read(600)), "late"},
		"read in time":       {judged(0.5, acks(1000), latency(200, 500), read(400)), ""},
	} {
		var codes []string
		for _, m := range test.run.Marks {
			codes = append(codes, m.Code)
		}
		if got := strings.Join(codes, " "); got != test.want {
			t.Errorf("%s: %q; want %q", name, got, test.want)
		}
		marked, of := test.want != "", "latency"
		if len(test.run.Times) > 2 {
			of = commandToAck // and not the latency, which is of no replies to the drivers
			if test.run.marked("latency") {
				t.Errorf("%s: the latency is marked", name)
			}
		}
		if test.run.marked(of) != marked {
			t.Errorf("%s: the %s is marked: %v; want %v", name, of, !marked, marked)
		}
		if test.run.marked("server_cpu_us_per_message") {
			t.Errorf("%s: the server's CPU per message is marked, which does not depend on how fast bench is", name)
		}
	}
}

func TestMarksOfAStarvedMachine(t *testing.T) {
	const second = int64(time.Second)
	waits := func(tenths int64) map[string]thread {
		return map[string]thread{"7": {waited: time.Duration(tenths * second / 10)}}
	}
	start := time.Now()
	for name, test := range map[string]struct {
		ours, server int64 // tenths of a second of two that were measured
		want         []string
	}{
		"well":   {1, 1, nil},
		"bench":  {3, 0, []string{"messages_per_s", "command_to_ack"}},
		"server": {0, 3, []string{"messages_per_s", "command_to_ack", "read_to_line"}},
	} {
		g := &rig{probe: &probe{}, run: &run{Times: []times{{Name: commandToAck, Count: 1}, {Name: readToLine, Count: 1}},
			Figures: []figure{{"messages_per_s", 1, "1/s", "more"}, {"server_cpu_us_per_message", 1, "us", "less"}}}}
		g.meter = meter{pid: os.Getpid(), begun: reading{at: start, ours: waits(50), threads: waits(50)},
			end: reading{at: start.Add(2 * time.Second), ours: waits(50 + test.ours), threads: waits(50 + test.server)}}
		g.judge(false)
		var marked []string
		for _, m := range g.run.Marks {
			if m.Code == "waited" {
				marked = m.Of
			}
		}
		if !slices.Equal(marked, test.want) {
			t.Errorf("%s: %q are marked; want %q", name, marked, test.want)
		}
	}
}

func TestReadThreads(t *testing.T) {
	all, err := readThreads(os.Getpid())
	if err != nil || len(all) == 0 {
		t.Fatalf("%d threads, %v", len(all), err)
	}
	var sum thread
	for _, one := range all {
		sum.voluntary += one.voluntary
		sum.waited += one.waited
	}
	if sum.voluntary == 0 {
		t.Error("none has ever switched")
	}
	if firstLine("/proc/self/schedstat") == "" {
		t.Skip("NOT TESTED here: the kernel has no schedstat")
	}
	if sum.waited == 0 {
		t.Error("none has ever waited")
	}
}

func TestLongestPause(t *testing.T) {
	before := metrics.Float64Histogram{Counts: []uint64{5, 2, 1}, Buckets: []float64{0, 0.001, 0.1, 1}}
	after := metrics.Float64Histogram{Counts: []uint64{9, 3, 1}, Buckets: before.Buckets}
	if got := longestPause(&before, &after); got != 0.001 {
		t.Errorf("%v; want 0.001", got)
	}
	if got := longestPause(&before, &before); got != 0 {
		t.Errorf("%v; want 0", got)
	}
}
