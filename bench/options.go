package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	mostViewers   = 1_000_000
	mostCommands  = 1_000_000 // their latencies are all kept
	mostInFlight  = 1_000_000 // messages of echo
	spareFiles    = 32        // descriptors beside the viewers': the driver's, the loop's, the files
	viewersPerSec = 5000      // opened, unless -rate says otherwise
)

// options is what the command line asks for.
type options struct {
	url      string
	n        int           // viewers, or connections
	openRate float64       // viewers opened per second
	hold     time.Duration // idle
	rate     float64       // commands, messages or broadcasts per second; echo: 0 is a closed loop
	length   time.Duration // of the measurement
	warmup   time.Duration // before it
	depth    int           // echo: messages in flight per connection
	size     int           // of a message, in bytes
	words    words         // broadcast
	raw      bool          // plain TCP, no WebSocket
	pid      int           // of the server; 0 is unknown
	json     string
	timeout  time.Duration
	anywhere bool
}

// flags sets the defaults and binds the flags of a scenario.
func (o *options) flags(scenario string) *flag.FlagSet {
	f := flag.NewFlagSet("bench "+scenario, flag.ContinueOnError)
	f.SetOutput(io.Discard) // the error says it all; `bench help` lists the flags
	switch scenario {
	case "idle":
		o.size = 1 // of the messages that -raw never sends
		f.IntVar(&o.n, "n", 10_000, "viewers to open")
		f.Float64Var(&o.openRate, "rate", viewersPerSec, "viewers to open per second, at most")
		f.DurationVar(&o.hold, "hold", 10*time.Second, "how long to hold them")
	case "drive":
		o.openRate = viewersPerSec
		f.IntVar(&o.n, "n", 0, "viewers that watch")
		f.Float64Var(&o.rate, "rate", 20, "commands per second")
		f.DurationVar(&o.length, "d", 10*time.Second, "how long to measure")
		f.DurationVar(&o.warmup, "warmup", time.Second, "how long to drive before that")
	case "echo":
		o.openRate = viewersPerSec
		f.IntVar(&o.n, "n", 1000, "connections to open")
		f.IntVar(&o.depth, "depth", 1, "messages in flight per connection, in a closed loop")
		f.Float64Var(&o.rate, "rate", 0, "open loop: messages per second, over all connections in turn; 0 is a closed loop")
		f.IntVar(&o.size, "size", 64, "bytes of a message")
	case "broadcast":
		o.openRate = viewersPerSec
		f.IntVar(&o.n, "n", 10_000, "viewers that watch")
		f.Float64Var(&o.rate, "rate", 10, "broadcasts per second")
		f.IntVar(&o.size, "size", 200, "bytes of a message")
		f.Var(&o.words, "words", "roverd: `commands` to send in turn, like up,stop; each changes the state, which goes to all")
	}
	if scenario == "echo" || scenario == "broadcast" {
		f.DurationVar(&o.length, "d", 5*time.Second, "how long to measure")
		f.DurationVar(&o.warmup, "warmup", time.Second, "how long to go on before that")
	}
	if scenario != "drive" {
		f.BoolVar(&o.raw, "raw", false, "speak plain TCP to the URL's host and port: for servers without WebSocket")
	}
	f.IntVar(&o.pid, "pid", 0, "process `ID` of the server, if it runs on this machine: report its memory and CPU time")
	f.StringVar(&o.json, "json", "", "also write the figures to this `file`")
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "end the run after this time, whatever its state")
	f.BoolVar(&o.anywhere, "anywhere", false, "allow a server that is neither on this machine nor in a private network")
	return f
}

func parseOptions(scenario string, args []string) (*options, error) {
	o := &options{}
	f := o.flags(scenario)
	if err := f.Parse(args); err != nil {
		return nil, usageError{err}
	}
	switch {
	case f.NArg() == 0:
		return nil, usage("which server? give its URL, as in: bench %s ws://127.0.0.1:9900/ws", scenario)
	case f.NArg() > 1:
		hint := ""
		if strings.HasPrefix(f.Arg(1), "-") {
			hint = "; flags come before the URL"
		}
		return nil, usage("unexpected argument %q after the URL%s", f.Arg(1), hint)
	}
	o.url = f.Arg(0)
	if err := o.check(scenario); err != nil {
		return nil, usageError{err}
	}
	return o, nil
}

// check keeps every run bounded, in time and in count.
func (o *options) check(scenario string) error {
	least := 0
	if scenario != "drive" {
		least = 1
	}
	if o.n < least || o.n > mostViewers {
		return fmt.Errorf("-n %d: want %d to %d", o.n, least, mostViewers)
	}
	if !(o.openRate >= 1 && o.openRate <= mostViewers) { // so that NaN fails too
		return fmt.Errorf("-rate %v: want 1 to %d viewers per second", o.openRate, mostViewers)
	}
	if err := o.checkTraffic(scenario); err != nil {
		return err
	}
	if scenario == "drive" {
		if o.rate*(o.warmup+o.length).Seconds() > mostCommands {
			return fmt.Errorf("-rate %v for -warmup %s and -d %s: that is more than %d commands", o.rate, o.warmup, o.length, mostCommands)
		}
	}
	if o.hold < 0 || o.pid < 0 {
		return fmt.Errorf("-hold and -pid can't be negative")
	}
	if planned := o.hold + o.warmup + o.length + time.Duration(float64(o.n)/o.openRate*float64(time.Second)); planned > o.timeout {
		return fmt.Errorf("the run takes %s, which does not fit into -timeout %s", planned.Round(time.Second), o.timeout)
	}
	var files unix.Rlimit // Go has raised the soft limit to the hard one
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE: %w", err)
	}
	if need := uint64(o.n + spareFiles); need > files.Cur {
		return fmt.Errorf("-n %d needs %d open files, and RLIMIT_NOFILE allows this process %d: "+
			"raise the hard limit (as root: prlimit --nofile=%d --pid $$, in the shell that starts bench), or open fewer",
			o.n, need, files.Cur, need)
	}
	return nil
}

// checkTraffic checks the flags that say what is sent.
func (o *options) checkTraffic(scenario string) error {
	most, what := 10_000., "commands"
	switch scenario {
	case "idle":
		return nil
	case "echo":
		most, what = 1_000_000, "messages"
		if o.depth < 1 || o.depth > mostInFlight/o.n {
			return fmt.Errorf("-n %d -depth %d: want 1 to %d messages in flight", o.n, o.depth, mostInFlight)
		}
		if o.rate != 0 && o.depth != 1 {
			return fmt.Errorf("-depth is of a closed loop, -rate makes an open one: want one of them")
		}
	case "broadcast":
		most, what = 1000, "broadcasts"
		if o.raw && len(o.words) > 0 {
			return fmt.Errorf("-words are for roverd, which -raw is not")
		}
	}
	if closed := scenario == "echo" && o.rate == 0; !(o.rate >= 0.1 && o.rate <= most) && !closed {
		return fmt.Errorf("-rate %v: want 0.1 to %.0f %s per second", o.rate, most, what)
	}
	if scenario != "drive" && (o.size < 1 || o.size > maxMessage) {
		return fmt.Errorf("-size %d: want 1 to %d bytes", o.size, maxMessage)
	}
	if o.length <= 0 || o.warmup < 0 {
		return fmt.Errorf("-d %s -warmup %s: want a time above 0 and one not below", o.length, o.warmup)
	}
	return nil
}

// words are separated by commas.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }

func (w *words) Set(s string) error {
	*w = strings.Split(s, ",")
	if slices.Contains(*w, "") {
		return fmt.Errorf("a word is empty")
	}
	return nil
}
