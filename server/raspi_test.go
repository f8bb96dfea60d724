package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"roverd/hardware"

	"golang.org/x/sys/unix"
)

// roverd on a Raspberry Pi 3, which QEMU emulates: there a released output keeps its level, for which reason there is a
// guard. `make raspi` runs these tests. The levels are read from the GPIO controller's registers, by QEMU's monitor from
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

// Level asks from outside. A line that is no output is not driven, whatever its level: that is an error.
func (p *raspi) Level(offset int) (int, error) {
	fmt.Fprintln(p.serial, "PINS")
	if err := p.serial.Flush(); err != nil {
		return 0, err
	}
	line, err := p.serial.ReadString('\n')
	if err != nil {
		return 0, err
	}
	var registers [15]uint32
	for i, word := range strings.Fields(line) {
		if _, err := fmt.Sscanf(word, "0x%x", &registers[i]); err != nil {
			return 0, fmt.Errorf("the registers %q: %w", line, err)
		}
	}
	const output = 1 // GPFSEL's function, 3 bits a line
	if function := registers[offset/10] >> (offset % 10 * 3) & 7; function != output {
		return 0, fmt.Errorf("line %d has function %d, want an output", offset, function)
	}
	return int(registers[gplev0/4] >> offset & 1), nil
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
	r := launch(t, newRaspi(t), "-config", write(t, longTTL))
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

func TestRaspiTerminate(t *testing.T) {
	r := launch(t, newRaspi(t), "-config", write(t, longTTL))
	r.drive()
	r.wait()
	r.wantSoon("in the end", 0, allOff...)
}

// What becomes of a car whose roverd hangs, and is then killed, with no guard.
func TestRaspiWithoutGuard(t *testing.T) {
	const ttl, drives = 300 * time.Millisecond, "without a guard the car drives on, though"
	config := write(t, "[drive]\nttl = \"300ms\"\n"+l298n)
	r := launch(t, newRaspi(t), "-config", config, "-guard=false")
	driver, _ := dial(t, r.addr)
	driver.send("up")
	driver.expectState("driving", func(m message) bool { return m.Motion.Left == 1 && m.Motion.Right == 1 })
	r.cmd.Process.Signal(syscall.SIGSTOP)
	for begin := time.Now(); time.Since(begin) < 4*ttl; {
		r.wantSoon(drives+" roverd hangs", 0, fullSpeed...)
	}
	r.cmd.Process.Kill()
	r.died("")
	for begin := time.Now(); time.Since(begin) < 4*ttl; {
		r.wantSoon(drives+" roverd is dead", 0, fullSpeed...)
	}
	if out, err := command(t, "stop", "-config", config).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	r.wantSoon("switched off by hand", 0, allOff...)
}

func TestRaspiGuard(t *testing.T) {
	// How long the machine, each of whose processors is a thread of a busy host, may take for what takes none.
	const slack = 500 * time.Millisecond
	const rounds = 5
	for _, tt := range []struct {
		name, config string
		signal       syscall.Signal
		within       time.Duration
	}{
		{"killed", longTTL, syscall.SIGKILL, slack},
		{"hung", l298n, syscall.SIGSTOP, hardware.DefaultTTL + 30*time.Millisecond + slack}, // the grace of hardware/guardian.go
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newRaspi(t)
			config := write(t, tt.config)
			var took []time.Duration
			for range rounds {
				r := launch(t, p, "-config", config)
				driver, _ := dial(t, r.addr)
				driver.send("up")
				driver.expectState("driving", func(m message) bool { return m.Motion.Left == 1 && m.Motion.Right == 1 })
				if tt.signal == syscall.SIGKILL { // else the lease may end before all were asked
					r.wantSoon("up", 4*time.Second, fullSpeed...)
				}
				begin := time.Now()
				r.cmd.Process.Signal(tt.signal)
				took = append(took, p.allLow(t, 10*time.Second).Sub(begin))
				r.died("guard: roverd ")
				r.wantSoon("in the end", 0, allOff...)
			}
			slices.Sort(took)
			t.Logf("off after %s", took)
			if took[rounds-1] > tt.within {
				t.Errorf("the outputs were off after %s, want at most %s", took[rounds-1], tt.within)
			}
		})
	}
}

func TestRaspiCheck(t *testing.T) {
	newRaspi(t)
	out, err := command(t, "check", "-config", write(t, l298n)).CombinedOutput()
	t.Logf("%v\n%s", err, out)
}
