package main

import (
	"fmt"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// meter measures what processor time the server and bench itself use in a stretch of time.
type meter struct {
	pid        int // of the server; 0 is unknown
	begun, end reading
}

// reading is one look at the clocks.
type reading struct {
	at           time.Time
	self         time.Duration // of bench
	server       time.Duration
	user, system int64             // ticks of the server
	threads      map[string]thread // of the server
	ours         map[string]thread
	pauses       metrics.Float64Histogram // of bench, for its garbage collector
}

// thread is what the kernel has counted of one since its start.
type thread struct {
	voluntary, involuntary int64         // context switches
	waited                 time.Duration // for a processor, ready to run
}

// read takes a look. It is short, so it may run on a loop's goroutine.
func (m *meter) read() (r reading, err error) {
	r.at = time.Now()
	r.pauses = gcPauses()
	if r.ours, err = readThreads(os.Getpid()); err != nil {
		return r, err
	}
	if r.self, err = processorTime(unix.CLOCK_PROCESS_CPUTIME_ID); err != nil || m.pid == 0 {
		return r, err
	}
	if r.server, err = serverTime(m.pid); err != nil {
		return r, err
	}
	if r.user, r.system, err = readTicks(m.pid); err != nil {
		return r, err
	}
	r.threads, err = readThreads(m.pid)
	return r, err
}

// serverTime is what a process has computed. Its clock is its threads' nanoseconds (those of schedstat), with threads
// that have ended; its number is computed as glibc's clock_getcpuclockid does.
func serverTime(pid int) (time.Duration, error) {
	const sched = 2
	t, err := processorTime(int32(^pid<<3 | sched))
	if err != nil {
		return 0, fmt.Errorf("-pid %d: no such process: %w", pid, err)
	}
	return t, nil
}

func processorTime(clock int32) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// readThreads reads what the kernel counts of a process's threads: their context switches (proc_pid_status(5)), and how
// long they have waited (schedstat, the second number: the kernel's scheduler/sched-stats.rst). It does so of each by
// itself only, so what a thread did that has ended is lost.
func readThreads(pid int) (map[string]thread, error) {
	dir := fmt.Sprintf("/proc/%d/task/", pid)
	threads, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("-pid %d: no such process: %w", pid, err)
	}
	all := make(map[string]thread, len(threads))
	for _, entry := range threads {
		status, err := os.ReadFile(dir + entry.Name() + "/status")
		if err != nil {
			continue // it has just ended
		}
		var s thread
		for line := range strings.Lines(string(status)) {
			name, value, _ := strings.Cut(line, ":")
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			switch name {
			case "voluntary_ctxt_switches":
				s.voluntary = n
			case "nonvoluntary_ctxt_switches":
				s.involuntary = n
			}
		}
		if fields := strings.Fields(firstLine(dir + entry.Name() + "/schedstat")); len(fields) > 1 {
			ns, _ := strconv.ParseInt(fields[1], 10, 64)
			s.waited = time.Duration(ns)
		}
		all[entry.Name()] = s
	}
	return all, nil
}

// cores returns how many processors bench and the server used in the measurement.
func (m *meter) cores() (self, server float64) {
	s := m.seconds()
	if s == 0 {
		return 0, 0
	}
	return (m.end.self - m.begun.self).Seconds() / s, (m.end.server - m.begun.server).Seconds() / s
}

// waited returns how many threads of bench and of the server, on average over the measurement, waited for a processor.
func (m *meter) waited() (self, server float64) {
	s := m.seconds()
	if s == 0 {
		return 0, 0
	}
	sum := func(before, after map[string]thread) (waited time.Duration) {
		for id, now := range after {
			waited += now.waited - before[id].waited
		}
		return waited
	}
	return sum(m.begun.ours, m.end.ours).Seconds() / s, sum(m.begun.threads, m.end.threads).Seconds() / s
}

// seconds returns how long was measured.
func (m *meter) seconds() float64 {
	if m.begun.at.IsZero() || m.end.at.IsZero() {
		return 0
	}
	return m.end.at.Sub(m.begun.at).Seconds()
}

// cost writes what so many messages (or whatever they are called, one and many) of the measurement took.
func (g *rig) cost(count int64, one, many string) {
	m := &g.meter
	if m.begun.at.IsZero() {
		return
	}
	if m.end.at.IsZero() { // the run was interrupted
		end, err := m.read()
		if err != nil {
			m.pid = 0 // the server is gone
			end = reading{at: time.Now(), self: end.self}
		}
		m.end = end
	}
	seconds := m.seconds()
	g.figure(many+"_per_s", float64(count)/seconds, "1/s", "more")
	self, server := m.cores()
	switch {
	case m.pid != 0:
		g.processCost(count, one)
	case g.probe.source == "metrics": // as of the looks that fall into the measurement
		at, cores := g.series.between("server_cores", m.begun.at.Sub(g.began).Seconds(), m.end.at.Sub(g.began).Seconds())
		for i := 1; i < len(at); i++ {
			server += cores[i] * (at[i] - at[i-1]) / (at[len(at)-1] - at[0])
		}
		if count > 0 {
			g.figure("server_cpu_us_per_"+one, server*seconds*1e6/float64(count), "us", "less")
		}
		g.figure("server_cores", server, "cores", "")
	}
	g.figure("bench_cores", self, "cores", "") // near 1 it is what limits the rate: see judge
}

// processCost is the part of the server's process.
func (g *rig) processCost(count int64, one string) {
	const fewTicks = 20 // the kernel counts user and system time in ticks: fewer do not show how they relate
	m := &g.meter
	if used := m.end.server - m.begun.server; count > 0 {
		each := used.Seconds() * 1e6 / float64(count)
		g.figure("server_cpu_us_per_"+one, each, "us", "less")
		user, system := m.end.user-m.begun.user, m.end.system-m.begun.system
		if sum := user + system; sum >= fewTicks {
			g.figure("server_user_us_per_"+one, each*float64(user)/float64(sum), "us", "less")
			g.figure("server_system_us_per_"+one, each*float64(system)/float64(sum), "us", "less")
		}
	}
	_, cores := m.cores()
	g.figure("server_cores", cores, "cores", "")
	voluntary, involuntary := 0., 0.
	for id, now := range m.end.threads {
		before := m.begun.threads[id]
		voluntary += float64(now.voluntary - before.voluntary)
		involuntary += float64(now.involuntary - before.involuntary)
	}
	g.figure("server_voluntary_switches_per_s", voluntary/m.seconds(), "1/s", "less")
	g.figure("server_involuntary_switches_per_s", involuntary/m.seconds(), "1/s", "less")
}
