package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"roverd/hardware"

	"github.com/gobwas/ws"
	"github.com/warthog618/go-gpiosim"
)

// The whole path on real GPIO lines: roverd as a process of its own, ordinary WebSocket clients, and the levels read
// from the kernel's simulator. `make guest` runs it in a virtual machine that has gpio-sim.

// rover is a roverd process that has a chip's lines.
type rover struct {
	t    *testing.T
	addr string
	chip *gpiosim.Chip         // nil where it is not simulated
	look func() ([]int, error) // reads the levels of offsets from outside
	cmd  *exec.Cmd
	log  *logBuffer
	wait func() // ends it by SIGTERM, unless it has ended, and wants exit code 0
}

// offsets of the lines of l298n, in the order: left forward, backward, enable, right forward, backward, enable.
var offsets = []int{23, 24, 25, 22, 27, 17}

func startRover(t *testing.T, config string, args ...string) *rover {
	t.Helper()
	return launch(t, newChip(t), append(args, "-config", write(t, config+l298n))...)
}

// simulatePi makes a board with a chip like a Raspberry Pi's.
func simulatePi(t *testing.T) *gpiosim.Sim {
	t.Helper()
	if os.Getenv("ROVERD_GUEST") == "" {
		t.Skip("NOT TESTED here: it needs gpio-sim; `make guest` runs it in a virtual machine")
	}
	var lines []gpiosim.NewBankOption
	for i := range 28 {
		lines = append(lines, gpiosim.WithNamedLine(i, fmt.Sprintf("GPIO%d", i)))
	}
	sim, err := gpiosim.NewSim(gpiosim.WithName("roverd"), gpiosim.WithBank(gpiosim.NewBank("pinctrl-bcm2711", 28, lines...)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	return sim
}

// newChip makes a chip like a Raspberry Pi's, of which a test reads the levels.
func newChip(t *testing.T) *gpiosim.Chip {
	t.Helper()
	sim := simulatePi(t)
	// A line that nobody holds is pulled up, so that low means driven low, and not given up.
	for _, offset := range offsets {
		if err := sim.Chips[0].Pullup(offset); err != nil {
			t.Fatal(err)
		}
	}
	return &sim.Chips[0]
}

// launch starts roverd on a chip and waits until it serves.
func launch(t *testing.T, chip *gpiosim.Chip, args ...string) *rover {
	t.Helper()
	r := launchOn(t, func() (all []int, err error) {
		for _, offset := range offsets {
			level, e := chip.Level(offset)
			all, err = append(all, level), errors.Join(err, e)
		}
		return all, err
	}, args...)
	r.chip = chip
	return r
}

func launchOn(t *testing.T, look func() ([]int, error), args ...string) *rover {
	t.Helper()
	r := &rover{t: t, look: look, cmd: command(t, append([]string{"-open", "-addr", ":0"}, args...)...), log: newLogBuffer()}
	r.cmd.Stderr = r.log
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.wait = func() {
		if r.cmd.ProcessState != nil {
			return
		}
		r.cmd.Process.Signal(syscall.SIGTERM)
		if err := r.cmd.Wait(); err != nil {
			t.Errorf("roverd ended with %v; its log:\n%s", err, r.log)
		}
	}
	t.Cleanup(r.wait)
	r.addr = strings.Replace(announced(t, out), "localhost", "127.0.0.1", 1)
	return r
}

func (r *rover) levels() []int {
	r.t.Helper()
	all, err := r.look()
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// wantSoon waits until the levels are as wanted. Only who looks from outside is asked.
func (r *rover) wantSoon(what string, within time.Duration, want ...int) {
	r.t.Helper()
	begin := time.Now()
	for {
		got := r.levels()
		if slices.Equal(got, want) {
			return
		}
		if time.Since(begin) > within {
			r.t.Fatalf("%s: the levels are %v after %s, want %v", what, got, within, want)
		}
		time.Sleep(time.Millisecond) // who is watched needs the processor, too
	}
}

func TestGPIOWords(t *testing.T) {
	r := startRover(t, "[drive]\nttl = \"5s\"\n")
	r.wantSoon("at the start", 0, 0, 0, 0, 0, 0, 0)
	driver, hello := dial(t, r.addr)
	if hello.Car != "pinctrl-bcm2711" {
		t.Errorf("the car is %q", hello.Car)
	}
	for _, tt := range []struct {
		word string
		want []int
	}{
		{"up", []int{1, 0, 1, 1, 0, 1}},
		{"back", []int{0, 1, 1, 0, 1, 1}},
		{"left", []int{0, 1, 1, 1, 0, 1}},
		{"right", []int{1, 0, 1, 0, 1, 1}},
		{"stop", []int{0, 0, 0, 0, 0, 0}},
	} {
		driver.send(tt.word)
		r.wantSoon(tt.word, 4*time.Second, tt.want...)
		driver.expectState(tt.word, func(m message) bool {
			for i, role := range []string{"left.forward", "left.backward", "left.enable", "right.forward", "right.backward", "right.enable"} {
				if m.Lines[role] != float64(tt.want[i]) {
					return false
				}
			}
			return true
		})
	}
	driver.send("cam_up")
	driver.expectError("no_camera")
}

func TestGPIOTimeToLive(t *testing.T) {
	r := startRover(t, "[drive]\nttl = \"300ms\"\n")
	driver, _ := dial(t, r.addr)
	driver.send("up")
	r.wantSoon("up", 4*time.Second, 1, 0, 1, 1, 0, 1)
	r.wantSoon("the time to live is over", 4*time.Second, 0, 0, 0, 0, 0, 0)
	driver.expectState("stopped", func(m message) bool { return m.Cause == "ttl" })
}

// Without the stop on disconnect the time to live of 5 s would hold the lines up for longer than the test waits.
func TestGPIODisconnect(t *testing.T) {
	r := startRover(t, "[drive]\nttl = \"5s\"\n")
	for range 10 {
		driver, _ := dial(t, r.addr)
		driver.send("up")
		r.wantSoon("up", 4*time.Second, 1, 0, 1, 1, 0, 1)
		driver.conn.Close()
		r.wantSoon("the driver has gone", 2*time.Second, 0, 0, 0, 0, 0, 0)
	}
}

// A bumper, a wheel and an HC-SR04 that is not there, all the way to the clients and the motors.
func TestGPIOSensors(t *testing.T) {
	config := strings.NewReplacer("stop_below = 0.25\n", "", "debounce = \"1ms\"\n", "").Replace(sensorsConfig)
	r := startRover(t, "[drive]\nttl = \"5s\"\n"+config)
	driver, _ := dial(t, r.addr)
	wantSensors := func(bumper, wheel float64, front *float64) message {
		t.Helper()
		return driver.expectState("the sensors", func(m message) bool {
			f := m.Sensors["front_m"]
			return *m.Sensors["bumper"] == bumper && *m.Sensors["wheel"] == wheel && (f == nil) == (front == nil) && (f == nil || *f == *front)
		})
	}
	pull := func(line, level int) {
		t.Helper()
		if err := r.chip.SetPull(line, level); err != nil {
			t.Fatal(err)
		}
	}
	wantSensors(0, 0, nil)
	driver.send("up")
	r.wantSoon("up", 4*time.Second, 1, 0, 1, 1, 0, 1)
	silent := hardware.Silent
	wantSensors(0, 0, &silent)
	pull(5, 0) // the bumper's switch to ground
	r.wantSoon("bumped", 4*time.Second, 0, 0, 0, 0, 0, 0)
	if m := wantSensors(1, 0, &silent); m.Cause != "sensor" || m.Motion.Left != 0 {
		t.Errorf("bumped, the state is %+v", m)
	}
	driver.send("up")
	if m := driver.expectError("blocked"); !strings.Contains(m.Message, "bumper") {
		t.Errorf("the refusal says %q", m.Message)
	}
	driver.send("back")
	r.wantSoon("back", 4*time.Second, 0, 1, 1, 0, 1, 1)
	pull(5, 1)
	for i := range 3 {
		pull(16, 1)
		wantSensors(0, float64(i+1), &silent)
		pull(16, 0)
	}
}

// Who has no token watches, and moves no line.
func TestGPIOOnlyTokensDrive(t *testing.T) {
	r := startRover(t, "[tokens]\ncontrol = \"0123456789abcdef\"\n", "-open=false")
	stranger, hello := dial(t, r.addr)
	if hello.Role != "view" {
		t.Errorf("the welcome is %+v", hello)
	}
	for _, word := range []string{"up", "stop", "cam_up"} {
		stranger.send(word)
		stranger.expectError(notAllowed)
	}
	if got := r.levels(); slices.Contains(got, 1) {
		t.Errorf("the levels are %v", got)
	}
	driver, _ := dial(t, r.addr)
	driver.send("auth 0123456789abcdef")
	driver.send("up")
	stranger.expectState("it sees the car drive", func(m message) bool { return m.Motion.Left == 1 })
}

// SIGTERM in full drive: the lines are set low before they are given back, the viewers are told, the exit code is 0.
// The kernel's own trace of the values set tells the one from the other.
func TestGPIOTerminate(t *testing.T) {
	r := startRover(t, "[drive]\nttl = \"5s\"\n")
	trace := traceLines(t)
	driver, _ := dial(t, r.addr)
	driver.send("up")
	r.wantSoon("up", 4*time.Second, 1, 0, 1, 1, 0, 1)
	trace.begin()
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.wait() }()
	driver.expectState("it stands", func(m message) bool { return m.Motion.Left == 0 })
	driver.expectClose(ws.StatusGoingAway)
	<-stopped
	set := map[int]int{} // by line, what it was last set to
	for _, e := range trace.events() {
		set[e.line] = e.level
	}
	if len(set) != len(offsets) {
		t.Errorf("on the way out these lines were set: %v; want %d lines", set, len(offsets))
	}
	for line, level := range set {
		if level != 0 {
			t.Errorf("line %d was left at %d", line, level)
		}
	}
}
