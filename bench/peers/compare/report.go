package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all that was measured, and what it was measured on.
type report struct {
	Started      time.Time     `json:"started"`
	Machine      machine       `json:"machine"`
	Rounds       int           `json:"rounds"`
	Seconds      float64       `json:"measurement_s"`
	Measurements []measurement `json:"measurements"`
	Summary      []summary     `json:"summary"`

	servers, scenarios list
}

// machine is where this ran.
type machine struct {
	CPUs       int    `json:"cpus"`
	Processor  string `json:"processor"`
	Kernel     string `json:"kernel"`
	Congestion string `json:"tcp_congestion_control"`
	Go         string `json:"go"`
}

// summary is what the rounds of one server in one scenario come to.
type summary struct {
	Scenario string `json:"scenario"`
	Server   string `json:"server"`
	Ratio    spread `json:"cpu_over_raw"` // of each round
	CPU      spread `json:"cpu_us_per_message"`
	User     spread `json:"user_us_per_message"`
	Rate     spread `json:"messages_per_s"`
	Switches spread `json:"switches_per_s"`
	Cores    spread `json:"server_cores"`
	Bench    spread `json:"bench_cores"`
	P50      spread `json:"p50_us"`
	P99      spread `json:"p99_us"`
	Bytes    spread `json:"resident_bytes_per_connection"`
	Base     spread `json:"resident_bytes_before"`
	Failed   int    `json:"failed_rounds"`
}

// spread is the middle and the ends of some values.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	Count  int     `json:"count"`
}

func spreadOf(values []float64) spread {
	n := len(values)
	if n == 0 {
		return spread{}
	}
	slices.Sort(values)
	return spread{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1], n}
}

func newReport(o *options) *report {
	return &report{Started: time.Now(), Machine: thisMachine(), Rounds: o.rounds, Seconds: o.length.Seconds(),
		servers: o.servers, scenarios: o.scenarios}
}

func thisMachine() machine {
	return machine{CPUs: runtime.NumCPU(), Processor: processor(), Kernel: line("/proc/sys/kernel/osrelease"),
		Congestion: line("/proc/sys/net/ipv4/tcp_congestion_control"), Go: runtime.Version()}
}

// line reads a file of one line; what can't be read is empty.
func line(file string) string {
	text, _ := os.ReadFile(file)
	return strings.TrimSpace(string(text))
}

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// find returns the measurement of a round, or nil when it failed.
func (r *report) find(round int, scenario, server string) *measurement {
	for i := range r.Measurements {
		m := &r.Measurements[i]
		if m.Round == round && m.Scenario == scenario && m.Server == server && m.Error == "" {
			return m
		}
	}
	return nil
}

func (r *report) summarize(scenario, server string) summary {
	var ratio, cpu, user, rate, switches, cores, bench, p50, p99, bytes, base []float64
	failed := 0
	for _, m := range r.Measurements {
		if m.Scenario == scenario && m.Server == server && m.Error != "" {
			failed++
		}
	}
	for round := 1; round <= r.Rounds; round++ {
		m := r.find(round, scenario, server)
		if m == nil {
			continue
		}
		cpu, user, rate, switches = append(cpu, m.CPU), append(user, m.User), append(rate, m.PerSecond), append(switches, m.Switches)
		cores, bench = append(cores, m.Cores), append(bench, m.Bench)
		p50, p99 = append(p50, float64(m.P50)), append(p99, float64(m.P99))
		bytes, base = append(bytes, float64(m.Bytes)), append(base, float64(m.Base))
		if raw := r.find(round, scenario, "raw"); raw != nil && raw.CPU > 0 {
			ratio = append(ratio, m.CPU/raw.CPU)
		}
	}
	return summary{scenario, server, spreadOf(ratio), spreadOf(cpu), spreadOf(user), spreadOf(rate), spreadOf(switches),
		spreadOf(cores), spreadOf(bench), spreadOf(p50), spreadOf(p99), spreadOf(bytes), spreadOf(base), failed}
}

// print writes the tables: the ratios of all, then the figures of each scenario.
func (r *report) print(w io.Writer) {
	r.Summary = nil
	of := map[[2]string]summary{}
	for _, sc := range r.scenarios {
		for _, server := range r.servers {
			s := r.summarize(sc, server)
			r.Summary = append(r.Summary, s)
			of[[2]string{sc, server}] = s
		}
	}
	m := r.Machine
	fmt.Fprintf(w, "%s, %d CPUs (one for the server, one for the load tool), Linux %s, %s, %s\n",
		m.Processor, m.CPUs, m.Kernel, m.Congestion, m.Go)
	fmt.Fprintf(w, "%d rounds, %v s for each measurement, begun %s\n\n", r.Rounds, r.Seconds, r.Started.Format(time.RFC3339))

	fmt.Fprint(w, "The server's CPU time per message over raw C epoll's in the same round: median (min..max of the rounds).\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "server")
	for _, sc := range r.scenarios {
		if sc == "idle" {
			sc = "bytes per idle connection"
		}
		fmt.Fprint(t, "\t", sc)
	}
	fmt.Fprintln(t)
	for _, server := range r.servers {
		fmt.Fprint(t, server)
		for _, sc := range r.scenarios {
			s := of[[2]string{sc, server}]
			cell := "-"
			switch {
			case sc == "idle" && s.Bytes.Count > 0:
				cell = fmt.Sprintf("%.0f (base %.1f MB)", s.Bytes.Median, s.Base.Median/1e6)
			case s.Ratio.Count > 0 && server == "raw":
				cell = fmt.Sprintf("1 = %.2f us (%.2f..%.2f)", s.CPU.Median, s.CPU.Min, s.CPU.Max)
			case s.Ratio.Count > 0:
				cell = fmt.Sprintf("%.2f (%.2f..%.2f)", s.Ratio.Median, s.Ratio.Min, s.Ratio.Max)
			}
			fmt.Fprint(t, "\t", cell)
		}
		fmt.Fprintln(t)
	}
	t.Flush()

	for _, sc := range scenarios {
		if sc.name == "idle" || !slices.Contains(r.scenarios, sc.name) {
			continue
		}
		took := "latency"
		if sc.broadcast {
			took = "fan-out"
		}
		fmt.Fprintf(w, "\n%s: %s. Medians of the rounds:\n\n", sc.name, sc.what)
		fmt.Fprintf(t, "server\tCPU us\tof it user\tcores\tbench's\tmessages/s\t%s p50 us\tp99 us\tswitches/s\tfailed rounds\n", took)
		for _, server := range r.servers {
			s := of[[2]string{sc.name, server}]
			if s.CPU.Count == 0 {
				fmt.Fprintf(t, "%s\t-\t-\t-\t-\t-\t-\t-\t-\t%d\n", server, s.Failed)
				continue
			}
			user := "-" // too little to tell
			if s.User.Median > 0 {
				user = fmt.Sprintf("%.3f", s.User.Median)
			}
			fmt.Fprintf(t, "%s\t%.3f\t%s\t%.2f\t%.2f\t%.0f\t%.0f\t%.0f\t%.0f\t%d\n",
				server, s.CPU.Median, user, s.Cores.Median, s.Bench.Median, s.Rate.Median, s.P50.Median, s.P99.Median, s.Switches.Median, s.Failed)
		}
		t.Flush()
	}
	r.printFailures(w)
}

func (r *report) printFailures(w io.Writer) {
	title := "\nFailed:\n"
	for _, m := range r.Measurements {
		if m.Error != "" {
			fmt.Fprintf(w, "%s  round %d, %s, %s: %s\n", title, m.Round, m.Scenario, m.Server, m.Error)
			title = ""
		}
	}
}

// write writes the JSON file, if one is wanted.
func (r *report) write(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
