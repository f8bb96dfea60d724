package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

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

// print writes the report as tables: the last run, and of several the summary. What a mark concerns has a star.
func (r *report) print(w io.Writer) error {
	if len(r.Runs) == 0 {
		return nil
	}
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row("bench "+r.Scenario, r.Target)
	t.row("machine", r.Machine.String())
	if r.Server.Version != "" {
		t.row("server", fmt.Sprintf("roverd %s, car: %s", r.Server.Version, r.Server.Car))
	}
	last := r.Runs[len(r.Runs)-1]
	if len(r.Runs) > 1 {
		t.summary(r)
		t.row()
		t.row(fmt.Sprintf("run %d", len(r.Runs)), "as one of them")
	}
	t.run(last)
	return t.Flush()
}

func (m *machine) String() string {
	s := fmt.Sprintf("%s, %d CPUs, GOMAXPROCS %d, %s, %s", cmp.Or(m.Model, "unknown processor"), m.CPUs, m.GOMAXPROCS, m.Kernel, m.Go)
	if m.Governor != "" {
		s += ", governor " + m.Governor
	}
	if m.Hypervisor {
		s += ", virtual"
	}
	return s
}

// summary writes what the runs have come to.
func (t table) summary(r *report) {
	t.row()
	t.row(fmt.Sprintf("of %d runs", len(r.Runs)), "median", "min", "max", "unit")
	for _, s := range r.Summary {
		t.row(spoken(s.Name)+star(s.Marked), number(s.Median), number(s.Min), number(s.Max), s.Unit)
	}
}

func (t table) run(r *run) {
	if c := r.Connections; c != nil {
		rate := 0.
		if c.OpenSeconds > 0 {
			rate = float64(c.Opened) / c.OpenSeconds
		}
		t.row(c.Role+"s", fmt.Sprintf("%d of %d opened in %.2f s (%.0f/s), %d failed, %d lost", c.Opened, c.Wanted, c.OpenSeconds, rate, c.Failed, c.Lost))
		t.counts("  because", c.Reasons)
		if c.BenchBytes > 0 {
			t.row("  memory of bench", fmt.Sprintf("%.0f bytes for each", c.BenchBytes))
		}
		if c.ServerBytes > 0 {
			t.row("  of the server", fmt.Sprintf("%.0f bytes for each", c.ServerBytes))
		}
	}
	t.counts("refused", r.Refusals)
	if r.Seconds > 0 {
		t.row("measured", fmt.Sprintf("%.1f s", r.Seconds))
	}
	for _, f := range r.Figures {
		unit := f.Unit
		if strings.Contains("_"+f.Name+"_", "_"+unit+"_") || unit == "1/s" {
			unit = "" // the name says it
		}
		t.row(spoken(f.Name)+star(r.marked(f.Name)), strings.TrimSpace(number(f.Value)+" "+unit))
	}
	t.times(r)
	t.process(r.Process)
	for _, m := range r.Marks {
		of := "all figures"
		if len(m.Of) > 0 {
			of = spoken(strings.Join(m.Of, ", "))
		}
		t.Flush() // a long line must not widen the columns
		fmt.Fprintf(t, "\n* %s.\n  It concerns %s.\n", m.Text, of)
	}
}

// counts writes what happened how often.
func (t table) counts(name string, counts map[string]int) {
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		t.row(name, fmt.Sprintf("%d: %s", counts[reason], reason))
	}
}

func (t table) times(r *run) {
	if !slices.ContainsFunc(r.Times, func(t times) bool { return t.Count > 0 }) {
		return
	}
	t.row()
	t.row("microseconds", "p50", "p90", "p99", "p99.9", "p99.99", "max", "count")
	for _, l := range r.Times {
		if l.Count > 0 {
			t.row(spoken(l.Name)+star(r.marked(l.Name)), l.P50, l.P90, l.P99, l.P999, l.P9999, l.Max, l.Count)
		}
	}
}

// process writes the looks at the server's process.
func (t table) process(l *looks) {
	if l == nil {
		return
	}
	t.row()
	t.row("server process", "before", "opened", "end")
	show := func(name, format string, of func(p *process) float64) {
		if before, opened, end := of(&l.Before), of(&l.Opened), of(&l.End); before+opened+end > 0 {
			cells := []any{name, fmt.Sprintf(format, before), "-", fmt.Sprintf(format, end)}
			if l.Opened.Resident > 0 { // a scenario may have no crowd to open
				cells[2] = fmt.Sprintf(format, opened)
			}
			t.row(cells...)
		}
	}
	show("resident, MB", "%.1f", func(p *process) float64 { return float64(p.Resident) / 1e6 })
	show("  of it anonymous", "%.1f", func(p *process) float64 { return float64(p.Anonymous) / 1e6 })
	show("CPU time, s", "%.2f", func(p *process) float64 { return p.CPU })
	show("open files", "%.0f", func(p *process) float64 { return float64(p.Files) })
	show("threads", "%.0f", func(p *process) float64 { return float64(p.Threads) })
	show("goroutines", "%.0f", func(p *process) float64 { return float64(p.Goroutines) })
}

// spoken is a name as people read it.
func spoken(name string) string { return strings.ReplaceAll(name, "_", " ") }

func star(marked bool) string {
	if marked {
		return " *"
	}
	return ""
}

// number writes a value with as many digits as it is worth reading.
func number(v float64) string {
	switch {
	case v == math.Trunc(v) || math.Abs(v) >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case math.Abs(v) >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}
