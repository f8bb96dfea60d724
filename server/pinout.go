package main

import (
	"fmt"
	"slices"
	"strings"

	"roverd/hardware"
)

// pinout is what a Raspberry Pi's pins do besides being lines. A line's number on these chips is its BCM number.
type pinout struct{ board *hardware.Inspection }

// label returns the label of the chip that the car's lines are on, "" without lines.
func (p *pinout) label() string {
	for _, l := range p.board.Lines {
		if !l.PWM() && l.Output && l.Path != "" {
			return l.Chip
		}
	}
	return ""
}

// pi5 tells whether the pins are those of the RP1.
func (p *pinout) pi5() bool { return strings.Contains(p.board.Model, "Raspberry Pi 5") }

// pins returns the lines on the 40-pin header.
func (p *pinout) pins() (all []*hardware.LineReport) {
	for i := range p.board.Lines {
		l := &p.board.Lines[i]
		if !l.PWM() && l.Path != "" && slices.Contains([]string{"pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"}, l.Chip) && l.Offset < 28 {
			all = append(all, l)
		}
	}
	return all
}

// pulledUp tells what a pin is from power-on until a program takes it: GPIO0 to 8 are pulled up, the others down
// (BCM2835 ARM Peripherals, table 6-31).
func pulledUp(pin int) bool { return pin <= 8 }

// judgeBoot warns of the lines that are on before roverd runs.
func (p *pinout) judgeBoot(f *findings) {
	on := map[string]bool{} // by role
	for _, l := range p.pins() {
		on[l.Role] = p.highAtBoot(l.Offset) != l.ActiveLow
	}
	for _, l := range p.board.Lines {
		if l.PWM() {
			on[l.Role] = l.ActiveLow // the pins of the channels are all pulled down
		}
	}
	for _, l := range p.pins() {
		motor, _, _ := strings.Cut(l.Role, ".")
		if !l.Output || motor != "left" && motor != "right" && motor != "standby" {
			continue
		}
		why, off, resistor := "pulled down", "op,dl", "pull-down"
		if pulledUp(l.Offset) {
			why = "pulled up"
		}
		if l.ActiveLow {
			off, resistor = "op,dh", "pull-up"
		}
		set, asked := p.board.Boot[l.Offset]
		if asked {
			why = "set by config.txt (" + set + ")"
		}
		remedy := fmt.Sprintf("choose another pin, or gpio=%d=%s in config.txt and a %s resistor of 10k", l.Offset, off, resistor)
		if l.Offset == 2 || l.Offset == 3 {
			remedy = "choose another pin: the board itself pulls this one up, with 1.8k"
		}
		about := l.Role + " " + l.Line
		switch {
		case on[l.Role]:
			f.add(fair, about, "it is on at boot, when GPIO%d is %s: %s; %s", l.Offset, why, effect(motor, on), remedy)
		case pulledUp(l.Offset) != l.ActiveLow:
			f.add(good, about, "config.txt switches it off at boot (%s), though seconds after power-on; a %s resistor does at once", set, resistor)
		case l.Offset == 14 && !l.ActiveLow:
			f.add(fair, about, "GPIO14 is high for a moment at boot, as the firmware's serial port: the motor may jerk; choose another pin")
		}
	}
}

// highAtBoot tells the level of a pin that nobody has taken yet.
func (p *pinout) highAtBoot(pin int) bool {
	set := strings.Split(p.board.Boot[pin], ",")
	switch {
	case slices.Contains(set, "dh"), slices.Contains(set, "pu"):
		return true
	case slices.Contains(set, "dl"), slices.Contains(set, "pd"):
		return false
	}
	return pulledUp(pin)
}

// effect says what a motor does whose outputs are on or off like that. Standby is both motors'.
func effect(motor string, on map[string]bool) string {
	if motor == "standby" {
		return "the driver is awake, and only its other lines keep the motors off"
	}
	has := func(role string) bool { _, ok := on[role]; return ok }
	forward, backward := on[motor+".forward"], on[motor+".backward"]
	switch {
	case has(motor+".enable") && !on[motor+".enable"], has("standby") && !on["standby"]:
		return "only the line that enables the motor keeps it off"
	case forward != backward:
		return "the " + motor + " motor may run until roverd starts"
	case forward:
		return "the " + motor + " motor is braked"
	}
	return "the motor is enabled, and only its two other lines keep it off"
}

// judgeBuses warns of pins that something else uses, as far as the kernel shows it. What a pin is switched to can't be
// told without root, so the device files of the buses have to stand for it.
func (p *pinout) judgeBuses(f *findings) {
	serial := p.board.Serial
	if p.pi5() { // there serial0 is the socket between the HDMI ports
		if serial = ""; slices.Contains(p.board.Buses, "ttyAMA0") {
			serial = "ttyAMA0"
		}
	}
	spi := slices.ContainsFunc(p.board.Buses, func(s string) bool { return strings.HasPrefix(s, "spidev0.") })
	console := slices.Contains(p.board.Console, serial)
	const serialOff = "choose others, or switch it off: sudo raspi-config, Interface Options, Serial Port"
	for _, bus := range []struct {
		there       bool
		first, last int // pins
		text        string
	}{
		{true, 0, 1, "at boot the firmware looks for the memory of a HAT on GPIO0 and 1, so they move by themselves; choose others"},
		{slices.Contains(p.board.Buses, "i2c-1"), 2, 3, "GPIO2 and 3 are probably the I2C bus /dev/i2c-1: its devices would be cut off, " +
			"and its traffic moves them until roverd starts; choose others, or dtparam=i2c_arm=off in config.txt"},
		{spi, 7, 11, "GPIO7 to 11 are probably the SPI bus /dev/spidev0.*: its devices would be cut off, and idle chip selects are high; " +
			"choose others, or dtparam=spi=off in config.txt"},
		{serial != "" && console, 14, 15, "GPIO14 and 15 are the kernel's console (console=" + serial + "), which writes on them at boot; " + serialOff},
		{serial != "" && !console, 14, 15, "GPIO14 and 15 are probably the serial port /dev/" + serial + ", whose idle is high; " + serialOff},
	} {
		var lines []string
		for _, l := range p.pins() {
			if bus.there && bus.first <= l.Offset && l.Offset <= bus.last {
				lines = append(lines, l.Role+" "+l.Line)
			}
		}
		if lines != nil {
			f.add(fair, strings.Join(lines, ", "), "%s", bus.text)
		}
	}
}

// pwmPins returns at which pins a channel of the Raspberry Pi's PWM chip can come out; nil for other chips.
func (p *pinout) pwmPins(device string, channel int) []int {
	switch {
	case device == "1f00098000.pwm" && channel < 4: // of the RP1
		return [][]int{{12}, {13}, {18}, {19}}[channel]
	case strings.HasSuffix(device, "20c000.pwm") && channel < 2: // fe20c000.pwm, 3f20c000.pwm
		return [][]int{{12, 18}, {13, 19}}[channel]
	}
	return nil
}

// judgePWMPins warns of pins that a PWM channel needs, and of audio, which needs the channels.
func (p *pinout) judgePWMPins(f *findings) {
	for i := range p.board.PWMs {
		chip := &p.board.PWMs[i]
		for channel := range chip.Channels {
			line := fmt.Sprintf("pwm:%s:%d", chip.Device, channel)
			pins := p.pwmPins(chip.Device, channel)
			ours := slices.ContainsFunc(p.board.Lines, func(l hardware.LineReport) bool { return l.Line == line })
			if pins == nil || !ours && !slices.Contains(chip.Exported, channel) {
				continue
			}
			for _, l := range p.pins() {
				if !slices.Contains(pins, l.Offset) {
					continue
				}
				about := l.Role + " " + l.Line
				grade, where := fair, fmt.Sprintf("at GPIO%d or %d, as its overlay says", pins[0], pins[len(pins)-1])
				if len(pins) == 1 {
					where = fmt.Sprintf("at GPIO%d", pins[0])
					if ours {
						grade = bad
					}
				}
				f.add(grade, about, "the channel %s comes out %s: taken as a line, that pin is cut off from the PWM; choose another", line, where)
			}
			if ours && p.board.Audio && !p.pi5() {
				f.add(fair, line, "the analogue audio output works with PWM too, and both spoil each other: dtparam=audio=off in config.txt")
			}
		}
	}
}
