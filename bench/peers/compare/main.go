// Command compare measures roverd beside other servers, on one core each for the server and for the load tool:
//
//	go run ./compare -roverd ../../bin/roverd -bench ../../bin/bench
//
// Absolute figures of a virtual machine drift by a third within minutes. So each round measures all servers one after
// the other, and what counts is the server's CPU time per message over that of raw/raw.c, which does the same with no
// protocol at all, in the same round. The files: servers.go has what is measured, scenarios.go how, process.go starts
// and ends processes, report.go says what was found.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options is what the command line asks for.
type options struct {
	roverd, bench      string
	rounds             int
	scenarios, servers list
	length             time.Duration
	json               string
}

// list is words separated by commas.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	*l = strings.Split(s, ",")
	return nil
}

func main() {
	runtime.LockOSThread() // the kernel kills a child when the thread that started it ends
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		stop()
		os.Exit(1)
	}
}

func parse() (*options, error) {
	o := &options{scenarios: scenarioNames(), servers: serverNames()}
	flag.StringVar(&o.roverd, "roverd", "../../bin/roverd", "the `program` to compare")
	flag.StringVar(&o.bench, "bench", "../../bin/bench", "the load tool, built: a `program`")
	flag.IntVar(&o.rounds, "rounds", 5, "how often to measure everything")
	flag.Var(&o.scenarios, "scenarios", "what to measure, a `list`")
	flag.Var(&o.servers, "servers", "whom to measure, a `list`; raw is the measure of all")
	flag.DurationVar(&o.length, "d", 3*time.Second, "how long each measurement takes, after a second of warm-up")
	flag.StringVar(&o.json, "json", "", "also write the figures to this `file`")
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	case o.rounds < 1 || o.rounds > 100:
		return nil, fmt.Errorf("-rounds %d: want 1 to 100", o.rounds)
	case o.length < 100*time.Millisecond || o.length > time.Minute:
		return nil, fmt.Errorf("-d %s: want 100ms to 1m", o.length)
	}
	for _, name := range o.scenarios {
		if !slices.Contains(scenarioNames(), name) {
			return nil, fmt.Errorf("-scenarios: %q is none of %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	for _, name := range o.servers {
		if !slices.Contains(serverNames(), name) {
			return nil, fmt.Errorf("-servers: %q is none of %s", name, strings.Join(serverNames(), ", "))
		}
	}
	if !slices.Contains(o.servers, "raw") {
		o.servers = append(list{"raw"}, o.servers...)
	}
	if o.json != "" { // first: a wrong name must not cost all the rounds
		file, err := os.OpenFile(o.json, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("-json: %w", err)
		}
		file.Close()
	}
	for _, tool := range []string{"taskset", "cc", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%s is missing: on Debian install util-linux (taskset) and gcc libc6-dev (cc)", tool)
		}
	}
	if n := runtime.NumCPU(); n < 2 {
		return nil, errors.New("this needs two CPUs: one for the server, one for the load tool")
	}
	for _, program := range []*string{&o.bench, &o.roverd} {
		path, err := filepath.Abs(*program)
		if err != nil {
			return nil, err
		}
		if program == &o.roverd && !slices.Contains(o.servers, "roverd") {
			continue
		}
		if *program, err = exec.LookPath(path); err != nil {
			return nil, fmt.Errorf("build it first: %w", err)
		}
	}
	return o, nil
}

func run(ctx context.Context) error {
	o, err := parse()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "compare")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &builds{roverd: o.roverd, raw: filepath.Join(dir, "raw"), peers: filepath.Join(dir, "peers")}
	if err := b.build(ctx); err != nil {
		return err
	}
	r := newReport(o)
	for round := range o.rounds {
		for _, sc := range scenarios {
			if !slices.Contains(o.scenarios, sc.name) {
				continue
			}
			for i := range o.servers { // in another order each time, since one may suffer from the one before
				name := o.servers[(i+round)%len(o.servers)]
				s := servers[slices.Index(serverNames(), name)]
				if s.echoes && sc.path != "/echo" {
					continue
				}
				m, err := measure(ctx, o, b, s, sc, dir)
				if ctx.Err() != nil {
					r.print(os.Stdout) // what there is
					return errors.Join(errors.New("interrupted"), r.write(o.json))
				}
				if err != nil {
					fmt.Fprintf(os.Stderr, "round %d, %s, %s: %v\n", round+1, sc.name, name, err)
					m.Error = err.Error()
				}
				m.Round, m.Scenario, m.Server = round+1, sc.name, name
				r.Measurements = append(r.Measurements, m)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d is done\n", round+1, o.rounds)
	}
	r.print(os.Stdout)
	return r.write(o.json)
}
