// Command bench loads a roverd server and measures it: `go run ./bench SCENARIO [flags] URL`.
//
// The files: options.go, target.go, http.go and limits.go read the command line and say what can't be. rig.go is what
// each run stands on, recorder.go and progress.go look at it as it goes. client.go is one connection, crowd.go many,
// driver.go those that drive, and pulse.go tells how late they hear; idle.go, watch.go, drive.go, echo.go, broadcast.go,
// slow.go, storm.go, failsafe.go and soak.go are the scenarios. probe.go and meter.go look at the server's process,
// machine.go at where bench runs, marks.go says what can't be believed; report.go is what was found, table.go prints it,
// outputs.go writes it. page.go is the report as a page, of what sections.go, timeline.go and memory.go choose, and
// plot.go and scale.go draw. compare.go compares two reports; plotfile.go and rivals.go draw plots into files. The
// directory peers has other servers, and a program that compares them with roverd.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// scenario is something to be measured.
type scenario struct {
	name, help string
	counts     string                            // what its throughput is of: messages, commands
	flags      func(o *options, f *flag.FlagSet) // binds its own, with their defaults
	check      func(o *options) error            // checks them, so that every run is bounded
	// play runs until it is done or ctx ends, and writes its figures into the rig's run in either case.
	play    func(ctx context.Context, g *rig) error
	timeout time.Duration // what -timeout is by default; ten minutes when zero
}

var scenarios = []*scenario{&idle, &watch, &drive, &echo, &broadcast, &slow, &storm, &failsafe, &soak}

const helpText = `bench loads a roverd server and measures it.

%s  bench compare A.json B.json   tell how the figures of B (written by -json) differ from A's, and which by no more than noise
  bench plot FILE.json DIR      draw the plots of a report, or of what peers/compare measured, into SVG files
  bench help                    print this

URL is ws://host:port/ws, or the path that the server has for the purpose: /echo, and of other servers /broadcast.
http:// means the same. Flags come before the URL. Exit code: 0 done, 1 failed or interrupted, 2 used wrongly.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(program(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// usageError is a mistake of whoever started the program: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// program is all of it. It returns the exit code: 0 done, 1 failed or interrupted, 2 used wrongly.
func program(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := execute(ctx, args, stdout, stderr)
	var wrong usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		help(stdout)
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	fmt.Fprintln(stderr, "bench:", err)
	return 1
}

func help(w io.Writer) {
	var lines strings.Builder
	for _, sc := range scenarios {
		fmt.Fprintf(&lines, "  bench %-9s [flags] URL   %s\n", sc.name, sc.help)
	}
	fmt.Fprintf(w, helpText, &lines)
	for _, sc := range scenarios {
		fmt.Fprintln(w)
		sc.printFlags(w)
	}
}

func (sc *scenario) printFlags(w io.Writer) {
	fmt.Fprintf(w, "Flags of %s:\n", sc.name)
	flags := new(options).flags(sc)
	flags.SetOutput(w)
	flags.PrintDefaults()
}

func execute(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return usage("which scenario? `bench help` lists them")
	}
	name := args[0]
	if name == "help" || name == "-h" || name == "-help" || name == "--help" {
		return flag.ErrHelp
	}
	switch name {
	case "compare", "-compare", "--compare":
		return compare(args[1:], stdout)
	case "plot", "-plot", "--plot":
		return plot(args[1:], stdout)
	}
	var sc *scenario
	for _, s := range scenarios {
		if s.name == name {
			sc = s
		}
	}
	if sc == nil {
		return usage("unknown scenario %q; `bench help` lists them", name)
	}
	o, err := parseOptions(sc, args[1:])
	if errors.Is(err, flag.ErrHelp) {
		sc.printFlags(stdout)
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the runs took longer than -timeout %s", o.timeout))
	defer cancel()
	t, err := resolve(ctx, o)
	if err != nil {
		return err
	}
	if err := checkLimits(o, t); err != nil {
		return usageError{err}
	}
	outputs, err := openOutputs(o) // first: a wrong name must not cost a whole run
	if err != nil {
		return err
	}
	defer outputs.close()

	r := &report{Schema: schema, Scenario: name, Target: withoutSecrets(o.url), Settings: o.settings, Started: time.Now(),
		Server: server{PID: o.pid}, Runs: []*run{}}
	for i := range o.repeat {
		var one *run
		one, err = perform(ctx, sc, o, t, &r.Server, newProgress(stderr, name, i, o.repeat))
		if one.found() {
			r.Runs = append(r.Runs, one)
		}
		if err != nil {
			r.Error = err.Error()
			break
		}
	}
	r.Machine = thisMachine() // as the runs were: they may have raised GOMAXPROCS
	r.summarize()
	return errors.Join(err, r.print(stdout), outputs.write(r))
}
