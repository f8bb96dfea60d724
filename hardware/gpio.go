package hardware

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/warthog618/go-gpiocdev"
	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
)

// board is the outputs of a real car: lines of one GPIO character device, requested together, so that they move in one
// ioctl, and channels of PWM chips.
type board struct {
	request *request // nil when there are no lines
	pulser  *pulser
	lines   []int // index of each line among the outputs
	pwm     []pwmOutput
	where   string
	values  []float64 // scratch: of the lines
}

// pwmOutput is a PWM channel and its index among the outputs.
type pwmOutput struct {
	*pwmChannel
	output int
}

// OpenLines takes the outputs, all off, and returns them with a description of where they are. All lines must be on one
// GPIO chip, since only then does the kernel move them in one step. A line is named, in this order of preference,
//   - by the name the kernel gives it ("GPIO17"; `gpioinfo` lists them),
//   - "GPIO17" also where lines have no names, as on older Raspberry Pi kernels: the line of that (BCM) number on the
//     chip whose label begins with "pinctrl-",
//   - as "LABEL:OFFSET", the chip's label and the line's number on it,
//   - as "pwm:DEVICE:CHANNEL" a channel of the PWM chip of that device ("pwm:fe20c000.pwm:0"; `ls -l /sys/class/pwm`
//     shows the devices).
//
// A chip is never chosen by its number alone: that changes between kernels.
//
// Lines that a roverd has are waited for, briefly: after its death its guard still has them while it switches them off.
func OpenLines(outputs []Output) (lines Lines, where string, err error) {
	for end := time.Now().Add(deathTime); ; time.Sleep(time.Millisecond) {
		lines, where, err = openLines(outputs)
		var busy *busyError
		waits := errors.As(err, &busy) && strings.HasPrefix(busy.by, consumer) ||
			errors.Is(err, unix.EBUSY) // it was busy, and before we could see by whom it was given back
		if !waits || time.Now().After(end) {
			return lines, where, err
		}
	}
}

// SwitchOff takes the outputs, all off, and gives them back. If one can't be had the others are switched off all the
// same.
func SwitchOff(outputs []Output) error {
	lines, _, err := OpenLines(outputs)
	if err == nil {
		return lines.Close()
	}
	err = nil
	said := map[string]bool{}
	for _, o := range outputs {
		lines, _, e := openLines([]Output{o})
		if e == nil {
			e = lines.Close()
		}
		if e != nil && !said[e.Error()] { // what is wrong with all is said once
			said[e.Error()] = true
			err = errors.Join(err, e)
		}
	}
	return err
}

// deathTime is how long the lines of a roverd that has died may stay taken.
const deathTime = time.Second

func openLines(outputs []Output) (Lines, string, error) {
	b := &board{}
	var lines []Output
	for i, o := range outputs {
		if !strings.HasPrefix(o.Line, "pwm:") {
			lines = append(lines, o)
			b.lines = append(b.lines, i)
		}
	}
	b.values = make([]float64, len(lines))
	if len(lines) > 0 {
		if err := b.openGPIO(lines); err != nil {
			return nil, "", err
		}
	}
	for i, o := range outputs {
		if strings.HasPrefix(o.Line, "pwm:") {
			c, err := openPWM(o)
			if err != nil {
				return nil, "", errors.Join(fmt.Errorf("%s: %w", o.Role, err), b.Close())
			}
			b.pwm = append(b.pwm, pwmOutput{c, i})
			if b.where == "" {
				b.where = c.device
			}
		}
	}
	return b, b.where, nil
}

func (b *board) openGPIO(outputs []Output) error {
	chips, err := openChips()
	if err != nil {
		return err
	}
	defer closeChips(chips)

	var chip *gpiocdev.Chip
	var offsets []int
	var low uapi.LineBitmap
	taken := map[int]Output{}
	for _, o := range outputs {
		c, offset, err := findLine(chips, o.Line)
		if err != nil {
			return fmt.Errorf("%s: %w", o.Role, err)
		}
		if chip == nil {
			chip = c
		} else if c.Name != chip.Name {
			return fmt.Errorf("%s: line %q is on chip %s, but %q on %s: all lines must be on one chip",
				o.Role, o.Line, c.Label, outputs[0].Line, chip.Label)
		}
		if other, ok := taken[offset]; ok {
			return fmt.Errorf("%s: line %q is already %s", o.Role, o.Line, other.Role)
		}
		taken[offset] = o
		if o.ActiveLow {
			low = low.Set(len(offsets), 1)
		}
		offsets = append(offsets, offset)
	}
	if b.request, err = requestLines(chip, offsets, low); err != nil {
		return describe(err, chip, outputs, offsets)
	}
	b.where = chip.Label
	if b.pulser, err = newPulser(b.request, outputs); err != nil {
		return errors.Join(err, b.request.Close())
	}
	return nil
}

// consumer is how the kernel lists who uses a line, with the process number behind it.
const consumer = "roverd"

// busyError is a line that another program has.
type busyError struct{ role, line, chip, by string }

func (e *busyError) Error() string {
	return fmt.Sprintf("%s: line %q of %s is in use by %q: stop that program, or choose another line", e.role, e.line, e.chip, e.by)
}

// Set moves the lines first: where one says whether a motor turns at all, its PWM does no harm meanwhile.
func (b *board) Set(values []float64) error {
	if b.pulser != nil {
		for i, output := range b.lines {
			b.values[i] = values[output]
		}
		if err := b.pulser.Set(b.values); err != nil {
			return fmt.Errorf("set lines of %s: %w", b.where, err)
		}
	}
	for _, c := range b.pwm {
		if err := c.Set(values[c.output]); err != nil {
			return err
		}
	}
	return nil
}

// Failed has an error when the lines have failed between two calls of Set.
func (b *board) Failed() <-chan error {
	if b.pulser == nil {
		return nil
	}
	return b.pulser.failed
}

func (b *board) Close() (err error) {
	if b.pulser != nil {
		b.pulser.Close()
	}
	for _, c := range b.pwm {
		err = errors.Join(err, c.Close())
	}
	if b.request != nil {
		err = errors.Join(err, b.request.Close())
	}
	return err
}

func openChips() ([]*gpiocdev.Chip, error) {
	names := gpiocdev.Chips()
	if len(names) == 0 {
		return nil, errors.New("no GPIO chip: there is no /dev/gpiochip*; run with -sim to drive a simulated car")
	}
	var chips []*gpiocdev.Chip
	var first error
	for _, name := range names {
		c, err := gpiocdev.NewChip(name)
		if err != nil {
			if first == nil {
				first = fmt.Errorf("GPIO chip /dev/%s: %w", name, err)
			}
			continue
		}
		chips = append(chips, c)
	}
	if len(chips) > 0 {
		return chips, nil
	}
	if errors.Is(first, fs.ErrPermission) {
		first = fmt.Errorf("%w; add user %d to the group that owns it (usually: sudo usermod -aG gpio NAME)", first, os.Getuid())
	}
	return nil, first
}

// closeChips leaves the lines that were requested as they are.
func closeChips(chips []*gpiocdev.Chip) {
	for _, c := range chips {
		c.Close()
	}
}

var bcmName = regexp.MustCompile(`^GPIO([0-9]+)$`)

// findLine resolves a line by the rules of OpenLines.
func findLine(chips []*gpiocdev.Chip, line string) (*gpiocdev.Chip, int, error) {
	var found *gpiocdev.Chip
	var at int
	for _, c := range chips {
		if offset, err := c.FindLine(line); err == nil {
			if found != nil {
				return nil, 0, fmt.Errorf("line %q is on chip %s and on %s: say which, as %q", line, found.Label, c.Label,
					fmt.Sprintf("%s:%d", found.Label, at))
			}
			found, at = c, offset
		}
	}
	if found != nil {
		return found, at, nil
	}
	label, number, explicit := strings.Cut(line, ":")
	if m := bcmName.FindStringSubmatch(line); m != nil {
		label, number = "pinctrl-", m[1]
	} else if !explicit {
		return nil, 0, fmt.Errorf("no chip has a line named %q (`gpioinfo` lists the names); write it as GPIO17 or as LABEL:OFFSET", line)
	}
	offset, err := strconv.Atoi(number)
	if err != nil {
		return nil, 0, fmt.Errorf("line %q: %q is not a line number", line, number)
	}
	for _, c := range chips {
		if c.Label != label && (explicit || !strings.HasPrefix(c.Label, label)) {
			continue
		}
		if offset < 0 || offset >= c.Lines() {
			return nil, 0, fmt.Errorf("line %q: chip %s has lines 0 to %d", line, c.Label, c.Lines()-1)
		}
		return c, offset, nil
	}
	if explicit {
		return nil, 0, fmt.Errorf("line %q: no chip has the label %q (`gpiodetect` lists them)", line, label)
	}
	return nil, 0, fmt.Errorf("no chip has a line named %q, nor is there a chip whose label begins with %q", line, label)
}

// describe says which line stood in the way of a request.
func describe(err error, chip *gpiocdev.Chip, all []Output, offsets []int) error {
	if errors.Is(err, unix.EBUSY) {
		for i, offset := range offsets {
			if info, e := chip.LineInfo(offset); e == nil && info.Used {
				return &busyError{all[i].Role, all[i].Line, chip.Label, info.Consumer}
			}
		}
	}
	return fmt.Errorf("request lines of %s: %w", chip.Label, err)
}
