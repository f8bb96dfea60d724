package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
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
	user, system int64 // ticks of the server
	threads      map[string]switches
}

// switches are a thread's context switches since its start.
type switches struct{ voluntary, involuntary int64 }

// read takes a look. It is short, so it may run on a loop's goroutine.
func (m *meter) read() (r reading, err error) {
	r.at = time.Now()
	if r.self, err = processorTime(unix.CLOCK_PROCESS_CPUTIME_ID); err != nil || m.pid == 0 {
		return r, err
	}
	// The clock of a process is its threads' nanoseconds (those of schedstat), with threads that have ended; its
	// number is computed as glibc's clock_getcpuclockid does.
	const sched = 2
	if r.server, err = processorTime(int32(^m.pid<<3 | sched)); err != nil {
		return r, fmt.Errorf("-pid %d: no such process: %w", m.pid, err)
	}
	if r.user, r.system, err = readTicks(m.pid); err != nil {
		return r, err
	}
	r.threads, err = readSwitches(m.pid)
	return r, err
}

func processorTime(clock int32) (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// readSwitches reads the context switches of a process's threads (proc_pid_status(5)). What the server's threads do
// one by one is in there only, so those of a thread that ends are lost.
func readSwitches(pid int) (map[string]switches, error) {
	dir := fmt.Sprintf("/proc/%d/task/", pid)
	threads, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("-pid %d: no such process: %w", pid, err)
	}
	all := make(map[string]switches, len(threads))
	for _, thread := range threads {
		status, err := os.ReadFile(dir + thread.Name() + "/status")
		if err != nil {
			continue // it has just ended
		}
		var s switches
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
		all[thread.Name()] = s
	}
	return all, nil
}

// cost is what the messages (or deliveries) of the measurement took.
type cost struct {
	Seconds   float64     `json:"measured_s"`
	Messages  int64       `json:"messages"`
	PerSecond float64     `json:"messages_per_s"`
	Load      float64     `json:"bench_cores"` // used by bench itself; near its GOMAXPROCS it is what limits the rate
	Server    *serverCost `json:"server_process,omitempty"`
}

// serverCost is the server's part of it.
type serverCost struct {
	PID         int     `json:"pid"`
	Cores       float64 `json:"cores"`
	PerMessage  float64 `json:"cpu_us_per_message"`
	User        float64 `json:"user_us_per_message,omitempty"` // 0 when the time was too short to tell
	System      float64 `json:"system_us_per_message,omitempty"`
	Voluntary   float64 `json:"voluntary_switches_per_s"`
	Involuntary float64 `json:"involuntary_switches_per_s"`
}

// cost tells what lies between begun and end, or now if the run was interrupted before that.
func (m *meter) cost(messages int64) cost {
	if m.begun.at.IsZero() {
		return cost{}
	}
	pid := m.pid
	if m.end.at.IsZero() {
		var err error
		if m.end, err = m.read(); err != nil {
			pid = 0 // the server is gone
		}
	}
	const fewTicks = 20 // the kernel counts user and system time in ticks: fewer do not show how they relate
	seconds := m.end.at.Sub(m.begun.at).Seconds()
	c := cost{Seconds: seconds, Messages: messages, PerSecond: float64(messages) / seconds,
		Load: (m.end.self - m.begun.self).Seconds() / seconds}
	if pid == 0 || messages == 0 {
		return c
	}
	used := m.end.server - m.begun.server
	s := &serverCost{PID: pid, Cores: used.Seconds() / seconds, PerMessage: float64(used) / 1e3 / float64(messages)}
	user, system := m.end.user-m.begun.user, m.end.system-m.begun.system
	if sum := user + system; sum >= fewTicks {
		s.User = s.PerMessage * float64(user) / float64(sum)
		s.System = s.PerMessage * float64(system) / float64(sum)
	}
	for id, now := range m.end.threads {
		before := m.begun.threads[id]
		s.Voluntary += float64(now.voluntary-before.voluntary) / seconds
		s.Involuntary += float64(now.involuntary-before.involuntary) / seconds
	}
	c.Server = s
	return c
}

// checkPID returns a usage error unless the process is there.
func checkPID(pid int) error {
	if pid == 0 {
		return nil
	}
	if err := unix.Kill(pid, 0); err != nil && err != syscall.EPERM {
		return usage("-pid %d: no such process: %w", pid, err)
	}
	return nil
}
