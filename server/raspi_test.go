package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roverd on a Raspberry Pi 3 that QEMU emulates: there a released output keeps its level, which is what the guard is
// for. `make raspi` runs these tests. The levels are read from the GPIO controller's registers, by QEMU's monitor from
// outside of the machine, and in its memory where time matters.

// raspi is the Pi's GPIO controller.
type raspi struct {
	serial *bufio.ReadWriter
	memory []byte
}

// Where the controller's registers are: BCM2835 ARM Peripherals, 6.1, but for the BCM2837's base.
const (
	raspiGPIO = 0x3f200000
	gplev0    = 0x34
)

func newRaspi(t *testing.T) *raspi {
	t.Helper()
	name := os.Getenv("ROVERD_PI")
	if name == "" {
		t.Skip("NOT TESTED here: it needs a Raspberry Pi; `make raspi` emulates one")
	}
	serial, err := os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { serial.Close() })
	mem, err := os.OpenFile("/dev/mem", os.O_RDONLY|os.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	memory, err := unix.Mmap(int(mem.Fd()), raspiGPIO, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(memory) })
	return &raspi{bufio.NewReadWriter(bufio.NewReader(serial), bufio.NewWriter(serial)), memory}
}

// look asks from outside. A line that is no output is not driven, whatever its level: that is an error.
func (p *raspi) look() (all []int, err error) {
	fmt.Fprintln(p.serial, "PINS")
	if err := p.serial.Flush(); err != nil {
		return nil, err
	}
	line, err := p.serial.ReadString('\n')
	if err != nil {
		return nil, err
	}
	var registers [gplev0/4 + 2]uint32
	for i, word := range strings.Fields(line) {
		if _, err := fmt.Sscanf(word, "0x%x", &registers[i]); err != nil {
			return nil, fmt.Errorf("the registers %q: %w", line, err)
		}
	}
	const output = 1 // GPFSEL's function, 3 bits a line
	for _, offset := range offsets {
		if function := registers[offset/10] >> (offset % 10 * 3) & 7; function != output {
			return nil, fmt.Errorf("line %d has function %d, want an output", offset, function)
		}
		all = append(all, int(registers[gplev0/4]>>offset&1))
	}
	return all, nil
}

// allLow waits until no motor's line is high, and returns when that was.
func (p *raspi) allLow(t *testing.T, within time.Duration) time.Time {
	t.Helper()
	var mask uint32
	for _, offset := range offsets {
		mask |= 1 << offset
	}
	for begin := time.Now(); ; {
		high := binary.NativeEndian.Uint32(p.memory[gplev0:]) & mask
		now := time.Now()
		if high == 0 {
			return now
		}
		if now.Sub(begin) > within {
			t.Fatalf("after %s lines are high: %b", within, high)
		}
		time.Sleep(time.Millisecond) // each look stops the emulated machine for a moment
	}
}

func TestRaspiWords(t *testing.T) {
	r := launchOn(t, newRaspi(t).look, "-config", write(t, longTTL))
	driver, hello := dial(t, r.addr)
	if hello.Car != "pinctrl-bcm2835" {
		t.Errorf("the car is %q", hello.Car)
	}
	for _, tt := range []struct {
		word string
		want []int
	}{
		{"up", fullSpeed},
		{"back", []int{0, 1, 1, 0, 1, 1}},
		{"left", []int{0, 1, 1, 1, 0, 1}},
		{"stop", allOff},
	} {
		driver.send(tt.word)
		r.wantSoon(tt.word, 4*time.Second, tt.want...)
	}
}

// roverd leaves the lines low by itself when it has the time.
func TestRaspiTerminate(t *testing.T) {
	r := launchOn(t, newRaspi(t).look, "-config", write(t, longTTL), "-guard=false")
	r.drive()
	r.wait()
	r.wantSoon("in the end", 0, allOff...)
}

// What becomes of a car whose roverd hangs, and is then killed, without a guard.
func TestRaspiWithoutGuard(t *testing.T) {
	const ttl = time.Second
	config := write(t, "[drive]\nttl = \"1s\"\n"+l298n)
	r := launchOn(t, newRaspi(t).look, "-config", config, "-guard=false")
	drivesOn := func(why string) {
		t.Helper()
		for begin := time.Now(); time.Since(begin) < 2*ttl; {
			r.wantSoon(why+", and no guard", 0, fullSpeed...)
		}
	}
	r.drive()
	r.cmd.Process.Signal(syscall.SIGSTOP)
	drivesOn("roverd hangs")
	r.cmd.Process.Kill()
	r.died("")
	drivesOn("roverd was killed")
	if out, err := command(t, "stop", "-config", config).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	r.wantSoon("switched off by hand", 0, allOff...)
}

// raspiSlack is for what takes a few milliseconds.
const raspiSlack = 250 * time.Millisecond

func TestRaspiGuard(t *testing.T) {
	for _, tt := range []struct {
		name, config string
		signal       syscall.Signal
		says         string
		within       time.Duration
	}{
		{"killed", longTTL, syscall.SIGKILL, "guard: roverd ended in the midst of its work: the outputs were off after ", raspiSlack},
		{"hung", "[drive]\nttl = \"2s\"\n" + l298n, syscall.SIGSTOP,
			"guard: roverd hung and was killed: the outputs were off after ", 2*time.Second + raspiSlack},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newRaspi(t)
			config := write(t, tt.config)
			var took []time.Duration
			for range *rounds {
				r := launchOn(t, p.look, "-config", config)
				r.drive()
				begin := time.Now()
				r.cmd.Process.Signal(tt.signal)
				took = append(took, p.allLow(t, 10*time.Second).Sub(begin))
				r.died(tt.says)
				r.wantSoon("in the end", 0, allOff...)
			}
			slices.Sort(took)
			t.Logf("off after %s", took)
			if longest := took[len(took)-1]; longest > tt.within {
				t.Errorf("the outputs were off after %s, want at most %s", longest, tt.within)
			}
		})
	}
}

// A PWM channel goes on without its program, whatever the kernel does with lines. QEMU has no PWM controller, so it is
// the kernel that says what it last told it.
func TestRaspiPWM(t *testing.T) {
	for _, guard := range []bool{false, true} {
		t.Run(fmt.Sprintf("guard=%v", guard), func(t *testing.T) {
			p := newRaspi(t)
			config := write(t, strings.NewReplacer("GPIO25", "pwm:3f20c000.pwm:0", "GPIO17", "pwm:3f20c000.pwm:1").Replace(longTTL))
			r := launchOn(t, p.look, "-config", config, fmt.Sprintf("-guard=%v", guard))
			driver, _ := dial(t, r.addr)
			driver.send("up 60")
			driver.expectState("driving", func(m message) bool { return m.Motion.Left == 0.6 && m.Motion.Right == 0.6 })
			const on, off = "enabled period: 10000000 ns duty: 6000000 ns", "period: 10000000 ns duty: 0 ns"
			want := func(when, what string) {
				t.Helper()
				for channel := range 2 {
					if got := raspiPWM(t, channel); got != what {
						t.Errorf("%s: channel %d has %s, want %s", when, channel, got, what)
					}
				}
			}
			want("driving", on)
			r.cmd.Process.Kill()
			r.cmd.Wait() // and for its guard, which has the same standard error
			if !guard {
				want("killed, with no guard", on)
				if out, err := command(t, "stop", "-config", config).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			}
			want("in the end", off)
			p.allLow(t, 0)
		})
	}
}

// raspiPWM says how the kernel has a channel, exported or not.
func raspiPWM(t *testing.T, channel int) string {
	t.Helper()
	text, err := os.ReadFile("/sys/kernel/debug/pwm")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(fmt.Sprintf(`(?m)^ pwm-%d .*\): (requested )?(.*) polarity: normal`, channel)).FindSubmatch(text)
	if m == nil {
		t.Fatalf("channel %d is not in\n%s", channel, text)
	}
	return string(m[2])
}

// That GPIO4 is on at boot is also said of a kernel that calls it GPIO_GCLK.
func TestRaspiCheck(t *testing.T) {
	newRaspi(t)
	config := strings.NewReplacer("GPIO23", "GPIO4", "GPIO25", "pwm:3f20c000.pwm:0").Replace(l298n)
	out, err := command(t, "check", "-config", write(t, config)).CombinedOutput()
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"ok    board: Raspberry Pi 3 Model B, Linux ",
		"ok    /dev/gpiochip0: pinctrl-bcm2835, 54 lines\n",
		"ok    left.forward GPIO4: line 4 of pinctrl-bcm2835 (GPIO_GCLK), ",
		"warn  left.forward GPIO4: it is on at boot, when GPIO4 is pulled up",
		"  left.enable pwm:3f20c000.pwm:0: channel 0 of 3f20c000.pwm",
		"warn  kill -9: this kernel keeps released lines as they are",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}
