package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// scenario is one way to use a server.
type scenario struct {
	name, what string
	path       string
	broadcast  bool
	n          int      // connections
	args       []string // of bench, beside
	timed      bool     // it has a length
}

var scenarios = []*scenario{
	{name: "echo", what: "1,000 connections, one message of 64 bytes in flight on each", path: "/echo", timed: true,
		n: 1000, args: []string{"echo"}},
	{name: "pipelined", what: "64 connections, 16 messages of 64 bytes in flight on each", path: "/echo", timed: true,
		n: 64, args: []string{"echo", "-depth", "16"}},
	{name: "broadcast", what: "10 messages of 200 bytes a second to 10,000 connections", path: "/broadcast", timed: true, broadcast: true,
		n: 10_000, args: []string{"broadcast", "-rate", "10", "-size", "200"}},
	{name: "sparse", what: "1,000 messages of 64 bytes a second over 1,000 connections", path: "/echo", timed: true,
		n: 1000, args: []string{"echo", "-rate", "1000"}},
	{name: "idle", what: "18,000 connections: bytes of resident user memory for each", path: "/broadcast",
		n: 18_000, args: []string{"idle", "-hold", "2s"}},
}

func scenarioNames() (names list) {
	for _, sc := range scenarios {
		names = append(names, sc.name)
	}
	return names
}

// measurement is what one run of bench found.
type measurement struct {
	Round     int     `json:"round"`
	Scenario  string  `json:"scenario"`
	Server    string  `json:"server"`
	Error     string  `json:"error,omitempty"`
	CPU       float64 `json:"cpu_us_per_message,omitempty"`
	User      float64 `json:"user_us_per_message,omitempty"`
	System    float64 `json:"system_us_per_message,omitempty"`
	Cores     float64 `json:"server_cores,omitempty"`
	Bench     float64 `json:"bench_cores,omitempty"`
	PerSecond float64 `json:"messages_per_s,omitempty"`
	Switches  float64 `json:"switches_per_s,omitempty"`
	P50       int64   `json:"p50_us,omitempty"` // of the latency, or of the time a broadcast takes
	P99       int64   `json:"p99_us,omitempty"`
	Bytes     int64   `json:"resident_bytes_per_connection,omitempty"`
	Base      int64   `json:"resident_bytes_before,omitempty"`
	Skipped   int     `json:"broadcasts_skipped,omitempty"`
}

// benchReport is what is read of bench's JSON file.
type benchReport struct {
	Runs []struct {
		Figures []struct {
			Name  string  `json:"name"`
			Value float64 `json:"value"`
		} `json:"figures"`
		Times []struct {
			Name string `json:"name"`
			P50  int64  `json:"p50_us"`
			P99  int64  `json:"p99_us"`
		} `json:"times"`
		Connections struct {
			ServerBytes float64 `json:"server_bytes_each"`
		} `json:"connections"`
		Process struct {
			Before struct {
				Resident int64 `json:"resident_bytes"`
			} `json:"before"`
		} `json:"server_process"`
	} `json:"runs"`
}

// The server has the first CPU, the load tool the second.
const serverCPU, benchCPU = "0", "1"

// measure starts a server, loads it and ends it.
func measure(ctx context.Context, o *options, b *builds, s *server, sc *scenario, dir string) (m measurement, err error) {
	ctx, cancel := context.WithTimeout(ctx, o.length+time.Minute)
	defer cancel()
	port, err := freePort()
	if err != nil {
		return m, err
	}
	srv, err := start(ctx, serverCPU, s.command(b, port, sc))
	if err != nil {
		return m, err
	}
	defer srv.stop()
	if err := srv.awaitPort(ctx, port); err != nil {
		return m, err
	}

	file := filepath.Join(dir, "bench.json")
	n := sc.n
	if s.most > 0 {
		n = min(n, s.most)
	}
	args := append([]string{o.bench}, sc.args...)
	args = append(args, "-n", fmt.Sprint(n), "-pid", fmt.Sprint(srv.pid()), "-json", file)
	if sc.timed {
		args = append(args, "-d", o.length.String())
	}
	path := sc.path
	switch {
	case s.raw:
		args = append(args, "-raw")
	case s.rover && path == "/broadcast":
		path = "/ws"
		if sc.broadcast {
			args = append(args, "-words", "up,stop")
		}
	}
	tool, err := start(ctx, benchCPU, append(args, "ws://"+address(port)+path))
	if err != nil {
		return m, err
	}
	defer tool.stop()
	runErr := tool.wait(ctx)
	if runErr != nil {
		runErr = fmt.Errorf("%w: %s", runErr, strings.TrimSpace(tool.output.String()))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return m, errors.Join(runErr, err)
	}
	var r benchReport
	if err := json.Unmarshal(text, &r); err != nil {
		return m, errors.Join(runErr, err)
	}
	os.Remove(file)
	return r.measurement(), runErr
}

func (r *benchReport) measurement() (m measurement) {
	if len(r.Runs) == 0 {
		return m
	}
	one := r.Runs[0]
	for _, f := range one.Figures {
		switch f.Name {
		case "server_cpu_us_per_message", "server_cpu_us_per_delivery":
			m.CPU = f.Value
		case "server_user_us_per_message", "server_user_us_per_delivery":
			m.User = f.Value
		case "server_system_us_per_message", "server_system_us_per_delivery":
			m.System = f.Value
		case "server_cores":
			m.Cores = f.Value
		case "bench_cores":
			m.Bench = f.Value
		case "messages_per_s", "deliveries_per_s":
			m.PerSecond = f.Value
		case "server_voluntary_switches_per_s", "server_involuntary_switches_per_s":
			m.Switches += f.Value
		case "skipped":
			m.Skipped = int(f.Value)
		}
	}
	for _, t := range one.Times {
		if t.Name == "latency" || t.Name == "fan_out" {
			m.P50, m.P99 = t.P50, t.P99
		}
	}
	m.Bytes, m.Base = int64(one.Connections.ServerBytes), one.Process.Before.Resident
	return m
}
