package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// health is what roverd's GET /healthz tells of itself.
type health struct {
	Car        string `json:"car"`
	Version    string `json:"version"`
	Goroutines int    `json:"goroutines,omitempty"`
}

// health asks the server; the zero health is of a server that does not say, or that speaks no HTTP.
func (t *target) health(ctx context.Context) (h health) {
	if t.raw > 0 {
		return health{}
	}
	const patience = 2 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	web := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", t.addr.String())
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.host+"/healthz", nil)
	if err != nil {
		return health{}
	}
	res, err := web.Do(req)
	if err != nil {
		return health{}
	}
	defer res.Body.Close()
	if json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&h) != nil {
		return health{}
	}
	return h
}

// process is what the server's process uses at one moment (proc_pid_status(5), proc_pid_stat(5)).
type process struct {
	Resident   int64   `json:"resident_bytes,omitempty"`  // VmRSS
	Anonymous  int64   `json:"anonymous_bytes,omitempty"` // RssAnon: without the pages of the program's file
	Threads    int     `json:"threads,omitempty"`
	CPU        float64 `json:"cpu_s,omitempty"` // used since its start, user and system
	Goroutines int     `json:"goroutines,omitempty"`
}

// readProcess reads what the kernel knows of a process.
func readProcess(pid int) (p process, err error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return p, fmt.Errorf("-pid %d: no such process: %w", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		number, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		n, _ := strconv.ParseInt(number, 10, 64)
		switch name {
		case "VmRSS":
			p.Resident = n << 10 // it says kB and means 1024 bytes
		case "RssAnon":
			p.Anonymous = n << 10
		case "Threads":
			p.Threads = int(n)
		}
	}
	if p.Resident == 0 {
		return process{}, fmt.Errorf("-pid %d: the process has ended", pid) // and waits for its parent to take note
	}
	user, system, err := readTicks(pid)
	p.CPU = float64(user+system) / ticksPerSecond
	return p, err
}

const ticksPerSecond = 100 // USER_HZ, the same for every Linux that Go runs on

// readTicks reads how long a process has computed, for itself and in the kernel.
func readTicks(pid int) (user, system int64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("-pid %d: no such process: %w", pid, err)
	}
	// The second field is the program's name in parentheses and may hold anything; utime and stime are the 14th and 15th.
	const utime, stime = 14 - 3, 15 - 3
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= stime {
		return 0, 0, fmt.Errorf("-pid %d: unexpected /proc/%d/stat: %q", pid, pid, stat)
	}
	user, _ = strconv.ParseInt(string(fields[utime]), 10, 64)
	system, _ = strconv.ParseInt(string(fields[stime]), 10, 64)
	return user, system, nil
}

// footprint is what the viewers cost the server.
type footprint struct {
	PID           int     `json:"pid,omitempty"` // 0: only the goroutines are known
	Before        process `json:"before"`        // any viewer
	Opened        process `json:"opened"`        // when the last viewer had opened
	Held          process `json:"held"`          // at the end of the run
	PerConnection int64   `json:"resident_bytes_per_connection,omitempty"`
}

// probe looks at the server while a scenario runs.
type probe struct {
	footprint
	target *target
}

// newProbe takes the first look.
func newProbe(ctx context.Context, pid int, t *target, r *report) (*probe, error) {
	p := &probe{footprint{PID: pid}, t}
	if pid != 0 {
		var err error
		if p.Before, err = readProcess(pid); err != nil {
			return nil, usageError{err}
		}
	}
	r.Server = t.health(ctx)
	p.Before.Goroutines = r.Server.Goroutines
	return p, nil
}

// note takes another look, also when ctx has ended; a process that is gone ends the run.
func (p *probe) note(ctx context.Context, fail context.CancelCauseFunc, into *process) {
	if p.PID != 0 {
		var err error
		if *into, err = readProcess(p.PID); err != nil {
			fail(err)
			return
		}
	}
	into.Goroutines = p.target.health(context.WithoutCancel(ctx)).Goroutines
}

// figures returns nil when the last look saw nothing.
func (p *probe) figures(connections int) *footprint {
	if p.Held == (process{}) {
		return nil
	}
	f := p.footprint
	if connections > 0 {
		f.PerConnection = (f.Held.Resident - f.Before.Resident) / int64(connections)
	}
	return &f
}
