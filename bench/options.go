package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	mostConnections = 1_000_000
	mostMessages    = 100_000_000 // of one run
	mostInFlight    = 1_000_000   // messages of echo
	mostRepeats     = 100
	openPerSecond   = 5000 // connections, unless -rate says otherwise
)

// options is what the command line asks for.
type options struct {
	// Of all scenarios.
	url      string
	pid      int // of the server; 0 is unknown
	repeat   int
	json     string
	html     string
	timeout  time.Duration
	anywhere bool
	token    string
	settings map[string]string // what bears upon the figures, for the report

	// Of some.
	n           int           // viewers, or connections
	openRate    float64       // connections opened per second
	hold        time.Duration // idle: how long; storm: each
	rate        float64       // commands, messages, broadcasts or connects per second; echo: 0 is a closed loop
	length      time.Duration // of the measurement
	warmup      time.Duration // before it
	controllers int           // drive
	depth       int           // echo: messages in flight per connection
	size        int           // of a message, in bytes
	words       words         // broadcast
	raw         bool          // plain TCP, no WebSocket
	get         bool          // echo: plain HTTP
	churn       float64       // connections replaced per second
	slow        int           // connections that read slowly
	trickle     int           // bytes that each of them reads per second
	rounds      int           // failsafe: of each way to vanish
}

// flags sets the defaults and binds the flags of a scenario.
func (o *options) flags(sc *scenario) *flag.FlagSet {
	f := flag.NewFlagSet("bench "+sc.name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // the error says it all; `bench help` lists the flags
	o.openRate, o.controllers, o.depth, o.size = openPerSecond, 1, 1, 1
	f.DurationVar(&o.timeout, "timeout", cmp.Or(sc.timeout, 10*time.Minute), "end after this time, whatever the state")
	sc.flags(o, f)
	f.IntVar(&o.pid, "pid", 0, "process `ID` of the server, if it runs on this machine: report its memory and CPU time")
	f.IntVar(&o.repeat, "repeat", 1, "how many times to run: the summary has the median and the spread")
	f.StringVar(&o.json, "json", "", "also write the figures to this `file`")
	f.StringVar(&o.html, "html", "", "also write the figures, with plots, to this `file`: a page that needs nothing else")
	f.StringVar(&o.token, "token", "", "say who bench is to a server that lets in only some; the variable ROVERD_TOKEN does the same, and nobody sees it in the list of processes")
	f.BoolVar(&o.anywhere, "anywhere", false, "allow a server that is neither on this machine nor in a private network")
	return f
}

// lengthFlags are those of scenarios that measure for a time.
func (o *options) lengthFlags(f *flag.FlagSet, length time.Duration) {
	f.DurationVar(&o.length, "d", length, "how long to measure")
	f.DurationVar(&o.warmup, "warmup", time.Second, "how long to go on before that")
}

func (o *options) rawFlag(f *flag.FlagSet) {
	f.BoolVar(&o.raw, "raw", false, "speak plain TCP to the URL's host and port: for servers without WebSocket")
}

func parseOptions(sc *scenario, args []string) (*options, error) {
	o := &options{}
	f := o.flags(sc)
	if err := f.Parse(args); err != nil {
		return nil, usageError{err}
	}
	switch {
	case f.NArg() == 0:
		return nil, usage("which server? give its URL, as in: bench %s ws://127.0.0.1:9900/ws", sc.name)
	case f.NArg() > 1:
		hint := ""
		if strings.HasPrefix(f.Arg(1), "-") {
			hint = "; flags come before the URL"
		}
		return nil, usage("unexpected argument %q after the URL%s", f.Arg(1), hint)
	}
	o.url = f.Arg(0)
	o.settings = map[string]string{}
	f.VisitAll(func(f *flag.Flag) {
		if !slices.Contains([]string{"pid", "repeat", "json", "html", "timeout", "anywhere", "token"}, f.Name) {
			o.settings[f.Name] = f.Value.String()
		}
	})
	if o.token == "" {
		o.token = os.Getenv("ROVERD_TOKEN")
	}
	if err := o.check(sc); err != nil {
		return nil, usageError{err}
	}
	return o, nil
}

// check keeps every run bounded, in time and in count.
func (o *options) check(sc *scenario) error {
	if strings.ContainsFunc(o.token, func(r rune) bool { return r <= ' ' || r > '~' }) { // never said what it is
		return fmt.Errorf("-token, or ROVERD_TOKEN: want characters of ASCII without spaces, as an HTTP field may have")
	}
	if o.repeat < 1 || o.repeat > mostRepeats {
		return fmt.Errorf("-repeat %d: want 1 to %d", o.repeat, mostRepeats)
	}
	if o.hold < 0 || o.pid < 0 || o.warmup < 0 {
		return fmt.Errorf("-hold, -pid and -warmup can't be negative")
	}
	if o.n < 0 || o.n > mostConnections {
		return fmt.Errorf("-n %d: want up to %d", o.n, mostConnections)
	}
	if err := sc.check(o); err != nil {
		return err
	}
	if planned := time.Duration(o.repeat) * o.planned(); planned > o.timeout {
		return fmt.Errorf("that takes %s, which does not fit into -timeout %s", planned.Round(time.Second), o.timeout)
	}
	return nil
}

// planned is how long one run takes at least.
func (o *options) planned() time.Duration { return o.opening() + o.hold + o.warmup + o.length }

// opening is how long it takes at least to open the crowd.
func (o *options) opening() time.Duration {
	return perSecond(o.n+o.slow, o.openRate)
}

// The checks below are shared by scenarios.

func (o *options) checkOpening() error {
	if o.n < 1 {
		return fmt.Errorf("-n %d: want 1 to %d", o.n, mostConnections)
	}
	if !(o.openRate >= 1 && o.openRate <= mostConnections) { // so that NaN fails too
		return fmt.Errorf("-rate %v: want 1 to %d connections per second", o.openRate, mostConnections)
	}
	return nil
}

// checkTraffic checks what is sent at a rate for a time.
func (o *options) checkTraffic(most float64, what string) error {
	if !(o.rate >= 0.1 && o.rate <= most) {
		return fmt.Errorf("-rate %v: want 0.1 to %.0f %s per second", o.rate, most, what)
	}
	if total := o.rate * float64(o.controllers) * (o.warmup + o.length).Seconds(); total > mostMessages {
		return fmt.Errorf("-rate %v for -warmup %s and -d %s: that is more than %d %s", o.rate, o.warmup, o.length, mostMessages, what)
	}
	return o.checkLength()
}

func (o *options) checkLength() error {
	if o.length <= 0 {
		return fmt.Errorf("-d %s: want a time above 0", o.length)
	}
	return nil
}

func (o *options) checkSize() error {
	if o.size < 1 || o.size > maxMessage {
		return fmt.Errorf("-size %d: want 1 to %d bytes", o.size, maxMessage)
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
