package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sample is a report of echo as it may be; factor is how slow its server is.
func sample(runs int, factor float64) *report {
	r := &report{Schema: schema, Scenario: "echo", Target: "ws://127.0.0.1:9900/echo",
		Settings: map[string]string{"n": "10000", "d": "5s", "raw": "false", "size": "64"},
		Started:  time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC),
		Machine: machine{Model: "Fictional CPU", CPUs: 2, GOMAXPROCS: 2, Hypervisor: true, Memory: 24 << 30, Kernel: "Linux 6.18", Go: "go1.26.8",
			Files: [2]uint64{20000, 20000}, Sysctls: map[string]string{"net.core.somaxconn": "4096"}},
		Server: server{Version: "1234567", Car: "simulated", PID: 42, Source: "proc"}}
	for i := range runs {
		r.Runs = append(r.Runs, sampleRun(r.Started.Add(time.Duration(i)*9*time.Second), factor*(1+0.01*float64(i))))
	}
	r.summarize()
	return r
}

func sampleRun(started time.Time, factor float64) *run {
	const n, step, seconds = 10_000, 0.25, 8.5
	base := process{Resident: 8e6, Anonymous: 3e6, Threads: 8, Files: 12, Goroutines: 11, CPU: 0.1}
	full := process{Resident: 8e6 + 212*n, Anonymous: 3e6 + 212*n, Threads: 8, Files: 12 + n, Goroutines: 11, CPU: 0.8}
	one := &run{Started: started, Seconds: 5,
		Connections: &connections{Role: "connection", Wanted: n, Opened: n, OpenSeconds: 2, BenchBytes: 400, ServerBytes: 212},
		Process:     &looks{base, full, full},
		Series: series{Phases: []stretch{{"open", 0, 2}, {"warmup", 2, 3}, {"measure", 3, 8}, {"end", 8, 8.5}},
			Columns: []column{{Name: "connections"}, {Name: "messages_per_s", Unit: "1/s"}, {Name: "server_cores", Unit: "cores"},
				{Name: "bench_cores", Unit: "cores"}, {Name: "server_resident_bytes", Unit: "bytes"},
				{Name: "bench_resident_bytes", Unit: "bytes"}, {Name: "worst_us", Unit: "us"}}}}
	add := func(i int, v float64) { one.Series.Columns[i].Values = append(one.Series.Columns[i].Values, v) }
	for at := 0.; at <= seconds; at += step {
		one.Series.At = append(one.Series.At, at)
		open := min(at*5000, n)
		rate, cores, worst := 0., 0.3, 0.
		if at > 2 && at <= 8 {
			rate, cores, worst = 300e3/factor*(1+0.03*math.Sin(3*at)), 0.99, 12e3*factor*(2+math.Sin(5*at))
		}
		for i, v := range []float64{open, rate, cores, 0.9 * cores, 8e6 + 212*open, 9e6 + 400*open, worst} {
			add(i, v)
		}
	}
	one.Figures = []figure{{"messages_per_s", 300e3 / factor, "1/s", "more"}, {"cpu_us_per_message", 3.3 * factor, "us", "less"},
		{"server_cores", 0.99, "cores", ""}, {"unanswered", 0, "", "less"}}
	one.Times = []times{sampleTimes("latency", "from the reading of the reply before to that of the reply", 3150*factor, 1_500_000),
		sampleTimes("handshake", "from the dialling to the server's 101", 900*factor, n)}
	return one
}

func sampleTimes(name, what string, middle float64, count int64) times {
	at := func(percentile float64) int64 {
		return int64(middle * (0.4 + 0.6*math.Pow(-math.Log2(max(1-percentile/100, 1/float64(count))), 0.6)))
	}
	t := times{Name: name, What: what, Count: count, Mean: middle, Min: at(0), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9),
		P9999: at(99.99), Max: at(100)}
	for rest := 1.; rest*float64(count) >= 1; rest *= 0.8 {
		p := 100 * (1 - rest)
		t.Curve = append(t.Curve, point{p, at(p)})
	}
	t.Curve = append(t.Curve, point{100, t.Max})
	return t
}

func pageOf(t *testing.T, r *report) string {
	t.Helper()
	var text strings.Builder
	if err := r.writePage(&text); err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("BENCH_PAGES"); dir != "" { // to look at them
		name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
		if err := os.WriteFile(filepath.Join(dir, name+".html"), []byte(text.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
	return text.String()
}

var dataValue = regexp.MustCompile(`<data value="([^"]*)">`)

// numbers returns the exact numbers on a page.
func numbers(t *testing.T, page string) (values []float64) {
	t.Helper()
	for _, match := range dataValue.FindAllStringSubmatch(page, -1) {
		v, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			t.Error(err)
		}
		values = append(values, v)
	}
	return values
}

var (
	plots    = regexp.MustCompile(`(?s)<svg class="plot".*?</svg>`)
	outwards = regexp.MustCompile(`(?i)<script|<link rel="?stylesheet|@import|url\(|(src|href)="[^d#]`)
)

func TestPage(t *testing.T) {
	long := sample(1, 1)
	long.Scenario = "soak"
	for name, columns := 0, long.Runs[0].Series.Columns; name < len(columns); name++ {
		for i := range 2000 {
			if name == 0 {
				long.Runs[0].Series.At = append(long.Runs[0].Series.At, 8.5+float64(i)*7)
			}
			columns[name].Values = append(columns[name].Values, columns[name].Values[20]*(1+float64(i%100)/1000))
		}
	}
	long.Runs[0].Series.Phases[2].To = 14008
	unknown := sample(1, 1) // of which nothing is known
	unknown.Server, unknown.Runs[0].Process = server{}, nil
	unknown.Runs[0].Series.Columns = slices.DeleteFunc(unknown.Runs[0].Series.Columns, func(c column) bool {
		return strings.HasPrefix(c.Name, "server_")
	})
	for name, test := range map[string]struct {
		report *report
		plots  []string
		texts  []string
	}{
		"one run": {sample(1, 1), []string{"latency", "rate", "worst", "cpu", "memory", "bytes"},
			[]string{"bench echo -d 5s -n 10000 -size 64 ws://127.0.0.1:9900/echo</code>", "roverd 1234567", "Fictional CPU", "4096", "1 run"}},
		"five runs": {sample(5, 1), []string{"latency", "rate", "worst", "cpu", "memory", "bytes"},
			[]string{"-repeat 5 ws://", "5 runs", "288 to 300k/s", "Of the first run"}},
		"long":    {long, []string{"latency", "rate", "worst", "cpu", "memory", "bytes", "connections"}, []string{"bench soak"}},
		"unknown": {unknown, []string{"latency", "rate", "worst", "cpu", "memory", "bytes"}, []string{"bench echo"}},
		"failed": {&report{Schema: schema, Scenario: "idle", Target: "ws://127.0.0.1:1/?a=<b>&c", Error: "connection refused"}, nil,
			[]string{"connection refused", "0 runs", "&lt;b&gt;"}},
		"run without figures": {&report{Schema: schema, Scenario: "idle", Runs: []*run{{Error: "lost"}}}, nil, []string{"lost"}},
	} {
		t.Run(name, func(t *testing.T) {
			page := pageOf(t, test.report)
			drawn := plots.FindAllString(page, -1)
			for _, plot := range drawn {
				checkPlot(t, plot)
			}
			if len(drawn) < len(test.plots) || test.plots == nil && len(drawn) > 0 {
				t.Errorf("%d plots; want %q", len(drawn), test.plots)
			}
			for _, id := range test.plots {
				if !strings.Contains(page, `aria-labelledby="`+id+`-title"`) {
					t.Errorf("no plot of %s", id)
				}
			}
			for _, text := range test.texts {
				if !strings.Contains(page, text) {
					t.Errorf("it does not say %q", text)
				}
			}
			if out := outwards.FindAllString(page, -1); len(out) > 0 {
				t.Errorf("it needs something else: %q", out)
			}
			if size := len(page); size > 400_000 {
				t.Errorf("it has %d bytes", size)
			}
			values := numbers(t, page)
			for _, s := range test.report.Summary {
				if !slices.Contains(values, s.Median) {
					t.Errorf("%s, %v, is not on the page", s.Name, s.Median)
				}
			}
		})
	}
}

// TestPageDoubts checks that each doubt is told once, and each figure it concerns has its mark.
func TestPageDoubts(t *testing.T) {
	r := sample(3, 1)
	for _, one := range r.Runs[1:] {
		one.Marks = []mark{{Text: "bench used up its processor", Of: []string{"messages_per_s", "latency"}}}
	}
	r.summarize()
	page := pageOf(t, r)
	for text, want := range map[string]int{
		"Run 2, 3: bench used up its processor. It concerns messages per s, latency.": 1,
		"bench used up":       1,
		`<b class="marked">`:  4,  // large: messages per s, three of the latency
		`<td class="marked">`: 12, // all figures: messages per s, four of the latency; its column of seven
		"<span>unanswered":    0,  // is none, and no news
	} {
		if n := strings.Count(page, text); n != want {
			t.Errorf("%d times %q; want %d", n, text, want)
		}
	}
}

// TestPageOverTime checks what a plot over time is made of.
func TestPageOverTime(t *testing.T) {
	r := sample(2, 1)
	s := r.overTime("rate", "Throughput", "", "a second", r.rateColumn())
	if len(s.chart.curves) != 2 || s.chart.curves[1].dots[0].x != 9 {
		t.Fatalf("curves of two runs, 9 s apart: %+v", s.chart.curves)
	}
	if want := []stretch{{From: 3, To: 8}, {From: 12, To: 17}}; !slices.Equal(s.chart.measured, want) {
		t.Errorf("measured %v; want %v", s.chart.measured, want)
	}
	series := &r.Runs[0].Series
	n := len(series.At)
	series.At[n-1] = series.At[n-2] + 0.01
	if dots := r.overTime("rate", "Throughput", "", "a second", r.rateColumn()).chart.curves[0].dots; len(dots) != n-1 {
		t.Errorf("%d dots; want the look at the end left out of %d", len(dots), n)
	}
	lowest := s.Rows[1].Cells[0]
	if lowest.Value < 280e3/1.01 || lowest.Value > 300e3 {
		t.Errorf("the lowest, %v, is of the warm-up", lowest.Value)
	}
	if s := r.overTime("connections", "", "", "", "connections"); s.chart != nil {
		t.Error("connections that do not change are plotted")
	}
	if s := r.overTime("files", "", "", "", "server_open_files"); s.chart != nil {
		t.Error("a column that is not there is plotted")
	}
	dots := r.bytesEach().chart.curves[0].dots
	if last := dots[len(dots)-1]; last.x != 10_000 || math.Round(last.y) != 212 {
		t.Errorf("bytes of each: %v", dots)
	}
}

func TestMerge(t *testing.T) {
	c := column{Values: []float64{1, 2, 3, 4, 5}}
	if got, want := fmt.Sprint(merge([]float64{0, 1, 2, 3, 4}, c, 3)), "[{0.5 1.5 1 2} {2.5 3.5 3 4} {4 5 5 5}]"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	c.Unit = "us" // of which the longest counts, and 0 is none
	if got, want := fmt.Sprint(merge([]float64{0, 1, 2, 3, 4}, c, 2)), "[{1 3 3 3} {3.5 5 5 5}]"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
	if dots := merge([]float64{0, 1}, column{Unit: "us", Values: []float64{0, 7}}, 9); !math.IsNaN(dots[0].y) || dots[1].y != 7 {
		t.Errorf("no time and 7 us: %v", dots)
	}
}

func save(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestHTMLFlag(t *testing.T) {
	var stdout, stderr strings.Builder
	if code := program(t.Context(), []string{"idle", "-html", "/nowhere/page.html", "ws://127.0.0.1:9/"}, &stdout, &stderr); code != 2 ||
		!strings.Contains(stderr.String(), "-html: open /nowhere/page.html") {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
	file := filepath.Join(t.TempDir(), "page.html")
	f := &fake{}
	r := runBench(t, t.Context(), "idle", "-n", "5", "-hold", "0s", "-html", file, f.serve(t))
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	values := numbers(t, string(page))
	for _, s := range r.report.Summary {
		if !slices.Contains(values, s.Median) {
			t.Errorf("%s, %v, is not on the page", s.Name, s.Median)
		}
	}
	if len(r.report.Summary) == 0 || strings.Contains(string(page), file) {
		t.Errorf("figures: %+v; the page names itself: %v", r.report.Summary, strings.Contains(string(page), file))
	}
}
