// Command roverd lets any browser drive a robot car while a crowd watches.
//
// A command's way through the files: netpoll reads bytes; viewer.go decodes frames, and line.go lines; request.go makes a
// command of the text; helm.go decides who drives; package hardware moves the lines; publisher.go and deck.go tell everyone.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"roverd/hardware"
)

const helpText = `roverd drives a robot car from any browser.

  roverd [serve] [flags]   serve the page and the car; the flags are below
  roverd check [-config FILE] [-sim] [-wiggle]
                           say what would work on this board and what would not;
                           -wiggle asks, then moves one motor at a time
  roverd stop [flags]      switch all lines of the -config off, and end: for after a crash, as systemd's ExecStopPost;
                           lines that a running roverd holds stay its own: then it says which process that is, and
                           ends with 1 (kill that process: it stops the car first)
  roverd send [-addr URL] [-token-file FILE] [-cacert FILE] WORDS... | -i
                           say something to a roverd and print its answer: roverd send up 60; it ends with 1 if that is
                           an error. A command to drive is sent once: the car drives for the time to live, or until
                           this is interrupted. -i asks for commands, or takes them from a pipe, and drives while it
                           runs. The URL is ws://localhost:9900/ by default, else ws://, wss://, http:// or https://
                           and a host, or tcp://HOST:PORT of a -line; the token is in ROVERD_TOKEN or a file, and -cacert
                           has certificates to trust instead of the system's
  roverd version           print version, commit and Go version
  roverd help              print this

Every flag below can also be set in the environment: -log-level as ROVERD_LOG_LEVEL.
`

func main() {
	if len(os.Args) > 1 && os.Args[1] == "guard" { // not for people: hardware.StartGuard starts it
		os.Exit(hardware.RunGuard(os.Args[2:], os.Stderr))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup sets it
		ends = append(ends, syscall.SIGHUP) // the terminal has gone
	}
	ctx, _ := signal.NotifyContext(context.Background(), ends...)
	hurry, cancel := context.WithCancel(context.Background())
	context.AfterFunc(ctx, func() { // a second signal: the lines are safe by then, the viewers have to find out
		second := make(chan os.Signal, 1)
		signal.Notify(second, ends...)
		<-second
		cancel()
	})
	// By default a write to a closed pipe (`roverd | tee log`) ends a Go program on the spot, with the wheels turning.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, hurry, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run is the program: until ctx ends, and without waiting for anyone when hurry does. It returns the exit code: 0 done,
// 1 failed, 2 used wrongly.
func run(ctx, hurry context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	command := "serve"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	var err error
	switch command {
	case "serve":
		err = runServe(ctx, hurry, args, getenv, stdout, stderr)
	case "check":
		err = runCheck(ctx, args, getenv, os.Stdin, stdout)
	case "send":
		err = runSend(ctx, args, getenv, os.Stdin, stdout, stderr)
	case "stop":
		err = runStop(args, getenv, stdout)
	case "version":
		if err = noMore(args); err == nil {
			fmt.Fprintf(stdout, "roverd %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		}
	case "help":
		if err = noMore(args); err == nil {
			help(stdout)
		}
	default:
		err = usage("unknown command %q; `roverd help` lists the commands", command)
	}
	return exitCode(err, stdout, stderr)
}

// exitCode says how a command has ended.
func exitCode(err error, stdout, stderr io.Writer) int {
	var wrong usageError
	switch {
	case err == nil:
		return 0
	case err == errRefused:
		return 1
	case errors.Is(err, flag.ErrHelp):
		help(stdout)
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintln(stderr, "roverd:", err)
		return 2
	}
	fmt.Fprintln(stderr, "roverd:", err)
	return 1
}

// noMore refuses arguments.
func noMore(args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usage("unexpected argument %q; `roverd help` lists the commands and flags", args[0])
}

func help(w io.Writer) {
	fmt.Fprint(w, helpText)
	flags := new(config).flags()
	flags.SetOutput(w)
	flags.PrintDefaults()
}

func runServe(ctx, hurry context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	cfg, err := loadServe(args, getenv)
	if err != nil {
		return err
	}
	logger, closeLog := newLogger(cfg.LogLevel.Level, stderr)
	defer closeLog()
	s, listeners, err := newServer(cfg, logger)
	if err != nil {
		return err
	}
	if s.certificate != nil {
		defer s.certificate.reloadOn(syscall.SIGHUP)()
	}
	return s.run(ctx, hurry, listeners, stdout)
}

// runStop switches the lines off by hand.
func runStop(args []string, getenv func(string) string, stdout io.Writer) error {
	cfg, err := loadConfig(args, getenv)
	if err != nil {
		return err
	}
	if cfg.simulated() {
		return usage("the car is simulated: there are no lines to switch off; name the file with its wiring: roverd stop -config FILE")
	}
	car := cfg.car()
	if err := hardware.SwitchOff(car.Outputs()); err != nil {
		return fmt.Errorf("%s: not all lines could be switched off: %w", cfg.file, err)
	}
	fmt.Fprintln(stdout, "all lines are off")
	return nil
}

// revision is set by the Makefile to what `git describe` says.
var revision string

func version() string {
	if revision != "" {
		return revision
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "(unknown)"
}
