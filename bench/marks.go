package main

import (
	"fmt"
	"runtime/metrics"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	busy     = 0.9   // of a core: a loop has one, so bench has no more to give
	starved  = 0.1   // of the time, waiting for a processor: as much may be missing from a rate
	longGC   = 0.001 // seconds: a pause that is seen in the times
	mostOurs = 0.5   // of a percentile of the times may be bench's own lateness
)

// judge marks what is not to be believed, and says why.
func (g *rig) judge(early bool) {
	r := g.run
	all := g.rates()
	timed := []string{}
	for _, t := range r.Times {
		if t.Name != readToLine { // which the server has measured
			timed = append(timed, t.Name)
		}
	}
	if self, server := g.meter.cores(); self >= busy {
		text := fmt.Sprintf("bench itself used %.2f cores in the measurement", self)
		if g.meter.pid != 0 {
			text += fmt.Sprintf(", the server %.2f", server)
		}
		g.doubt("bench_cpu", text+": the server may be capable of more; ask for less, or give bench a faster processor", append(all, timed...)...)
	}
	if self, server := g.meter.waited(); max(self, server) >= starved {
		text := fmt.Sprintf("in each second of the measurement bench waited %.2f s for a processor, over all its threads", self)
		of := append(all, timed...)
		if g.meter.pid != 0 {
			text += fmt.Sprintf(", the server %.2f s", server)
		}
		if server >= starved && g.run.measured(readToLine).Count > 0 {
			of = append(of, readToLine)
		}
		g.doubt("waited", text+": this machine has more to do than it can; end what else runs on it, or ask for less", of...)
	}
	if name := g.probe.stranger; name != "" {
		g.doubt("pid", fmt.Sprintf("-pid %d (%s) does not listen at %s, so it may not be the server; give the server's own process ID, "+
			"which that of `go run` is not", g.meter.pid, name, g.target.addr), g.processNames()...)
	}
	if g.sharesProcessor() {
		g.doubt("shared_cpu", "bench and the server may use only one processor, the same: each waited for the other; start them "+
			"on one of its own each (taskset)", append(all, timed...)...)
	}
	if pause := longestPause(&g.meter.begun.pauses, &g.meter.end.pauses); pause >= longGC {
		g.doubt("gc", fmt.Sprintf("bench's garbage collection stopped it for up to %.1f ms at a time", pause*1e3), timed...)
	}
	for _, l := range []struct{ name, how string }{{scheduleLateness, "in its own schedule"}, {readingLateness, "to read replies"}} {
		if text, of := r.late(l.name, l.how); len(of) > 0 {
			g.doubt("late", text, of...)
		}
	}
	if c := r.Connections; c != nil && c.Failed+c.Lost > 0 {
		g.doubt("connections", fmt.Sprintf("%d of %d %ss did not open, %d were lost: there was less load than asked for",
			c.Failed, c.Wanted, c.Role, c.Lost))
	}
	for _, lack := range []struct {
		name string
		of   []string
	}{
		{"unanswered", []string{commandToAck, "latency", "connect"}},
		{"skipped", []string{"fan_out"}}, {"incomplete", []string{"fan_out"}}, {"undelivered", []string{"delivery", "age"}},
	} {
		if n := r.value(lack.name); n > 0 {
			of := slices.DeleteFunc(lack.of, func(name string) bool { return !slices.Contains(timed, name) })
			g.doubt(lack.name, fmt.Sprintf("%.0f were %s: their times would be the longest, and are not among the others", n, lack.name), of...)
		}
	}
	if early {
		g.doubt("interrupted", "the run ended early: the figures are of the part that ran")
	}
}

func (g *rig) doubt(code, text string, of ...string) {
	g.run.Marks = append(g.run.Marks, mark{Code: code, Text: text, Of: of})
}

// rates are the names of the figures that bench may have held down.
func (g *rig) rates() (names []string) {
	for _, f := range g.run.Figures {
		if f.Unit == "1/s" && f.Better == "more" {
			names = append(names, f.Name)
		}
	}
	return names
}

// processNames are those of what is known of the server by its process.
func (g *rig) processNames() []string {
	names := []string{"server_process"}
	for _, f := range g.run.Figures {
		if strings.HasPrefix(f.Name, "server_") {
			names = append(names, f.Name)
		}
	}
	return names
}

// value returns a figure of the run, 0 when there is none of that name.
func (r *run) value(name string) float64 {
	for _, f := range r.Figures {
		if f.Name == name {
			return f.Value
		}
	}
	return 0
}

// measured returns times of the run.
func (r *run) measured(name string) (t times) {
	if i := slices.IndexFunc(r.Times, func(t times) bool { return t.Name == name }); i >= 0 {
		t = r.Times[i]
	}
	return t
}

// late compares how late bench was, to send or to read, with the times of which that is a part, and names those of which
// it is a large one.
func (r *run) late(lateness, how string) (text string, of []string) {
	l := r.measured(lateness)
	for _, t := range r.Times {
		if slices.Contains([]string{scheduleLateness, readingLateness, readToLine, slowDropped, handshake}, t.Name) ||
			lateness == readingLateness && t.Name != commandToAck {
			continue
		}
		for _, p := range []struct {
			name      string
			late, all int64
		}{{"p99", l.P99, t.P99}, {"p50", l.P50, t.P50}} {
			if float64(p.late) <= mostOurs*float64(p.all) {
				continue
			}
			if text == "" {
				text = fmt.Sprintf("bench was %d us late %s (%s), which is a large part of the %s of %d us: "+
					"the server was faster than that", p.late, how, p.name, spoken(t.Name), p.all)
			}
			of = append(of, t.Name)
			break
		}
	}
	return text, of
}

// The names of the times that are bench's own: until something was sent, from when it was to be; until a reply was read,
// from when it may have been there.
const (
	scheduleLateness = "schedule_lateness"
	readingLateness  = "reading_lateness"
)

// sharesProcessor tells whether bench and the server have one processor between them.
func (g *rig) sharesProcessor() bool {
	var ours, theirs unix.CPUSet
	if g.meter.pid == 0 || unix.SchedGetaffinity(0, &ours) != nil || unix.SchedGetaffinity(g.meter.pid, &theirs) != nil {
		return false
	}
	return ours.Count() == 1 && ours == theirs
}

// gcPauses reads how long the garbage collector has stopped this program, so far.
func gcPauses() metrics.Float64Histogram {
	s := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindFloat64Histogram {
		return metrics.Float64Histogram{}
	}
	return *s[0].Value.Float64Histogram()
}

// longestPause returns how long the longest pause between two readings was at least, in seconds.
func longestPause(before, after *metrics.Float64Histogram) float64 {
	if len(before.Counts) != len(after.Counts) {
		return 0
	}
	for i := len(after.Counts) - 1; i >= 0; i-- {
		if after.Counts[i] > before.Counts[i] {
			return max(after.Buckets[i], 0)
		}
	}
	return 0
}
