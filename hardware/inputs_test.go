package hardware

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/warthog618/go-gpiocdev"
	"github.com/warthog618/go-gpiosim"
	"golang.org/x/sys/unix"
)

// The inputs on real GPIO character devices: the simulator's pulls are the switches, the wheel and the sound. See
// gpio_test.go.

type reading struct {
	sensor int
	value  float64
	at     time.Time
}

func openSensors(t *testing.T, sensors ...Sensor) (*Sensors, chan reading) {
	t.Helper()
	readings := make(chan reading, 10_000)
	s, err := OpenSensors(sensors, func(i int, value float64) { readings <- reading{i, value, time.Now()} })
	if err != nil {
		t.Fatal(err)
	}
	return s, readings
}

// wantReading waits for the next reading.
func wantReading(t *testing.T, what string, readings chan reading, sensor int, value float64) reading {
	t.Helper()
	select {
	case r := <-readings:
		if r.sensor != sensor || r.value != value {
			t.Fatalf("%s: sensor %d reads %v, want sensor %d, %v", what, r.sensor, r.value, sensor, value)
		}
		return r
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: no reading, want sensor %d, %v", what, sensor, value)
	}
	panic("unreachable")
}

// wantEnd closes the sensors, and wants no reading more, no failure, and the lines to be free.
func wantEnd(t *testing.T, s *Sensors, readings chan reading, chip *gpiosim.Chip, lines ...int) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case r := <-readings:
		t.Errorf("one reading too many: %+v", r)
	case err := <-s.Failed():
		t.Errorf("the end counts as a failure: %v", err)
	default:
	}
	wantFree(t, chip, lines...)
}

func wantFree(t *testing.T, chip *gpiosim.Chip, lines ...int) {
	t.Helper()
	device, err := gpiocdev.NewChip(chip.ChipName())
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	for _, line := range lines {
		if info, err := device.LineInfo(line); err != nil || info.Used {
			t.Errorf("line %d is still held: %+v, %v", line, info, err)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

func set(t *testing.T, chip *gpiosim.Chip, line, level int) {
	t.Helper()
	if err := chip.SetPull(line, level); err != nil {
		t.Fatal(err)
	}
}

func TestGPIOContact(t *testing.T) {
	chips := simulate(t, pi("pinctrl-bcm2711", true), gpiosim.NewBank("expander", 8, gpiosim.WithNamedLine(3, "bump")))
	for _, tt := range []struct {
		name   string
		sensor Sensor
		chip   int
		line   int
		before int // the pull before the line is requested
		start  float64
	}{
		{"low at the start", Sensor{Line: "GPIO5"}, 0, 5, 0, 0},
		{"high at the start", Sensor{Line: "GPIO5"}, 0, 5, 1, 1},
		{"active low", Sensor{Line: "GPIO6", ActiveLow: true}, 0, 6, 1, 0},
		{"pulled up", Sensor{Line: "GPIO6", Pull: "up"}, 0, 6, 0, 1},
		{"pulled down", Sensor{Line: "GPIO6", Pull: "down"}, 0, 6, 1, 0},
		{"another chip", Sensor{Line: "bump", ActiveLow: true, Pull: "up"}, 1, 3, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chip := &chips[tt.chip]
			set(t, chip, tt.line, tt.before)
			tt.sensor.Name, tt.sensor.Kind = "contact", Contact
			before := openFiles(t)
			s, readings := openSensors(t, Sensor{Name: "x", Kind: Truth}, tt.sensor)
			wantReading(t, "at the start", readings, 1, tt.start)
			value := tt.start
			for range 20 {
				value = 1 - value
				if err := chip.Toggle(tt.line); err != nil {
					t.Fatal(err)
				}
				wantReading(t, "an edge", readings, 1, value)
			}
			wantEnd(t, s, readings, chip, tt.line)
			if after := openFiles(t); after != before {
				t.Errorf("%d files are open, %d before", after, before)
			}
		})
	}
}

// Of a switch that bounces one edge is told, when it has been still for long enough.
func TestGPIODebounce(t *testing.T) {
	chip := &simulate(t, pi("pinctrl-bcm2711", true))[0]
	const still = 100 * time.Millisecond
	s, readings := openSensors(t, Sensor{Name: "bumper", Kind: Contact, Line: "GPIO5", Debounce: still})
	wantReading(t, "at the start", readings, 0, 0)
	for _, end := range []float64{1, 0, 1} {
		for range 9 {
			if err := chip.Toggle(5); err != nil {
				t.Fatal(err)
			}
		}
		last := time.Now()
		if r := wantReading(t, "bounced", readings, 0, end); r.at.Sub(last) < still*9/10 {
			t.Errorf("told %s after the last bounce, want at least %s", r.at.Sub(last), still)
		}
	}
	wantEnd(t, s, readings, chip, 5)
}

// Every pulse counts, far more of them than the kernel keeps edges, and there are few readings.
func TestGPIOEncoder(t *testing.T) {
	chip := &simulate(t, pi("pinctrl-bcm2711", true))[0]
	s, readings := openSensors(t, Sensor{Name: "wheel", Kind: Encoder, Line: "GPIO5"})
	set(t, chip, 5, 1)
	wantReading(t, "the first pulse", readings, 0, 1)
	set(t, chip, 5, 0)
	shareProcessor(t)
	const pulses = 1000
	begin := time.Now()
	for range pulses - 1 {
		set(t, chip, 5, 1)
		set(t, chip, 5, 0)
	}
	turned := time.Since(begin)
	var all []reading
	for len(all) == 0 || all[len(all)-1].value < pulses {
		select {
		case r := <-readings:
			all = append(all, r)
		case <-time.After(10 * time.Second):
			t.Fatalf("the wheel has stopped at %d pulses, but the count at %+v", pulses, all[len(all)-1])
		}
	}
	if last := all[len(all)-1]; last.value != pulses {
		t.Errorf("%d pulses count as %v", pulses, last.value)
	}
	for i := 1; i < len(all); i++ {
		if d := all[i].at.Sub(all[i-1].at); d < countEvery*9/10 {
			t.Errorf("a reading %s after the one before", d)
		}
	}
	if len(all) > pulses/edgeBuffer {
		t.Errorf("%d readings of %d pulses in %s: the kernel's buffer never overflowed, so this tests nothing", len(all), pulses, turned)
	}
	t.Logf("%d pulses in %s, %d readings", pulses, turned, len(all))
	time.Sleep(3 * countEvery)
	wantEnd(t, s, readings, chip, 5) // a wheel that stands is not told again
}

// shareProcessor puts the calling test and the kernel's threads for edges onto one processor. There they go first, so
// that none has to take two edges for one: gpio-sim may be faster than they are.
func shareProcessor(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	var first unix.CPUSet
	first.Set(0)
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	threads := []int{0} // our own
	for _, name := range names {
		comm, _ := os.ReadFile(name)
		if strings.HasPrefix(string(comm), "irq/") && strings.HasSuffix(string(comm), "-roverd\n") {
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			threads = append(threads, pid)
		}
	}
	if len(threads) < 2 {
		t.Fatal("the kernel has no thread for roverd's edges")
	}
	for _, pid := range threads {
		if err := unix.SchedSetaffinity(pid, &first); err != nil {
			t.Fatal(err)
		}
	}
}

// traceEvent is what the kernel's trace tells of a line: that it was set, or, with the name of who holds it, that an
// edge of it interrupted the kernel.
type traceEvent struct {
	at    time.Duration // on CLOCK_MONOTONIC
	edge  bool
	line  string // in the kernel's numbering of all lines; empty for an edge
	level int
}

var traced = regexp.MustCompile(` ([0-9]+)\.([0-9]{6}): (?:gpio_value: ([0-9]+) set ([01])|irq_handler_entry: irq=[0-9]+ name=roverd$)`)

func parseTrace(line string) (e traceEvent, ok bool) {
	m := traced.FindStringSubmatch(line)
	if m == nil {
		return e, false
	}
	seconds, _ := strconv.Atoi(m[1])
	micros, _ := strconv.Atoi(m[2])
	e.at = time.Duration(seconds)*time.Second + time.Duration(micros)*time.Microsecond
	e.line, e.edge = m[3], m[3] == ""
	e.level, _ = strconv.Atoi(m[4])
	return e, true
}

func TestGPIOSensorErrors(t *testing.T) {
	chip := &simulate(t, pi("pinctrl-bcm2711", true))[0]
	held, err := gpiocdev.RequestLine(chip.ChipName(), 7, gpiocdev.WithConsumer("somebody"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for _, tt := range []struct {
		name   string
		sensor Sensor
		err    string
	}{
		{"no such name", Sensor{Kind: Contact, Line: "nose"}, `sensor "front": line: no chip has a line named "nose"`},
		{"busy", Sensor{Kind: Encoder, Line: "GPIO7"}, `sensor "front": line: line "GPIO7" of pinctrl-bcm2711 is in use by "somebody"`},
		{"busy echo", Sensor{Kind: Distance, Line: "GPIO7", Trigger: "GPIO8"}, `sensor "front": echo: line "GPIO7" of pinctrl-bcm2711 is in use by "somebody"`},
		{"busy trigger", Sensor{Kind: Distance, Line: "GPIO8", Trigger: "GPIO7"}, `sensor "front": trigger: line "GPIO7" of pinctrl-bcm2711 is in use by "somebody"`},
		{"no such trigger", Sensor{Kind: Distance, Line: "GPIO8", Trigger: "GPIO99"}, `sensor "front": trigger: line "GPIO99": chip pinctrl-bcm2711 has lines 0 to 27`},
		{"taken by another", Sensor{Kind: Contact, Line: "GPIO5"}, `sensor "front": line: line "GPIO5" of pinctrl-bcm2711 is in use by "roverd"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.sensor.Name = "front"
			s, err := OpenSensors([]Sensor{
				{Name: "bumper", Kind: Contact, Line: "GPIO5"}, {Name: "wheel", Kind: Encoder, Line: "GPIO6"}, tt.sensor,
			}, func(int, float64) {})
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("the error is %v, want one that says %s", err, tt.err)
			}
			if s != nil {
				t.Error("there are sensors all the same")
			}
			wantFree(t, chip, 5, 6, 8)
		})
	}
}

// A bumper on a chip of its own: from the edge to the motors' lines, both seen from outside.
func TestGPIOEdgeToStop(t *testing.T) {
	chips := simulate(t, pi("pinctrl-bcm2711", true), gpiosim.NewBank("expander", 8, gpiosim.WithNamedLine(3, "bump")))
	lines, _, err := OpenLines(l298n.Outputs())
	if err != nil {
		t.Fatal(err)
	}
	cfg := l298n
	cfg.TTL = MaxTTL
	cfg.Sensors = []Sensor{{Name: "bumper", Kind: Contact, Line: "bump", Pull: "down", Stop: 1}}
	trace := startTrace(t, "gpio/gpio_value", "irq/irq_handler_entry") + "/trace"
	states := make(chan State, 1000)
	car := New(cfg, lines, nil, func(s State) { states <- s })
	inputs, err := OpenSensors(cfg.Sensors, car.Report)
	if err != nil {
		t.Fatal(err)
	}
	car.Sense(inputs)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- car.Run(ctx) }()
	until := func(what string, reached func(State) bool) State {
		t.Helper()
		for {
			select {
			case s := <-states:
				if reached(s) {
					return s
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: not reached", what)
			}
		}
	}

	high := levelReader(t, &chips[0], 25) // left.enable
	var outer, inner []time.Duration      // by our clock, and by the kernel's trace
	for range 100 {
		car.Do(Command{Kind: Drive, Left: 1, Right: 1, At: time.Now()})
		until("ahead", func(s State) bool { return s.Left == 1 })
		if err := os.WriteFile(trace, nil, 0); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		set(t, &chips[1], 3, 1)
		for high() {
			if time.Since(begin) > 4*time.Second {
				t.Fatal("the bumper does not stop the car")
			}
		}
		outer = append(outer, time.Since(begin))
		if s := until("stopped", func(s State) bool { return s.Left == 0 }); s.Cause != CauseSensor {
			t.Errorf("the cause is %q", s.Cause)
		}
		if levels := outside(t, &chips[0]); slices.Contains(levels, 1) {
			t.Errorf("stopped, the levels are %v", levels)
		}
		inner = append(inner, edgeToStop(t, trace))
		set(t, &chips[1], 3, 0)
		until("free", func(s State) bool { return s.Sensors[0] == 0 })
	}
	for _, by := range []struct {
		clock string
		took  []time.Duration
	}{{"by the kernel's trace", inner}, {"pull to level, seen from outside", outer}} {
		slices.Sort(by.took)
		t.Logf("edge to stop, 100 times, %s: p50 %s, p99 %s, max %s", by.clock, by.took[49], by.took[98], by.took[99])
	}
	if inner[49] > 40*time.Millisecond {
		t.Error("that is more than an event needs, even here")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	wantFree(t, &chips[1], 3)
	wantFree(t, &chips[0], 17, 22, 23, 24, 25, 27)
}

// levelReader returns what tells whether a line is high. Unlike the simulator's own way it opens no file each time, which
// would have Go's poller busy with it, the same that waits for the edges.
func levelReader(t *testing.T, chip *gpiosim.Chip, line int) func() bool {
	t.Helper()
	names, _ := filepath.Glob(fmt.Sprintf("/sys/devices/platform/*/%s/sim_gpio%d/value", chip.ChipName(), line))
	if len(names) != 1 {
		t.Fatalf("the simulator has these for line %d: %v", line, names)
	}
	fd, err := unix.Open(names[0], unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	level := make([]byte, 1)
	return func() bool {
		if _, err := unix.Pread(fd, level, 0); err != nil {
			t.Fatal(err)
		}
		return level[0] == '1'
	}
}

// edgeToStop returns how long it was, by the kernel's trace, from a contact's edge until the last line was set low.
func edgeToStop(t *testing.T, trace string) time.Duration {
	t.Helper()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var edge, low time.Duration
	for line := range strings.Lines(string(text)) {
		if e, ok := parseTrace(strings.TrimSpace(line)); ok && e.edge {
			edge = e.at
		} else if ok && e.level == 0 {
			low = e.at
		}
	}
	if edge == 0 || low < edge {
		t.Fatalf("no edge and stop in the trace:\n%s", text)
	}
	return low - edge
}

// While nothing moves the inputs cost nothing: they do not wake a thread of this process.
func TestGPIOInputsSleep(t *testing.T) {
	simulate(t, pi("pinctrl-bcm2711", true))
	// What the runtime does of its own accord, like giving memory back, is over some time; what polls goes on for ever.
	wakeUps := func(enough int) int {
		least := math.MaxInt
		for windows := 0; windows < 20 && least > enough; windows++ {
			before := switches(t)
			time.Sleep(500 * time.Millisecond)
			least = min(least, switches(t)-before)
		}
		return least
	}
	const few = 4 // timers of the runtime and of the test itself
	without := wakeUps(few)
	s, readings := openSensors(t, Sensor{Name: "bumper", Kind: Contact, Line: "GPIO5"}, Sensor{Name: "wheel", Kind: Encoder, Line: "GPIO6"},
		Sensor{Name: "front", Kind: Distance, Line: "GPIO24", Trigger: "GPIO23"})
	defer s.Close()
	wantReading(t, "contact", readings, 0, 0)
	wantReading(t, "distance", readings, 2, Unknown)
	with := wakeUps(without + few)
	t.Logf("in half a second at rest this process is woken %d times, %d times without the inputs", with, without)
	if with > without+few {
		t.Error("the inputs do not sleep")
	}
}

// A chip that goes, as one on USB can, is a failure that names the sensor and the line.
func TestGPIOChipGone(t *testing.T) {
	simulate(t, pi("pinctrl-bcm2711", true))
	s, readings := openSensors(t, Sensor{Name: "front", Kind: Distance, Line: "GPIO24", Trigger: "GPIO23"})
	wantReading(t, "distance", readings, 0, Unknown)
	alive := func(yes string) {
		if err := os.WriteFile("/sys/kernel/config/gpio-sim/roverd/live", []byte(yes), 0); err != nil {
			t.Fatal(err)
		}
	}
	alive("0")
	defer alive("1") // or the simulator can't be closed
	s.Watch(true)
	const want = `sensor "front": line "GPIO23" of pinctrl-bcm2711: no such device`
	select {
	case err := <-s.Failed():
		if err.Error() != want {
			t.Errorf("the failure is %v, want %s", err, want)
		}
	case <-time.After(10 * time.Second):
		t.Error("no failure")
	}
	s.Close()
}

// switches counts how often the threads of this process have gone to sleep.
func switches(t *testing.T) (n int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		if err != nil {
			continue // it has ended
		}
		_, count, _ := strings.Cut(string(status), "\nvoluntary_ctxt_switches:\t")
		var more int
		fmt.Sscan(count, &more)
		n += more
	}
	return n
}
