package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// section is a plot with the table beside it: either may be missing.
type section struct {
	ID, Title, About string
	chart            *chart
	Head             []string
	Rows             []row
	Notes            []string
}

type row struct {
	Name, About string
	Cells       []cell
}

// cell is a number: the median of the runs and, of several, the ends.
type cell struct {
	Value      float64
	Text, Ends string
	Marked     bool
}

// Exact is the number for programs.
func (c cell) Exact() string { return strconv.FormatFloat(c.Value, 'f', -1, 64) }

// cellOf is of the values of all runs.
func cellOf(values []float64, unit string) cell {
	if len(values) == 0 {
		return cell{Value: math.NaN(), Text: "–"}
	}
	m := median(values)
	return cell{Value: m, Text: quantity(m, unit), Ends: ends(values, unit)}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ends writes how far the values spread, if they do. A unit that both ends have is written once.
func ends(values []float64, unit string) string {
	if len(values) < 2 || slices.Min(values) == slices.Max(values) {
		return ""
	}
	least, most := slices.Min(values), slices.Max(values)
	low, high := quantity(least, unit), quantity(most, unit)
	const number = "-0123456789."
	if suffix := strings.TrimLeft(high, number); suffix == strings.TrimLeft(low, number) {
		low = strings.TrimSuffix(low, suffix)
	}
	return low + " to " + high
}

// draw gives the section a chart.
func (s *section) draw() *chart {
	s.chart = &chart{name: s.ID, title: s.Title, about: s.About}
	return s.chart
}

// sections are all that there is to show of the report.
func (r *report) sections() (all []section) {
	for _, s := range []section{
		r.latency(),
		r.overTime("rate", "Throughput over time", "What the scenario counts, since the look before.", shortName(r.rateColumn())+" a second",
			r.rateColumn()),
		r.overTime("worst", "Longest times over time", "The longest time since the look before: a stall is a peak.",
			"longest, logarithmic", "worst_us"),
		r.overTime("cpu", "Processor over time", "How many cores the server and bench itself kept busy.", "cores in use",
			"server_cores", "bench_cores"),
		r.overTime("memory", "Memory over time", "Resident memory of the server's process and of bench.", "resident",
			"server_resident_bytes", "bench_resident_bytes"),
		r.bytesEach(),
		r.overTime("connections", "Connections over time", "How many are open.", "open", "connections"),
		r.overTime("files", "Open files over time", "Descriptors that the server has open.", "open files", "server_open_files"),
	} {
		if s.chart != nil || len(s.Rows) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// timesNames returns the names of the times that there are, in the order of their worth.
func (r *report) timesNames() (names []string) {
	for _, one := range r.Runs {
		for _, t := range one.Times {
			if t.Count > 0 && !slices.Contains(names, t.Name) {
				names = append(names, t.Name)
			}
		}
	}
	return names
}

// timesOf returns the times of that name of all runs that have them.
func (r *report) timesOf(name string) (all []times) {
	for _, one := range r.Runs {
		for _, t := range one.Times {
			if t.Name == name && t.Count > 0 {
				all = append(all, t)
			}
		}
	}
	return all
}

// percentiles are what a table tells of times; below is the share of the times that are smaller.
var percentiles = []struct {
	name  string
	below float64
	of    func(times) int64
}{
	{"p50", 50, func(t times) int64 { return t.P50 }},
	{"p90", 90, func(t times) int64 { return t.P90 }},
	{"p99", 99, func(t times) int64 { return t.P99 }},
	{"p99.9", 99.9, func(t times) int64 { return t.P999 }},
	{"p99.99", 99.99, func(t times) int64 { return t.P9999 }},
	{"max", 100, func(t times) int64 { return t.Max }},
}

// latency plots the times by percentile, a curve for each run.
func (r *report) latency() section {
	const most = 4 // that can be told apart
	names := r.timesNames()
	s := section{ID: "latency", Title: "Latency by percentile", About: "How much of the time it took at most so long. Each further nine of the " +
		"percentile has as much room as the one before."}
	if len(names) == 0 {
		return section{}
	}
	names = names[:min(most, len(names))]
	c := s.draw()

	count, low, high := int64(0), int64(math.MaxInt64), int64(1)
	for _, name := range names {
		all := r.timesOf(name)
		s.Head = append(s.Head, spoken(name))
		s.Notes = append(s.Notes, spoken(name)+": "+all[0].What)
		for _, t := range all {
			one := curve{name: spoken(name)}
			for _, p := range t.Curve {
				last := 100 * (1 - 1/float64(t.Count)) // more than that is of no time
				one.dots = append(one.dots, dot{x: min(p.Percentile, last), y: float64(max(p.Micros, 1))})
			}
			c.curves = append(c.curves, one)
			count, low, high = max(count, t.Count), min(low, max(t.Min, 1)), max(high, t.Max)
		}
	}
	c.x = tail("percentile", count)
	c.y = logarithmic("time, logarithmic", "us", float64(low), float64(high))

	counts := row{Name: "count"}
	for _, name := range names {
		counts.Cells = append(counts.Cells, r.timesCell(name, "", func(t times) int64 { return t.Count }))
	}
	for _, p := range percentiles {
		line, text := row{Name: p.name}, p.name
		for _, name := range names {
			one := r.timesCell(name, "us", p.of)
			line.Cells = append(line.Cells, one)
			text += "\n" + spoken(name) + " " + one.Text
		}
		s.Rows = append(s.Rows, line)
		if p.below == 100 || (1-p.below/100)*float64(count) > 1 {
			c.tips = append(c.tips, tip{p.below, text})
		}
	}
	s.Rows = append(s.Rows, counts)
	return s
}

// timesCell is of one number of the times of that name.
func (r *report) timesCell(name, unit string, of func(times) int64) cell {
	var values []float64
	for _, t := range r.timesOf(name) {
		values = append(values, float64(of(t)))
	}
	c := cellOf(values, unit)
	c.Marked = slices.ContainsFunc(r.Runs, func(one *run) bool { return one.marked(name) })
	return c
}

// tables are the figures that have no plot.
func (r *report) tables() (all []section) {
	for _, s := range []section{r.figures(), r.crowd(), r.process()} {
		if len(s.Rows) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// figures is the whole summary.
func (r *report) figures() section {
	s := section{ID: "figures", Title: "All figures", Head: []string{"value"}}
	if len(r.Runs) > 1 {
		s.Head[0] = "median, and from least to most"
	}
	for _, one := range r.Summary {
		line := row{Name: spoken(one.Name), Cells: []cell{one.cell()}}
		if one.Better != "" {
			line.About = one.Better + " is better"
		}
		s.Rows = append(s.Rows, line)
	}
	return s
}

// crowd is what became of the connections.
func (r *report) crowd() section {
	s := section{ID: "crowd", Title: "Connections", Head: []string{""}}
	for _, f := range []struct {
		name, unit string
		of         func(*connections) float64
	}{
		{"wanted", "", func(c *connections) float64 { return float64(c.Wanted) }},
		{"opened", "", func(c *connections) float64 { return float64(c.Opened) }},
		{"failed", "", func(c *connections) float64 { return float64(c.Failed) }},
		{"lost", "", func(c *connections) float64 { return float64(c.Lost) }},
		{"until all were open", "s", func(c *connections) float64 { return c.OpenSeconds }},
		{"of the server's memory, each", "bytes", func(c *connections) float64 { return c.ServerBytes }},
		{"of bench's memory, each", "bytes", func(c *connections) float64 { return c.BenchBytes }},
	} {
		var values []float64
		for _, one := range r.Runs {
			if one.Connections != nil {
				values = append(values, f.of(one.Connections))
			}
		}
		if len(values) > 0 {
			s.Rows = append(s.Rows, row{Name: f.name, Cells: []cell{cellOf(values, f.unit)}})
		}
	}
	if len(s.Rows) > 0 && len(r.Runs) > 1 {
		s.Notes = append(s.Notes, "The first run tells of the memory: later ones use again what the processes have kept.")
	}
	for _, one := range r.Runs {
		if one.Connections == nil {
			continue
		}
		s.Head[0] = one.Connections.Role + "s"
		for _, reason := range slices.Sorted(maps.Keys(one.Connections.Reasons)) {
			s.Notes = append(s.Notes, fmt.Sprintf("%d: %s", one.Connections.Reasons[reason], reason))
		}
	}
	return s
}

// process is the looks at the server.
func (r *report) process() section {
	s := section{ID: "process", Title: "The server's process", Head: []string{"before", "all open", "end"}}
	for _, f := range []struct {
		name, unit string
		of         func(process) float64
	}{
		{"resident memory", "bytes", func(p process) float64 { return float64(p.Resident) }},
		{"anonymous memory", "bytes", func(p process) float64 { return float64(p.Anonymous) }},
		{"open files", "", func(p process) float64 { return float64(p.Files) }},
		{"threads", "", func(p process) float64 { return float64(p.Threads) }},
		{"goroutines", "", func(p process) float64 { return float64(p.Goroutines) }},
		{"processor time", "s", func(p process) float64 { return p.CPU }},
	} {
		var before, opened, end []float64
		for _, one := range r.Runs {
			p := one.Process
			if p == nil {
				continue
			}
			before, end = append(before, f.of(p.Before)), append(end, f.of(p.End))
			if p.Opened != (process{}) { // a scenario without a crowd has no such moment
				opened = append(opened, f.of(p.Opened))
			}
		}
		if len(end) > 0 && slices.Max(end) > 0 {
			s.Rows = append(s.Rows, row{Name: f.name, Cells: []cell{cellOf(before, f.unit), cellOf(opened, f.unit), cellOf(end, f.unit)}})
		}
	}
	return s
}
