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
	"sync"
	"time"
)

// probe looks at the server while a scenario runs: at its process by /proc, if that is known, else at its metrics.
type probe struct {
	looks
	pid      int
	target   *target
	source   string // as of server.Source
	stranger string // the name of a process that does not listen where the target is

	// Of glances, by mu, since they come from the recorder's goroutine and the scenario's: the metrics are asked for once a
	// second, as that is work for the server, too.
	mu    sync.Mutex
	asked time.Time
	read  time.Time // last
	last  process
}

// newProbe takes the first look.
func newProbe(ctx context.Context, pid int, t *target, s *server) (*probe, error) {
	p := &probe{pid: pid, target: t}
	h := p.health(ctx)
	s.Car, s.Version = h.Car, h.Version
	if pid != 0 {
		p.source = "proc"
	} else if _, ok := p.metrics(ctx); ok {
		p.source = "metrics"
	}
	s.Source = p.source
	if err := p.look(ctx, &p.Before); err != nil {
		return nil, usageError{err}
	}
	if pid != 0 && !listens(pid, t.addr.Port()) {
		p.stranger = firstLine(fmt.Sprintf("/proc/%d/comm", pid))
	}
	return p, nil
}

// look takes a thorough look, also when ctx has ended.
func (p *probe) look(ctx context.Context, into *process) (err error) {
	ctx = context.WithoutCancel(ctx)
	switch p.source {
	case "proc":
		if *into, err = readProcess(p.pid); err != nil {
			return err
		}
	case "metrics":
		*into, _ = p.metrics(ctx)
	}
	into.Goroutines = p.health(ctx).Goroutines
	return nil
}

// glance takes a quick look, and tells when what it shows was so; the zero Time when there is nothing to see.
func (p *probe) glance() (process, time.Time) {
	switch p.source {
	case "proc":
		at := time.Now()
		now, err := readProcess(p.pid)
		if err != nil {
			return now, time.Time{}
		}
		if cpu, err := serverTime(p.pid); err == nil {
			now.CPU = cpu.Seconds() // finer than the ticks of stat
		}
		return now, at
	case "metrics":
		p.mu.Lock()
		defer p.mu.Unlock()
		if at := time.Now(); at.Sub(p.asked) >= time.Second {
			p.asked = at
			if now, ok := p.metrics(context.Background()); ok {
				p.last, p.read = now, at
			}
		}
		return p.last, p.read
	}
	return process{}, time.Time{}
}

// figures returns nil when the last look saw nothing.
func (p *probe) figures() *looks {
	if p.End == (process{}) {
		return nil
	}
	l := p.looks
	return &l
}

// health is what roverd's GET /healthz tells of itself.
type health struct {
	Car        string `json:"car"`
	Version    string `json:"version"`
	Goroutines int    `json:"goroutines"`
}

// health asks the server; the zero health is of a server that does not say, or that speaks no HTTP.
func (p *probe) health(ctx context.Context) (h health) {
	if json.Unmarshal(p.get(ctx, "/healthz"), &h) != nil {
		return health{}
	}
	return h
}

// metrics reads the process's own from what Prometheus reads (the names that its client libraries agree on).
func (p *probe) metrics(ctx context.Context) (now process, ok bool) {
	for line := range strings.Lines(string(p.get(ctx, "/metrics"))) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "process_resident_memory_bytes":
			now.Resident, ok = int64(v), true
		case "process_cpu_seconds_total":
			now.CPU = v
		case "process_open_fds":
			now.Files = int(v)
		case "process_threads", "go_threads":
			now.Threads = int(v)
		}
	}
	return now, ok
}

// get fetches a small file from the server; nil when there is none.
func (p *probe) get(ctx context.Context, path string) []byte {
	t := p.target
	if t.raw > 0 && t.ask == nil {
		return nil
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
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.host+path, nil)
	if err != nil {
		return nil
	}
	if t.token != "" {
		req.Header.Set(authorization, bearer+t.token)
	}
	res, err := web.Do(req)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK { // and the body of a 101 is the connection, which ends for no context
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 256<<10))
	if err != nil {
		return nil
	}
	return text
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
		value = strings.TrimSpace(value)
		switch name {
		case "VmRSS":
			p.Resident = kilobytes(value)
		case "RssAnon":
			p.Anonymous = kilobytes(value)
		case "Threads":
			p.Threads, _ = strconv.Atoi(value)
		}
	}
	if p.Resident == 0 {
		return process{}, fmt.Errorf("-pid %d: the process has ended", pid) // and waits for its parent to take note
	}
	p.Files = openFiles(dir + "fd")
	user, system, err := readTicks(pid)
	p.CPU = float64(user+system) / ticksPerSecond
	return p, err
}

// openFiles counts the descriptors of a process; 0 when only others may. Since Linux 6.2 the size of the folder is their
// number (proc_pid_fd(5)); before, they have to be listed.
func openFiles(dir string) int {
	info, err := os.Stat(dir)
	if err != nil {
		return 0
	}
	if n := info.Size(); n > 0 {
		return int(n)
	}
	all, _ := os.ReadDir(dir)
	return len(all)
}

// listens tells whether a process has a listening socket at a port; also true when only others may know. (proc_pid_fd(5)
// and proc_pid_net(5): the local address ends with the port, in hexadecimal, and 0A is TCP_LISTEN.)
func listens(pid int, port uint16) bool {
	dir := fmt.Sprintf("/proc/%d/", pid)
	files, err := os.ReadDir(dir + "fd")
	if err != nil {
		return true
	}
	sockets := map[string]bool{}
	for _, file := range files {
		link, _ := os.Readlink(dir + "fd/" + file.Name())
		sockets[link] = true
	}
	there := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		text, _ := os.ReadFile(dir + table)
		for line := range strings.Lines(string(text)) {
			const local, state, inode = 1, 3, 9
			f := strings.Fields(line)
			if len(f) > inode && f[state] == "0A" && strings.HasSuffix(f[local], there) && sockets["socket:["+f[inode]+"]"] {
				return true
			}
		}
	}
	return false
}

// memorySelf is what bench itself has resident, in bytes, and what of it is anonymous: the pages of the program's file
// come and go as the kernel likes (proc_pid_statm(5): resident and shared, in pages).
func memorySelf() (resident, anonymous int64) {
	fields := strings.Fields(firstLine("/proc/self/statm"))
	if len(fields) < 3 {
		return 0, 0
	}
	all, _ := strconv.ParseInt(fields[1], 10, 64)
	shared, _ := strconv.ParseInt(fields[2], 10, 64)
	page := int64(os.Getpagesize())
	return all * page, (all - shared) * page
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
