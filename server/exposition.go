package main

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// exposition is what Prometheus reads (its text format, version 0.0.4).
type exposition []byte

const expositionType = "text/plain; version=0.0.4; charset=utf-8"

// metric tells of one; its samples follow.
func (e *exposition) metric(name, kind, help string) {
	*e = append(*e, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+kind+"\n"...)
}

// sample adds one, with its labels as in {cause="ttl"}.
func (e *exposition) sample(name, labels string, value float64) {
	*e = append(append(append(*e, name...), labels...), ' ')
	*e = append(strconv.AppendFloat(*e, value, 'g', -1, 64), '\n')
}

func (e *exposition) gauge(name, help string, value float64) {
	e.metric(name, "gauge", help)
	e.sample(name, "", value)
}

// whether is a gauge that is 1 or 0.
func (e *exposition) whether(name, help string, yes bool) {
	value := 0.0
	if yes {
		value = 1
	}
	e.gauge(name, help, value)
}

func (e *exposition) counter(name, help string, value float64) {
	e.metric(name, "counter", help)
	e.sample(name, "", value)
}

func (e *exposition) tally(name, help, of string, t tally) {
	e.metric(name, "counter", help)
	for _, n := range t.names() {
		e.sample(name, "{"+label(of, n)+"}", float64(t[n].Load()))
	}
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// label is one whatever the value: all that is read with one which is not UTF-8 would be refused.
func label(name, value string) string {
	return name + `="` + labelEscapes.Replace(strings.ToValidUTF8(value, "\ufffd")) + `"`
}

// started is when the process began.
var started = time.Now()

// process adds what Prometheus' client libraries tell of any process, under the names they agree on. What the kernel does
// not say is left out.
func (e *exposition) process() {
	var use unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &use) == nil {
		cpu := time.Duration(use.Utime.Nano() + use.Stime.Nano())
		e.counter("process_cpu_seconds_total", "CPU time of the process, user and system.", cpu.Seconds())
	}
	if pages, ok := residentPages(); ok {
		e.gauge("process_resident_memory_bytes", "Resident memory.", float64(pages*os.Getpagesize()))
	}
	// Since Linux 6.2 the size of this folder is the number of descriptors. To count those of a crowd takes too long.
	var fds unix.Stat_t
	if unix.Stat("/proc/self/fd", &fds) == nil && fds.Size > 0 {
		e.gauge("process_open_fds", "Open file descriptors.", float64(fds.Size))
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		e.gauge("process_max_fds", "How many file descriptors may be open.", float64(limit.Cur))
	}
	// By the clock as it is set now: a Raspberry Pi that starts has yet to hear the time.
	began := time.Now().Add(-time.Since(started))
	e.gauge("process_start_time_seconds", "When the process began, in seconds since 1970.", float64(began.UnixMilli())/1000)
	e.gauge("go_goroutines", "Goroutines.", float64(runtime.NumGoroutine()))
	threads := []metrics.Sample{{Name: "/sched/threads/total:threads"}}
	if metrics.Read(threads); threads[0].Value.Kind() == metrics.KindUint64 {
		e.gauge("go_threads", "Threads.", float64(threads[0].Value.Uint64()))
	}
}

// residentPages is the second field of /proc/self/statm (proc_pid_statm(5)).
func residentPages() (n int, ok bool) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, false
	}
	n, err = strconv.Atoi(fields[1])
	return n, err == nil
}

// expose tells how the server is.
func (s *server) expose() []byte {
	var e exposition
	e.metric("roverd_info", "gauge", "What runs here.")
	e.sample("roverd_info", "{"+label("version", version())+","+label("car", s.where)+"}", 1)
	m := s.publisher.current()
	e.gauge("roverd_viewers", "Clients that are shown the state.", float64(m.Viewers))
	e.gauge("roverd_connections", "Connections that the event loops serve.", float64(s.gate.crowd()))
	e.gauge("roverd_http_connections", "Connections that net/http serves.", float64(s.handover.live.Load()))
	e.whether("roverd_helm_taken", "Whether somebody drives.", m.Driver != "")
	e.whether("roverd_moving", "Whether a motor is on.", m.Motion != motion{})
	e.whether("roverd_estop", "Whether the emergency stop is on.", m.Estop)
	e.whether("roverd_fault", "Whether the lines have failed.", m.Fault != "")
	e.tally("roverd_stops_total", "Stops that nobody asked for, and emergency stops, by cause.", "cause", s.stops)
	e.tally("roverd_commands_total", "Commands that got to the car, by what became of them.", "outcome", s.outcomes)
	e.process()
	return e
}
