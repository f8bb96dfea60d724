package hardware

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/warthog618/go-gpiocdev"
	"golang.org/x/sys/unix"
)

// Inspection is what can be learned of a board without taking any of its lines, so without moving anything.
type Inspection struct {
	Model   string // as in "Raspberry Pi 4 Model B Rev 1.4"; empty where the board does not say
	Kernel  string // release, as in "6.6.31+rpt-rpi-v8"
	User    string // who asks
	Chips   []ChipReport
	Lines   []LineReport // of the car's outputs, then of its sensors
	PWMs    []PWMReport
	Persist map[string]bool // by pin controller's module: whether a released output keeps its level
	Buses   []string        // device files of buses whose pins could be lines, as in "i2c-1"
	Serial  string          // what /dev/serial0 is, as in "ttyS0"
	Console []string        // the terminals that the kernel talks to
	Audio   bool            // there is analogue audio, as a Raspberry Pi makes it with PWM
	Boot    map[int]string  // by BCM number, what a Raspberry Pi's firmware sets at boot, as in "op,dl"
}

// ChipReport is a GPIO character device.
type ChipReport struct {
	Path  string
	Label string
	Lines int
	V2    bool   // it has the uAPI of Linux 5.10, which roverd needs
	Group string // that owns it
	Err   error  // it can't be opened
}

// LineReport is one line of a car: where it is, and what the kernel says of it. The kernel does not tell the level of a
// line to who has not taken it.
type LineReport struct {
	Role      string // as in "left.forward", or "sensor bumper"
	Line      string // as configured
	Output    bool   // of the car; a sensor's line is none
	ActiveLow bool

	Chip      string // label of the GPIO chip, or device of the PWM chip
	Path      string // empty when there is no such line
	Offset    int    // or the channel
	Name      string // the kernel's
	Direction string
	Bias      string
	Used      bool
	Consumer  string
	Group     string // that owns a PWM channel
	Err       error
}

// PWM tells whether it is a channel of a PWM chip.
func (l *LineReport) PWM() bool { return strings.HasPrefix(l.Line, "pwm:") }

// PWMReport is a PWM chip in sysfs (Documentation/ABI/testing/sysfs-class-pwm).
type PWMReport struct {
	Path     string
	Device   string
	Channels int
	Exported []int  // channels that are, or were, somebody's
	Group    string // that owns it
	Err      error  // it can't be used
}

// Inspect looks at the board for a car. root is where its file systems are: "/", or a test's; GPIO chips are always the
// real ones.
func Inspect(root string, cfg *Config) *Inspection {
	in := &Inspection{Persist: map[string]bool{}, Boot: map[int]string{}}
	in.Model = strings.TrimRight(read(root, "proc/device-tree/model"), "\x00\n")
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		in.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	in.User = cmp.Or(os.Getenv("USER"), "NAME")
	in.inspectSystem(root)
	in.inspectPWMs(root)
	in.inspectLines(root, cfg)
	return in
}

var (
	persistFile = regexp.MustCompile(`([^/]*)/parameters/persist_gpio_outputs$`)
	consoleName = regexp.MustCompile(`\bconsole=([^,\s]+)`)
	// What the firmware does with pins (raspberrypi.com/documentation, config.txt, "GPIO control").
	bootPins = regexp.MustCompile(`^gpio=([0-9,-]+)=([a-z0-9,]+)`)
)

func (in *Inspection) inspectSystem(root string) {
	persist, _ := filepath.Glob(filepath.Join(root, "sys/module/*/parameters/persist_gpio_outputs"))
	for _, file := range persist {
		in.Persist[persistFile.FindStringSubmatch(file)[1]] = strings.HasPrefix(read(file), "Y")
	}
	for _, pattern := range []string{"i2c-[01]", "spidev0.*", "ttyAMA0"} {
		found, _ := filepath.Glob(filepath.Join(root, "dev", pattern))
		for _, file := range found {
			in.Buses = append(in.Buses, filepath.Base(file))
		}
	}
	in.Serial, _ = os.Readlink(filepath.Join(root, "dev/serial0"))
	for _, m := range consoleName.FindAllStringSubmatch(read(root, "proc/cmdline"), -1) {
		in.Console = append(in.Console, m[1])
	}
	in.Audio = strings.Contains(read(root, "proc/asound/cards"), "bcm2835 Headphones")

	file := read(root, "boot/firmware/config.txt")
	if file == "" {
		file = read(root, "boot/config.txt") // where it was before Debian 12
	}
	everywhere := true
	for line := range strings.Lines(file) {
		if strings.HasPrefix(line, "[") {
			everywhere = strings.HasPrefix(line, "[all]")
		}
		m := bootPins.FindStringSubmatch(line)
		if m == nil || !everywhere { // which board a section is for is not ours to tell
			continue
		}
		for pins := range strings.SplitSeq(m[1], ",") {
			first, last, several := strings.Cut(pins, "-")
			from, err := strconv.Atoi(first)
			to := from
			if several && err == nil {
				to, err = strconv.Atoi(last)
			}
			for pin := from; err == nil && pin <= to && pin < 64; pin++ {
				in.Boot[pin] = m[2]
			}
		}
	}
}

func (in *Inspection) inspectPWMs(root string) {
	chips, _ := filepath.Glob(filepath.Join(root, "sys/class/pwm/pwmchip*"))
	for _, path := range chips {
		device, err := filepath.EvalSymlinks(filepath.Join(path, "device"))
		export := filepath.Join(path, "export")
		p := PWMReport{Path: path, Device: filepath.Base(device), Group: group(root, export), Err: err}
		p.Channels, _ = strconv.Atoi(strings.TrimSpace(read(path, "npwm")))
		exported, _ := filepath.Glob(filepath.Join(path, "pwm[0-9]*"))
		for _, channel := range exported {
			if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(channel), "pwm")); err == nil {
				p.Exported = append(p.Exported, n)
			}
		}
		if err := unix.Access(export, unix.W_OK); err != nil && p.Err == nil {
			p.Err = &os.PathError{Op: "write", Path: export, Err: err}
		}
		in.PWMs = append(in.PWMs, p)
	}
}

func (in *Inspection) inspectLines(root string, cfg *Config) {
	var chips []*gpiocdev.Chip
	for _, name := range gpiocdev.Chips() {
		path := "/dev/" + name
		if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink != 0 {
			continue // Raspberry Pi OS keeps a former name of a chip as a link
		}
		report := ChipReport{Path: path, Group: group(root, path)}
		chip, err := gpiocdev.NewChip(name)
		if err != nil {
			report.Err = err
		} else {
			defer chip.Close()
			chips = append(chips, chip)
			report.Label, report.Lines, report.V2 = chip.Label, chip.Lines(), chip.UapiAbiVersion() >= 2
		}
		in.Chips = append(in.Chips, report)
	}
	for _, o := range cfg.Outputs() {
		in.Lines = append(in.Lines, LineReport{Role: o.Role, Line: o.Line, Output: true, ActiveLow: o.ActiveLow})
	}
	for _, s := range cfg.Sensors {
		if s.Trigger != "" {
			in.Lines = append(in.Lines, LineReport{Role: "sensor " + s.Name + " trigger", Line: s.Trigger})
		}
		if s.Line != "" {
			in.Lines = append(in.Lines, LineReport{Role: "sensor " + s.Name, Line: s.Line, ActiveLow: s.ActiveLow})
		}
	}
	for i := range in.Lines {
		l := &in.Lines[i]
		switch {
		case l.PWM():
			l.Err = in.findPWM(l)
		case len(chips) == 0:
			l.Err = errors.New("there is no GPIO chip to look for it")
		default:
			l.inspect(chips)
		}
	}
}

func (l *LineReport) inspect(chips []*gpiocdev.Chip) {
	chip, offset, err := findLine(chips, l.Line)
	if err != nil {
		l.Err = err
		return
	}
	info, err := chip.LineInfo(offset)
	l.Chip, l.Path, l.Offset, l.Name, l.Err = chip.Label, "/dev/"+chip.Name, offset, info.Name, err
	l.Used, l.Consumer = info.Used, info.Consumer
	l.Direction = map[gpiocdev.LineDirection]string{
		gpiocdev.LineDirectionInput: "input", gpiocdev.LineDirectionOutput: "output",
	}[info.Config.Direction]
	l.Bias = map[gpiocdev.LineBias]string{
		gpiocdev.LineBiasPullUp: "pull-up", gpiocdev.LineBiasPullDown: "pull-down", gpiocdev.LineBiasDisabled: "no pull",
	}[info.Config.Bias]
}

// findPWM resolves "pwm:DEVICE:CHANNEL".
func (in *Inspection) findPWM(l *LineReport) error {
	device, number, ok := strings.Cut(strings.TrimPrefix(l.Line, "pwm:"), ":")
	channel, err := strconv.Atoi(number)
	if !ok || err != nil {
		return fmt.Errorf("line %q: want pwm:DEVICE:CHANNEL, as in pwm:fe20c000.pwm:0", l.Line)
	}
	for i := range in.PWMs {
		p := &in.PWMs[i]
		if p.Device != device {
			continue
		}
		l.Chip, l.Path, l.Offset, l.Group = p.Device, p.Path, channel, p.Group
		l.Used = slices.Contains(p.Exported, channel)
		if channel < 0 || channel >= p.Channels {
			return fmt.Errorf("line %q: the PWM chip has channels 0 to %d", l.Line, p.Channels-1)
		}
		return p.Err
	}
	var devices []string
	for _, p := range in.PWMs {
		devices = append(devices, p.Device)
	}
	if devices == nil {
		return fmt.Errorf("line %q: there is no PWM chip", l.Line)
	}
	return fmt.Errorf("line %q: no PWM chip is of the device %q; there are: %s", l.Line, device, strings.Join(devices, ", "))
}

// read returns a file's text, "" if there is none.
func read(path ...string) string {
	text, _ := os.ReadFile(filepath.Join(path...))
	return string(text)
}

// group returns the name of the group that owns a file.
func group(root, path string) string {
	var stat unix.Stat_t
	if unix.Stat(path, &stat) != nil {
		return ""
	}
	id := strconv.Itoa(int(stat.Gid))
	for line := range strings.Lines(read(root, "etc/group")) {
		if f := strings.Split(line, ":"); len(f) > 2 && f[2] == id { // group(5)
			return f[0]
		}
	}
	return id
}
