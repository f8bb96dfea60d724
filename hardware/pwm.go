package hardware

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// switchPeriod is the period of a channel that has no pulses: it is on for all of it or for nothing.
	switchPeriod = time.Millisecond
	// exportTime is how long udev may take to give the files of a channel to the group that owns the chip's.
	exportTime = time.Second
)

// pwmChannel is a channel of a PWM chip, driven by sysfs (Documentation/ABI/testing/sysfs-class-pwm). Unlike a line it
// goes on when its process has died: then [offPWM] ends that.
type pwmChannel struct {
	line   string // as it was asked for
	device string // of the chip
	chip   string // folder
	dir    string // of the channel, there while it is exported

	duty     *os.File // duty_cycle, under a lock for as long as this is open
	period   time.Duration
	switched bool          // on or off
	high     time.Duration // what duty says; -1 when that is not known
	patience time.Time     // until when a file may be another's
}

// openPWM takes the channel for an output, off. Nothing tells who exported a channel that is there already. It is
// taken: a roverd that was killed leaves one behind, and the car's wiring says that it is ours. Only from a roverd that
// runs it is not taken: that has it locked.
func openPWM(o Output) (*pwmChannel, error) {
	c, err := findPWM(o.Line)
	if err != nil {
		return nil, err
	}
	c.period, c.switched = o.Period, o.Period == 0
	if c.switched {
		c.period = switchPeriod
	}
	if !c.exported() {
		if err := c.export(); err != nil {
			return nil, err
		}
	}
	if c.duty, err = c.open("duty_cycle"); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(c.duty.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		c.duty.Close()
		return nil, fmt.Errorf("line %q is in use by another part of the car, or by another roverd: stop that: %w", o.Line, err)
	}
	if err := c.setUp(o.ActiveLow); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// findPWM resolves a line by the rules of OpenLines.
func findPWM(line string) (*pwmChannel, error) {
	var board Inspection
	board.inspectPWMs("/")
	l := LineReport{Line: line}
	if err := board.findPWM(&l); err != nil {
		return nil, fmt.Errorf("%w (`roverd check` says more)", err)
	}
	return &pwmChannel{line: line, device: l.Chip, chip: l.Path, dir: fmt.Sprint(l.Path, "/pwm", l.Offset)}, nil
}

// offPWM makes a line "pwm:DEVICE:CHANNEL" safe, whoever has it: what a roverd that died has left on goes off. If it is
// for now, who has it can go on with it.
func offPWM(line string, forNow bool) error {
	c, err := findPWM(line)
	if err != nil {
		return err
	}
	if !c.exported() {
		return nil // and so not left behind by anybody
	}
	return c.off(forNow)
}

func (c *pwmChannel) exported() bool {
	_, err := os.Stat(c.dir)
	return err == nil
}

func (c *pwmChannel) export() error {
	err := os.WriteFile(c.chip+"/export", []byte(c.number()), 0)
	c.patience = time.Now().Add(exportTime)
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("line %q is in use by a driver in the kernel, of a fan or a display perhaps: choose another channel", c.line)
	case err != nil:
		return c.explain(err)
	}
	return nil
}

func (c *pwmChannel) number() string { return strings.TrimPrefix(filepath.Base(c.dir), "pwm") }

// setUp brings the channel from whatever it was left doing to being off, under way. The order is what the kernel asks
// for: no duty above the period, nothing before there is a period, and no other polarity while it is enabled.
func (c *pwmChannel) setUp(low bool) error {
	polarity := "normal"
	if low {
		polarity = "inversed"
	}
	if period, err := c.read("period"); err != nil {
		return err
	} else if period != "0" {
		if err := c.write("duty_cycle", "0"); err != nil {
			return err
		}
	}
	if err := c.write("period", strconv.FormatInt(c.period.Nanoseconds(), 10)); err != nil {
		return err
	}
	if now, err := c.read("polarity"); err != nil {
		return err
	} else if now != polarity {
		if err := errors.Join(c.write("enable", "0"), c.write("polarity", polarity)); err != nil {
			return err
		}
	}
	return c.write("enable", "1")
}

// Set gives the channel its value: see Lines.
func (c *pwmChannel) Set(value float64) error {
	high := time.Duration(min(max(value, 0), 1) * float64(c.period))
	if c.switched && value > 0 {
		high = c.period
	}
	if high == c.high {
		return nil
	}
	if _, err := c.duty.WriteAt(strconv.AppendInt(nil, high.Nanoseconds(), 10), 0); err != nil {
		c.high = -1
		return c.explain(err)
	}
	c.high = high
	return nil
}

// Close switches the channel off and gives it back. One whose polarity is inversed is off only while it goes on with
// empty pulses, so it does, and stays exported.
func (c *pwmChannel) Close() error {
	err := c.off(false)
	if polarity, e := c.read("polarity"); e == nil && polarity == "normal" {
		if e := os.WriteFile(c.chip+"/unexport", []byte(c.number()), 0); e != nil {
			err = errors.Join(err, c.explain(e))
		}
	}
	return errors.Join(err, c.duty.Close())
}

// off ends the channel's pulses, and the channel where that leaves its output low. The output of a disabled channel is
// the driver's affair; only one that is enabled with a duty of 0 must be inactive (Documentation/driver-api/pwm.rst).
// For now it stays enabled.
func (c *pwmChannel) off(forNow bool) error {
	period, err := c.read("period")
	if err != nil || period == "0" { // the kernel takes nothing for a channel that never had a period
		return err
	}
	err = c.write("duty_cycle", "0")
	if forNow {
		return err
	}
	polarity, e := c.read("polarity")
	if e == nil && polarity == "normal" {
		e = c.write("enable", "0")
	}
	return errors.Join(err, e)
}

func (c *pwmChannel) read(name string) (string, error) {
	text, err := os.ReadFile(c.dir + "/" + name)
	if err != nil {
		return "", c.explain(err)
	}
	return strings.TrimSpace(string(text)), nil
}

func (c *pwmChannel) write(name, value string) error {
	f, err := c.open(name)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return c.explain(err)
	}
	return nil
}

// open opens one of the channel's files for writing. Just after the export they are root's until udev has seen to that.
func (c *pwmChannel) open(name string) (*os.File, error) {
	for {
		f, err := os.OpenFile(c.dir+"/"+name, os.O_WRONLY, 0)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, fs.ErrPermission) || time.Now().After(c.patience) {
			return nil, c.explain(err)
		}
		time.Sleep(exportTime / 100)
	}
}

// explain says which line an error is of, and what helps.
func (c *pwmChannel) explain(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; add user %d to the group that owns it (usually: sudo usermod -aG gpio NAME)", err, os.Getuid())
	}
	return fmt.Errorf("line %q: %w", c.line, err)
}
