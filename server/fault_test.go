package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"

	"roverd/hardware"

	"golang.org/x/sys/unix"
)

// What can go wrong with a car that is driven, and how long its motors then run on. Everybody is a process of his own,
// the driver too; the times are those of the kernel's trace of what is set on the lines.

var rounds = flag.Int("rounds", 1, "how often a test brings about what it measures")

// steady tells that times are this guest's own: they do not depend on what else its host has to do.
func steady() bool { return os.Getenv("ROVERD_GUEST") == "steady" }

const (
	holdEvery = 125 * time.Millisecond // as the page repeats a command by default
	bumper    = `
[[sensors]]
name = "bumper"
kind = "contact"
line = "GPIO5"
pull = "up"
active_low = true
stop = true
`
	// blockable, as the last argument, makes a roverd whose car's goroutine stands still for ever at SIGUSR1.
	blockable = "blockable"
)

// runBlockable is what TestMain does then.
func runBlockable(args []string) error {
	cfg, err := loadServe(args, os.Getenv)
	if err != nil {
		return err
	}
	logger, _ := newLogger(cfg.LogLevel.Level, os.Stderr)
	s, listeners, err := newServer(cfg, logger)
	if err != nil {
		return err
	}
	blocks := make(chan os.Signal, 1)
	signal.Notify(blocks, syscall.SIGUSR1)
	go func() {
		<-blocks
		s.car.Do(hardware.Command{Kind: hardware.Turn, From: stuck{}}) // changes nothing: there is no camera
	}()
	return s.run(context.Background(), context.Background(), listeners, os.Stdout)
}

// stuck hears of a command's end on the car's goroutine, and keeps it.
type stuck struct{}

func (stuck) Done(hardware.Command, hardware.Result) { select {} }

// holdButton has a client drive the rover as a held button does, until it is killed.
func (r *rover) holdButton(word string) (driver *os.Process) {
	r.t.Helper()
	cmd := command(r.t, "send", "-i", "-addr", "http://"+r.addr)
	in, err := cmd.StdinPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	held := make(chan struct{})
	go func() {
		defer close(held)
		for err := error(nil); err == nil; time.Sleep(holdEvery) {
			_, err = io.WriteString(in, word+"\n")
		}
		cmd.Wait()
	}()
	r.t.Cleanup(func() {
		cmd.Process.Kill()
		<-held
	})
	return cmd.Process
}

// loopback takes the guest's only network up or down. What is sent while it is down is lost, and that includes the end of
// a connection: each side hears nothing of the other. (Two namespaces with a veth between them would do the same, but
// Debian's kernel has veth as a module, which the guest lacks.)
func loopback(t *testing.T, up bool) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	lo, _ := unix.NewIfreq("lo")
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
	flags := lo.Uint16() &^ unix.IFF_UP
	if up {
		flags |= unix.IFF_UP
	}
	lo.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		t.Fatal(err)
	}
}

// spread says how durations are distributed, and sorts them.
func spread(all []time.Duration) string {
	slices.Sort(all)
	n := len(all)
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("p50 %s, p99 %s, max %s of %d", all[(n-1)/2], all[(n*99+99)/100-1], all[n-1], n)
}

// fault is what befalls a rover, or its driver.
type fault func(t *testing.T, r *rover, driver *os.Process)

func signalTo(s syscall.Signal) fault {
	return func(_ *testing.T, r *rover, _ *os.Process) { r.cmd.Process.Signal(s) }
}

// How long the levels stay up after each fault, and what it is that brings them down. `make faults ROUNDS=100` has the
// distributions.
func TestGPIOFaultTimes(t *testing.T) {
	ttl, slack := 500*time.Millisecond, 50*time.Millisecond
	if !steady() {
		// Here the times are the host's, which has other things to do, so they are not judged; and a driver that is kept
		// waiting still drives when the fault comes.
		ttl = 3 * time.Second
	}
	const (
		ended = "guard: roverd ended in the midst of its work: "
		hung  = "guard: roverd hung and was killed: "
	)
	for _, tt := range []struct {
		name  string
		word  string
		crowd int
		args  []string
		fault fault
		says  string // what stopped the car, according to the log
		ends  bool   // roverd, too
		most  time.Duration
	}{
		{"driver killed", "up", 0, nil, func(_ *testing.T, _ *rover, driver *os.Process) { driver.Kill() }, `"why": "disconnect"`, false, slack},
		{"network cut", "up", 0, nil, func(t *testing.T, _ *rover, _ *os.Process) { loopback(t, false) }, `"why": "ttl"`, false, ttl + slack},
		{"bumper", "up", 0, nil, func(t *testing.T, r *rover, _ *os.Process) {
			if err := r.chip.SetPull(5, 0); err != nil {
				t.Fatal(err)
			}
		}, `"why": "sensor"`, false, slack},
		{"killed", "up", 0, nil, signalTo(syscall.SIGKILL), ended, true, slack},
		{"killed before a crowd of 1000", "up", 1000, nil, signalTo(syscall.SIGKILL), ended, true, slack},
		{"stopped", "up", 0, nil, signalTo(syscall.SIGSTOP), hung, true, ttl + slack},
		{"actor blocked", "up", 0, []string{blockable}, signalTo(syscall.SIGUSR1), hung, true, ttl + slack},
		{"actor blocked at half speed", "up 50", 0, []string{blockable}, signalTo(syscall.SIGUSR1), hung, true, ttl + slack},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var off []time.Duration
			for i := range *rounds {
				t.Run("", func(t *testing.T) {
					chip, trace := piChip(t), traceLines(t)
					config := write(t, fmt.Sprintf("[drive]\nttl = %q\n%s%s", ttl, l298n, bumper))
					r := launch(t, chip, append([]string{"-config", config}, tt.args...)...)
					for range tt.crowd {
						c, err := net.Dial("tcp", r.addr)
						if err != nil {
							t.Fatal(err)
						}
						defer c.Close()
					}
					driver := r.holdButton(tt.word)
					r.wantSoon("driven", 20*time.Second, fullSpeed...)
					time.Sleep(holdEvery * time.Duration(i) / time.Duration(*rounds)) // the lease is of any age
					defer loopback(t, true)
					trace.mark()
					tt.fault(t, r, driver)
					r.wantSoon("after the fault", 20*time.Second, allOff...)
					if tt.ends {
						r.died(tt.says)
					} else {
						r.log.expect(t, tt.says)
					}
					r.wantSoon("in the end", 0, allOff...)
					took := trace.untilOff()
					if steady() && took > tt.most {
						t.Errorf("the lines were off after %s, want %s at most", took, tt.most)
					}
					off = append(off, took)
				})
			}
			t.Logf("%s, and the lines were off after %s", tt.name, spread(off))
		})
	}
}
