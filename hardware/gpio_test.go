package hardware

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/warthog618/go-gpiocdev"
	"github.com/warthog618/go-gpiosim"
	"golang.org/x/sys/unix"
)

// These tests drive real GPIO character devices of the kernel's gpio-sim, and read every level from the simulator's
// side, in sysfs, not through our own code. `make guest` runs them in a virtual machine that has them.

// simulate makes simulated chips, or skips the test where there can be none.
func simulate(t *testing.T, banks ...*gpiosim.Bank) []gpiosim.Chip {
	t.Helper()
	if os.Getenv("ROVERD_GUEST") == "" {
		t.Skip("NOT TESTED here: it needs gpio-sim; `make guest` runs it in a virtual machine")
	}
	options := []gpiosim.NewSimOption{gpiosim.WithName("roverd")}
	for _, b := range banks {
		options = append(options, gpiosim.WithBank(b))
	}
	sim, err := gpiosim.NewSim(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	return sim.Chips
}

// pi is a chip like a Raspberry Pi's: GPIO17 is line 17, and so on.
func pi(label string, named bool) *gpiosim.Bank {
	var options []gpiosim.NewBankOption
	for i := range 28 {
		if named {
			options = append(options, gpiosim.WithNamedLine(i, fmt.Sprintf("GPIO%d", i)))
		}
	}
	return gpiosim.NewBank(label, 28, options...)
}

func wiring(lines ...string) Config {
	return Config{Motors: Motors{
		Driver:   L298N,
		Left:     Motor{Forward: lines[0], Backward: lines[1], Enable: lines[2]},
		Right:    Motor{Forward: lines[3], Backward: lines[4], Enable: lines[5]},
		DeadTime: DefaultDeadTime,
	}}
}

var l298n = wiring("GPIO23", "GPIO24", "GPIO25", "GPIO22", "GPIO27", "GPIO17")

// outside reads the lines of l298n from the simulator.
func outside(t *testing.T, c *gpiosim.Chip) []int {
	t.Helper()
	var levels []int
	for _, offset := range []int{23, 24, 25, 22, 27, 17} {
		level, err := c.Level(offset)
		if err != nil {
			t.Fatal(err)
		}
		levels = append(levels, level)
	}
	return levels
}

func TestGPIOLinesAreFound(t *testing.T) {
	chips := simulate(t,
		gpiosim.NewBank("expander", 8, gpiosim.WithNamedLine(1, "fan"), gpiosim.WithNamedLine(2, "lamp"), gpiosim.WithNamedLine(3, "GPIO9")),
		pi("pinctrl-bcm2835", false), pi("named", true))
	for _, tt := range []struct {
		name string
		car  Config
		chip int // the one that moves
		err  string
	}{
		{"by name", wiring("GPIO23", "GPIO24", "GPIO25", "GPIO22", "GPIO27", "GPIO17"), 2, ""},
		{"by label and offset", wiring("pinctrl-bcm2835:23", "pinctrl-bcm2835:24", "pinctrl-bcm2835:25", "pinctrl-bcm2835:22",
			"pinctrl-bcm2835:27", "pinctrl-bcm2835:17"), 1, ""},
		{"no such name", wiring("GPIO23", "wheel", "", "GPIO22", "GPIO27", ""), 0, `left.backward: no chip has a line named "wheel"`},
		{"no such number", wiring("GPIO99", "GPIO24", "", "GPIO22", "GPIO27", ""), 0, `left.forward: line "GPIO99": chip pinctrl-bcm2835 has lines 0 to 27`},
		{"no such chip", wiring("GPIO23", "pca:4", "", "GPIO22", "GPIO27", ""), 0, `line "pca:4": no chip has the label "pca"`},
		{"not a number", wiring("GPIO23", "named:x", "", "GPIO22", "GPIO27", ""), 0, `"x" is not a line number`},
		{"two chips", wiring("GPIO23", "fan", "", "GPIO22", "GPIO27", ""), 0, "all lines must be on one chip"},
		{"one line twice", wiring("GPIO23", "GPIO24", "", "GPIO22", "GPIO23", ""), 0, `right.backward: line "GPIO23" is already left.forward`},
		{"a name on two chips", wiring("GPIO9", "GPIO24", "", "GPIO22", "GPIO27", ""), 0, `line "GPIO9" is on chip expander and on named`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			lines, where, err := OpenLines(tt.car.Outputs())
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("the error is %v, want one that says %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer lines.Close()
			if err := lines.Set([]float64{1, 0, 1, 0, 1, 1}); err != nil {
				t.Fatal(err)
			}
			if got := outside(t, &chips[tt.chip]); !slices.Equal(got, []int{1, 0, 1, 0, 1, 1}) {
				t.Errorf("on chip %s the levels are %v", where, got)
			}
		})
	}
}

func TestGPIOUnnamedLines(t *testing.T) {
	chips := simulate(t, pi("other", false), pi("pinctrl-bcm2835", false))
	lines, where, err := OpenLines(l298n.Outputs())
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	if err := lines.Set([]float64{0, 1, 1, 1, 0, 1}); err != nil {
		t.Fatal(err)
	}
	if got := outside(t, &chips[1]); where != "pinctrl-bcm2835" || !slices.Equal(got, []int{0, 1, 1, 1, 0, 1}) {
		t.Errorf("on chip %s the levels are %v", where, got)
	}
}

func TestGPIOBusyLine(t *testing.T) {
	chips := simulate(t, pi("pinctrl-bcm2711", true))
	held, err := gpiocdev.RequestLine(chips[0].ChipName(), 22, gpiocdev.WithConsumer("somebody"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	_, _, err = OpenLines(l298n.Outputs())
	if want := `right.forward: line "GPIO22" of pinctrl-bcm2711 is in use by "somebody"`; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %v, want one that says %s", err, want)
	}
}

// The lines of a roverd that has just died are its guard's for a moment more.
func TestGPIOLinesOfTheDead(t *testing.T) {
	simulate(t, pi("pinctrl-bcm2711", true))
	next, _, err := OpenLines(l298n.Outputs())
	for i := range 100 { // at any moment of the next one's attempts
		if err != nil {
			t.Fatal(err)
		}
		dead := next
		time.AfterFunc(time.Duration(i)*30*time.Microsecond, func() { dead.Close() })
		next, _, err = OpenLines(l298n.Outputs())
	}
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, _, err = OpenLines(l298n.Outputs())
	if want := fmt.Sprintf(`in use by "roverd %d"`, os.Getpid()); err == nil || !strings.Contains(err.Error(), want) || time.Since(begin) < deathTime {
		t.Errorf("of one that lives on, after %s: %v, want an error that says %s", time.Since(begin), err, want)
	}
	next.Close()
}

// persist makes released outputs keep their levels until the end of the test, as on a Raspberry Pi.
func persist(t *testing.T) {
	t.Helper()
	const parameter = "/sys/module/gpio_sim/parameters/persist"
	if err := os.WriteFile(parameter, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(parameter, []byte("0"), 0); err != nil {
			t.Error(err)
		}
	})
}

// The simulator does both that boards do with a line which is released while it is on: other tests rely on it.
func TestGPIOReleasedLine(t *testing.T) {
	for _, persists := range []bool{false, true} {
		t.Run(fmt.Sprint("persists=", persists), func(t *testing.T) {
			chips := simulate(t, pi("pinctrl-bcm2711", true))
			if persists {
				persist(t)
			}
			lines, _, err := OpenLines(l298n.Outputs())
			if err != nil {
				t.Fatal(err)
			}
			want := []int{1, 0, 1, 0, 1, 1}
			if err := errors.Join(lines.Set([]float64{1, 0, 1, 0, 1, 1}), lines.Close()); err != nil {
				t.Fatal(err)
			}
			if !persists {
				want = []int{0, 0, 0, 0, 0, 0}
			}
			if got := outside(t, &chips[0]); !slices.Equal(got, want) {
				t.Errorf("after their release the levels are %v, want %v", got, want)
			}
		})
	}
}

// The car on real lines: what each command does to the levels, seen from outside, and that on the way from one to the
// next no bridge is ever driven both ways.
func TestGPIOCar(t *testing.T) {
	chips := simulate(t, pi("pinctrl-bcm2711", true))
	chip := &chips[0]
	lines, _, err := OpenLines(l298n.Outputs())
	if err != nil {
		t.Fatal(err)
	}
	trace := traceValues(t)
	states := make(chan State, 1000)
	cfg := l298n
	cfg.TTL = 2 * time.Second
	car := New(cfg, lines, nil, func(s State) { states <- s })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- car.Run(ctx) }()

	for _, tt := range []struct {
		name        string
		left, right float64
		want        []int
	}{
		{"ahead", 1, 1, []int{1, 0, 1, 1, 0, 1}},
		{"back", -1, -1, []int{0, 1, 1, 0, 1, 1}},
		{"left", -1, 1, []int{0, 1, 1, 1, 0, 1}},
		{"right", 1, -1, []int{1, 0, 1, 0, 1, 1}},
		{"ahead again", 1, 1, []int{1, 0, 1, 1, 0, 1}},
		{"stop", 0, 0, []int{0, 0, 0, 0, 0, 0}},
	} {
		cmd := Command{Kind: Drive, Left: tt.left, Right: tt.right, At: time.Now()}
		if tt.left == 0 {
			cmd.Kind = Stop
		}
		car.Do(cmd)
		var s State
		for s.Left != tt.left || s.Right != tt.right || s.Seq == 0 {
			s = <-states
		}
		if got := outside(t, chip); !slices.Equal(got, tt.want) {
			t.Errorf("%s: the levels are %v, want %v", tt.name, got, tt.want)
		}
	}
	car.Do(Command{Kind: Drive, Left: 1, Right: 1, TTL: 300 * time.Millisecond, At: time.Now()})
	for s := range states {
		if s.Cause == CauseTTL {
			break
		}
	}
	if got := outside(t, chip); slices.Contains(got, 1) {
		t.Errorf("after the time to live the levels are %v", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	wantNoConflict(t, trace())
}

// traceValues has the kernel trace every value that is set on a line (event gpio_value), whoever sets it, from now on.
func traceValues(t *testing.T) (read func() string) {
	t.Helper()
	dir := startTrace(t, "gpio/gpio_value")
	return func() string {
		text, err := os.ReadFile(dir + "/trace")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

// startTrace has the kernel trace these events, with the time on CLOCK_MONOTONIC, and returns the folder with the trace.
func startTrace(t *testing.T, events ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tracefs", dir, "tracefs", 0, ""); err != nil {
		t.Fatal(err)
	}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(dir+file, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		write("/events/enable", "0")
		write("/trace", "")
		unix.Unmount(dir, 0)
	})
	write("/trace_clock", "mono")
	write("/options/record-cmd", "0") // why: see server/trace_test.go
	write("/trace", "")
	for _, e := range events {
		write("/events/"+e+"/enable", "1")
	}
	return dir
}

// wantNoConflict replays a trace of l298n, line by line as the kernel set them, and wants no bridge to have been
// driven both ways at any moment, not even within one call.
func wantNoConflict(t *testing.T, trace string) {
	t.Helper()
	type event struct{ line, value int }
	var events []event
	base := math.MaxInt // of the chip, in the kernel's numbering of all lines
	for _, m := range regexp.MustCompile(`gpio_value: ([0-9]+) set ([01])`).FindAllStringSubmatch(trace, -1) {
		line, _ := strconv.Atoi(m[1])
		value, _ := strconv.Atoi(m[2])
		events = append(events, event{line, value})
		base = min(base, line-17) // the lowest of l298n's lines
	}
	if len(events) < 50 {
		t.Errorf("the kernel traced only %d values set:\n%s", len(events), trace)
	}
	level := map[int]int{}
	for i, e := range events {
		level[e.line-base] = e.value
		if level[23]+level[24] > 1 || level[22]+level[27] > 1 {
			t.Errorf("after %d of %d values set, both inputs of a bridge are high: %v", i+1, len(events), level)
		}
	}
}

// The pulses of two servos beside two motors that turn slowly, as the kernel saw them.
func TestGPIOServoPulses(t *testing.T) {
	simulate(t, pi("pinctrl-bcm2711", true))
	lines, _, err := OpenLines([]Output{
		{Role: "camera.pan", Line: "GPIO5", Period: servoPeriod, Whole: true},
		{Role: "camera.tilt", Line: "GPIO6", Period: servoPeriod, Whole: true},
		{Role: "left.enable", Line: "GPIO25", Period: 10 * time.Millisecond},
		{Role: "right.enable", Line: "GPIO17", Period: 10 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	const asked, count = 1500 * time.Microsecond, 100
	trace := traceValues(t)
	before, start := cpuTime(), time.Now()
	if err := lines.Set([]float64{.075, .075, .6, .4}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(count * servoPeriod) // that is what is measured, and nothing waits for it
	used := cpuTime() - before
	if err := errors.Join(lines.Set([]float64{0, 0, 0, 0}), lines.Close()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	widths := map[int][]time.Duration{}
	rose := map[int]time.Duration{}
	base := math.MaxInt
	for _, m := range regexp.MustCompile(`([0-9]+)\.([0-9]{6}): gpio_value: ([0-9]+) set ([01])`).FindAllStringSubmatch(trace(), -1) {
		at, err := time.ParseDuration(m[1] + "s" + m[2] + "us")
		if err != nil {
			t.Fatal(err)
		}
		line, _ := strconv.Atoi(m[3])
		base = min(base, line-5) // GPIO5 is the lowest
		up, rising := rose[line]
		if m[4] == "1" && !rising {
			rose[line] = at
		} else if m[4] == "0" && rising {
			widths[line] = append(widths[line], at-up)
			delete(rose, line)
		}
	}
	if len(rose) > 0 {
		t.Errorf("these lines were left on: %v", rose)
	}
	for _, line := range []int{5, 6} {
		got := slices.Sorted(slices.Values(widths[base+line]))
		if len(got) == 0 {
			t.Fatalf("GPIO%d had no pulses:\n%s", line, trace())
		}
		share := func(part float64) time.Duration { return got[int(part*float64(len(got)-1))] - asked }
		t.Logf("GPIO%d: %d pulses, too long by %v at least, %v (p50), %v (p90), %v (p99), %v at most",
			line, len(got), share(0), share(.5), share(.9), share(.99), share(1))
		// The trace has whole microseconds, and a servo does not feel five (SG90 datasheet: dead band).
		if share(0) < -5*time.Microsecond {
			t.Errorf("GPIO%d had a pulse of %v, want %v at least", line, got[0], asked)
		}
		if len(got) > int(took/servoPeriod)+1 {
			t.Errorf("GPIO%d had %d pulses in %v", line, len(got), took)
		}
	}
	t.Logf("%d and %d pulses for the motors; %.1f %% of a processor", len(widths[base+25]), len(widths[base+17]), 100*used.Seconds()/took.Seconds())
}
