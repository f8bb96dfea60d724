package hardware

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/warthog618/go-gpiocdev"
	"golang.org/x/sys/unix"
)

// gpioLines are lines of one GPIO character device, requested together, so that Set is one ioctl
// (GPIO_V2_LINE_SET_VALUES_IOCTL).
type gpioLines struct {
	request *gpiocdev.Lines
	where   string
}

// OpenLines requests the lines of w as outputs, all low, and returns them with a description of their chip. All must be
// on one chip, since only then does the kernel move them in one step. A line is named, in this order of preference,
//   - by the name the kernel gives it ("GPIO17"; `gpioinfo` lists them),
//   - "GPIO17" also where lines have no names, as on older Raspberry Pi kernels: the line of that (BCM) number on the
//     chip whose label begins with "pinctrl-",
//   - as "LABEL:OFFSET", the chip's label and the line's number on it.
//
// A chip is never chosen by its number alone: that changes between kernels.
func OpenLines(w Wiring) (Lines, string, error) {
	all, _, _ := w.wires()
	chips, err := openChips()
	if err != nil {
		return nil, "", err
	}
	defer func() {
		for _, c := range chips {
			c.Close()
		}
	}()

	var chip *gpiocdev.Chip
	var offsets []int
	taken := map[int]wire{}
	for _, wr := range all {
		c, offset, err := findLine(chips, wr.line)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", wr.role, err)
		}
		if chip == nil {
			chip = c
		} else if c.Name != chip.Name {
			return nil, "", fmt.Errorf("%s: line %q is on chip %s, but %q on %s: all motor lines must be on one chip",
				wr.role, wr.line, c.Label, all[0].line, chip.Label)
		}
		if other, ok := taken[offset]; ok {
			return nil, "", fmt.Errorf("%s: line %q is already %s", wr.role, wr.line, other.role)
		}
		taken[offset] = wr
		offsets = append(offsets, offset)
	}
	request, err := chip.RequestLines(offsets, gpiocdev.AsOutput(make([]int, len(offsets))...), gpiocdev.WithConsumer("roverd"))
	if err != nil {
		return nil, "", describe(err, chip, all, offsets)
	}
	return &gpioLines{request, chip.Label}, chip.Label, nil
}

func (l *gpioLines) Set(values []int) error {
	if err := l.request.SetValues(values); err != nil {
		return fmt.Errorf("set lines of %s: %w", l.where, err)
	}
	return nil
}

func (l *gpioLines) Close() error { return l.request.Close() }

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
func describe(err error, chip *gpiocdev.Chip, all []wire, offsets []int) error {
	if errors.Is(err, unix.EBUSY) {
		for i, offset := range offsets {
			if info, e := chip.LineInfo(offset); e == nil && info.Used {
				return fmt.Errorf("%s: line %q of %s is in use by %q: stop that program, or choose another line",
					all[i].role, all[i].line, chip.Label, info.Consumer)
			}
		}
	}
	return fmt.Errorf("request lines of %s: %w", chip.Label, err)
}
