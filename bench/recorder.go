package main

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lookEvery = 250 * time.Millisecond
	mostLooks = 2400
)

// recorder looks at a run as it goes, a few times a second: the time series, and the progress bar.
type recorder struct {
	// Fixed by newRecorder.
	began    time.Time
	interval time.Duration
	counts   string // what count counts, as in messages_per_s
	probe    *probe
	bar      *progress
	quit     chan struct{}
	done     chan struct{}
	once     sync.Once

	// Written by the loops.
	connections atomic.Int64 // that are open
	count       atomic.Int64 // of what the scenario counts, as messages
	worst       atomic.Int64 // the longest time since the last look, in nanoseconds

	mu     sync.Mutex
	phases []stretch

	// Owned by the recorder's goroutine, and by everybody after stop.
	series  series
	columns map[string]int // where each is in the series
	last    glance
	seen    time.Time // when the server was, last
	server  float64   // its CPU seconds then
}

// glance is what is seen at one moment and turned into rates.
type glance struct {
	at    time.Time
	count int64
	self  float64 // CPU seconds
}

func newRecorder(sc *scenario, p *probe, o *options, bar *progress) *recorder {
	r := &recorder{began: time.Now(), interval: max(lookEvery, o.timeout/mostLooks), counts: sc.counts, probe: p, bar: bar,
		quit: make(chan struct{}), done: make(chan struct{}), columns: map[string]int{}}
	r.series.At, r.series.Columns = []float64{}, []column{}
	bar.begin(o.planned())
	r.look() // the first, before there is any load
	go r.run()
	return r
}

func (r *recorder) run() {
	defer close(r.done)
	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	for {
		select {
		case <-r.quit:
			return
		case <-tick.C:
			r.look()
		}
	}
}

// stop takes the last look.
func (r *recorder) stop() {
	r.once.Do(func() {
		close(r.quit)
		<-r.done
		r.look()
		r.phase("")
		r.mu.Lock() // a loop may still be about to begin one
		r.series.Phases = slices.Clone(r.phases)
		r.mu.Unlock()
		r.bar.clear()
	})
}

// phase begins one of the run, which ends the one before; "" begins none. Any goroutine may call it.
func (r *recorder) phase(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Since(r.began).Seconds()
	if n := len(r.phases); n > 0 && r.phases[n-1].To == 0 {
		r.phases[n-1].To = now
	}
	if name != "" {
		r.phases = append(r.phases, stretch{Name: name, From: now})
	}
}

// note counts one of what is called that, if it is what the scenario counts, and how long it took.
func (r *recorder) note(what string, took time.Duration) {
	if what != r.counts {
		return
	}
	r.count.Add(1)
	r.took(took)
}

// took tells of one of the first of the run's times, apart from what is counted.
func (r *recorder) took(took time.Duration) {
	if int64(took) > r.worst.Load() {
		r.worst.Store(int64(took))
	}
}

// look adds a row to the series.
func (r *recorder) look() {
	now := glance{at: time.Now(), count: r.count.Load()}
	self, _ := processorTime(unix.CLOCK_PROCESS_CPUTIME_ID)
	now.self = self.Seconds()

	r.series.At = append(r.series.At, now.at.Sub(r.began).Seconds())
	rate := func(now, before float64, at, since time.Time) float64 {
		if since.IsZero() || !at.After(since) {
			return 0
		}
		return (now - before) / at.Sub(since).Seconds()
	}
	perSecond := rate(float64(now.count), float64(r.last.count), now.at, r.last.at)
	open := r.connections.Load()
	r.put("connections", "", float64(open))
	r.put(r.counts+"_per_s", "1/s", perSecond)
	r.put("worst_us", "us", float64(r.worst.Swap(0)/1000))
	r.put("bench_cores", "cores", rate(now.self, r.last.self, now.at, r.last.at))
	resident, _ := memorySelf()
	r.put("bench_resident_bytes", "bytes", float64(resident))
	if server, at := r.probe.glance(); at.After(r.seen) { // else what it was
		r.put("server_cores", "cores", rate(server.CPU, r.server, at, r.seen))
		r.seen, r.server = at, server.CPU
		r.put("server_resident_bytes", "bytes", float64(server.Resident))
		r.put("server_open_files", "", float64(server.Files))
	}
	r.pad()
	r.last = now
	r.bar.show(open, perSecond, r.counts)
}

// put adds a value to a column. One that begins late, as of a server that did not answer before, was 0 until then.
func (r *recorder) put(name, unit string, value float64) {
	i, ok := r.columns[name]
	if !ok {
		i = len(r.series.Columns)
		r.columns[name] = i
		r.series.Columns = append(r.series.Columns, column{Name: name, Unit: unit, Values: make([]float64, len(r.series.At)-1)})
	}
	r.series.Columns[i].Values = append(r.series.Columns[i].Values, value)
}

// pad gives the columns that got nothing in this row what they had in the one before.
func (r *recorder) pad() {
	for i := range r.series.Columns {
		if c := &r.series.Columns[i]; len(c.Values) < len(r.series.At) {
			c.Values = append(c.Values, c.Values[len(c.Values)-1])
		}
	}
}

// between returns what a column had from one time of the run to another, and when.
func (s *series) between(name string, from, to float64) (at, values []float64) {
	for _, c := range s.Columns {
		if c.Name != name {
			continue
		}
		for i, t := range s.At {
			if from <= t && t <= to {
				at, values = append(at, t), append(values, c.Values[i])
			}
		}
	}
	return at, values
}

// stretch returns a phase.
func (s *series) stretch(name string) (found stretch) {
	for _, p := range s.Phases {
		if p.Name == name {
			found = p
		}
	}
	return found
}
