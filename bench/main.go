// Command bench loads a roverd server and measures it: `go run ./bench SCENARIO [flags] URL`.
//
// One event loop serves all viewers, another the driver. The files: options.go and target.go read the command line;
// client.go is one connection, crowd.go many that watch, driver.go one that drives; idle.go, drive.go, echo.go and
// broadcast.go are the scenarios; probe.go and meter.go look at the server's process; report.go says what was found.
// The directory peers has other servers, and a program that compares them with roverd.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const helpText = `bench loads a roverd server and measures it.

  bench idle      [flags] URL   open many viewers and hold them
  bench drive     [flags] URL   drive the car, while viewers watch if -n says so; a real car really moves
  bench echo      [flags] URL   have a server send back what it is sent
  bench broadcast [flags] URL   have a server send on to many viewers what one client says
  bench help                    print this

URL is ws://host:port/ws, or the path that the server has for the purpose: /echo, and of other servers /broadcast.
http:// means the same. Exit code: 0 done, 1 failed, 2 used wrongly.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// scenario runs until it is done or ctx ends, and writes its figures into the report in either case.
type scenario func(ctx context.Context, o *options, t *target, r *report) error

var scenarios = map[string]scenario{"idle": idle, "drive": drive, "echo": echo, "broadcast": broadcast}

// usageError is a mistake of whoever started the program: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run is the program. It returns the exit code: 0 done, 1 failed or interrupted, 2 used wrongly.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := execute(ctx, args, stdout)
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
	fmt.Fprint(w, helpText)
	for _, name := range []string{"idle", "drive", "echo", "broadcast"} {
		fmt.Fprintf(w, "\nFlags of %s:\n", name)
		flags := new(options).flags(name)
		flags.SetOutput(w)
		flags.PrintDefaults()
	}
}

func execute(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return usage("which scenario? `bench help` lists them")
	}
	name := args[0]
	if name == "help" || name == "-h" || name == "-help" || name == "--help" {
		return flag.ErrHelp
	}
	play, ok := scenarios[name]
	if !ok {
		return usage("unknown scenario %q; `bench help` lists them", name)
	}
	o, err := parseOptions(name, args[1:])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the run took longer than -timeout %s", o.timeout))
	defer cancel()
	t, err := resolve(ctx, o.url, o.anywhere)
	if err != nil {
		return err
	}
	if o.raw {
		t.plain(o.size)
	}
	var file *os.File // opened first: a wrong name must not cost a whole run
	if o.json != "" {
		if file, err = os.Create(o.json); err != nil {
			return usage("-json: %w", err)
		}
		defer file.Close()
	}

	r := &report{Scenario: name, Target: o.url, Started: time.Now(), Machine: thisMachine()}
	err = play(ctx, o, t, r)
	if err != nil {
		r.Error = err.Error()
	}
	r.print(stdout)
	if file != nil {
		out := json.NewEncoder(file)
		out.SetIndent("", "  ")
		if e := errors.Join(out.Encode(r), file.Close()); e != nil {
			err = errors.Join(err, fmt.Errorf("-json: %w", e))
		}
	}
	return err
}
