package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"roverd/hardware"

	"golang.org/x/sys/unix"
)

// runCheck says what would work of the car on this board, and what would not. It takes no line, so nothing moves,
// unless -wiggle asks for it.
func runCheck(ctx context.Context, args []string, getenv func(string) string, in io.Reader, stdout io.Writer) error {
	var file string
	var sim, move bool
	flags := flag.NewFlagSet("roverd check", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&file, "config", "", "")
	flags.BoolVar(&sim, "sim", false, "")
	flags.BoolVar(&move, "wiggle", false, "")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if err := noMore(flags.Args()); err != nil {
		return err
	}
	args = nil
	if file != "" {
		args = append(args, "-config", file)
	}
	if sim {
		args = append(args, "-sim")
	}
	cfg, err := loadConfig(args, getenv)
	if err != nil {
		return err
	}
	if move && !isTerminal(in) {
		return usage("check -wiggle moves the motors and asks what they did: it needs a terminal to ask at")
	}
	if err := check(cfg, stdout); err != nil || !move {
		return err
	}
	return wiggle(ctx, cfg, in, stdout)
}

// check prints the findings. The error is that some of them would keep the car from driving.
func check(cfg *config, stdout io.Writer) error {
	car := hardware.Config{}
	if !cfg.simulated() {
		car = cfg.car()
	}
	board := hardware.Inspect("/", &car)
	failed := 0
	for _, f := range judge(cfg, &car, board) {
		fmt.Fprintln(stdout, f)
		if f.grade == bad {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("check: %d of the above must be mended before the car can drive", failed)
	}
	if !cfg.wired() {
		fmt.Fprint(stdout, howToBegin)
	}
	return nil
}

const howToBegin = `
To drive a real car, say in a file what hangs on which line, as in

  [motors.left]
  forward  = "GPIO23" # IN1
  backward = "GPIO24" # IN2
  enable   = "GPIO25" # ENA; leave it out where the jumper is on

  [motors.right]
  forward  = "GPIO22"
  backward = "GPIO27"
  enable   = "GPIO17"

and look at it with: roverd check -config car.toml
`

// isTerminal tells whether somebody can be asked.
func isTerminal(in io.Reader) bool {
	file, ok := in.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// grade is how a finding turned out.
type grade string

const (
	good grade = "ok"
	fair grade = "warn" // the car drives, but not always as expected
	bad  grade = "fail" // the car does not drive
)

// finding is one judgement: what it is about, what would happen, and the remedy.
type finding struct {
	grade grade
	about string
	text  string
}

func (f finding) String() string { return fmt.Sprintf("%-4s  %s: %s", f.grade, f.about, f.text) }

// findings collects them.
type findings []finding

func (f *findings) add(g grade, about, format string, args ...any) {
	*f = append(*f, finding{g, about, fmt.Sprintf(format, args...)})
}

// judge says what would come of driving the car on that board.
func judge(cfg *config, car *hardware.Config, board *hardware.Inspection) findings {
	var f findings
	about, model := "car", board.Model
	if model == "" {
		model = "a board that does not say its model"
	}
	switch {
	case !cfg.wired() && cfg.file == "":
		f.add(good, about, "there is no config, so it would be simulated and no line touched; -config FILE or ROVERD_CONFIG names one")
	case !cfg.wired():
		f.add(good, about, "%s has no [motors], so it would be simulated and no line touched", cfg.file)
	case cfg.Sim:
		f.add(good, about, "it would be simulated, as -sim asks, and no line touched")
	default:
		f.add(good, about, "%s has %d outputs and %d sensors", cfg.file, len(car.Outputs()), len(car.Sensors))
	}
	f.add(good, "board", "%s, Linux %s", model, board.Kernel)
	f.judgeChips(board)
	f.judgeLines(board)
	f.judgePWMs(board)
	p := pinout{board}
	p.judgeBoot(&f)
	p.judgeBuses(&f)
	p.judgePWMPins(&f)
	f.judgeRelease(board, p.label(), cfg.Guard)
	return f
}

func (f *findings) judgeChips(board *hardware.Inspection) {
	needed := false // by a line
	for _, l := range board.Lines {
		needed = needed || !l.PWM()
	}
	if len(board.Chips) == 0 {
		grade, text := good, "there is none"
		if needed {
			grade, text = bad, "there is no /dev/gpiochip*, so no line can be driven: the board has none, its driver is not loaded, or this "+
				"is a container that was not given them; -sim drives a simulated car"
		}
		f.add(grade, "GPIO chips", "%s", text)
	}
	worst := fair
	if needed && !usable(board) {
		worst = bad
	}
	for _, c := range board.Chips {
		switch {
		case errors.Is(c.Err, os.ErrPermission):
			f.add(worst, c.Path, "%s may not open it; %s", board.User, permit("gpio", c.Group, board.User))
		case c.Err != nil:
			f.add(worst, c.Path, "%v", c.Err)
		case !c.V2:
			f.add(worst, c.Path, "%s: the kernel %s is older than 5.10, whose GPIO interface (uAPI v2) roverd needs: upgrade the system", c.Label, board.Kernel)
		default:
			f.add(good, c.Path, "%s, %d lines", c.Label, c.Lines)
		}
	}
}

// usable tells whether there is a chip to drive; where there is none, every line would only say so again.
func usable(board *hardware.Inspection) bool {
	return slices.ContainsFunc(board.Chips, func(c hardware.ChipReport) bool { return c.Err == nil && c.V2 })
}

func (f *findings) judgeLines(board *hardware.Inspection) {
	if !usable(board) {
		return
	}
	type place struct {
		path   string
		offset int
	}
	taken := map[place]string{}
	var first *hardware.LineReport // output, with which all others must share the chip
	running := false
	for i := range board.Lines {
		l := &board.Lines[i]
		if l.PWM() {
			continue
		}
		if l.Err != nil {
			f.add(bad, l.Role, "%v", l.Err)
			continue
		}
		about := l.Role + " " + l.Line
		at := place{l.Path, l.Offset}
		if other, ok := taken[at]; ok {
			f.add(bad, about, "it is line %d of %s, which %s has already: choose another", l.Offset, l.Chip, other)
			continue
		}
		taken[at] = l.Role
		if l.Output && first == nil {
			first = l
		}
		switch {
		case l.Output && l.Path != first.Path:
			f.add(bad, about, "it is on chip %s, but %s on %s: only lines of one chip move in one step, so choose all outputs from one",
				l.Chip, first.Line, first.Chip)
		case l.Used && strings.HasPrefix(l.Consumer, "roverd"): // the process number may follow
			running = true
			f.add(good, about, "%s; a running roverd has it", describeLine(l))
		case l.Used && l.Consumer == "":
			f.add(bad, about, "%s; the kernel uses it, for a driver or another function: free it in config.txt, or choose another line", describeLine(l))
		case l.Used:
			f.add(bad, about, "%s; %q uses it: stop that program, or choose another line", describeLine(l), l.Consumer)
		default:
			f.add(good, about, "%s; nobody uses it", describeLine(l))
		}
	}
	if running {
		f.add(fair, "lines", "a running roverd has them: another one, and check -wiggle, can't before it has ended (sudo systemctl stop roverd)")
	}
}

// describeLine says where a line is and how the kernel has it.
func describeLine(l *hardware.LineReport) string {
	text := fmt.Sprintf("line %d of %s", l.Offset, l.Chip)
	if l.Name != "" && l.Name != l.Line {
		text += fmt.Sprintf(" (%s)", l.Name)
	}
	for _, s := range []string{l.Direction, l.Bias} {
		if s != "" {
			text += ", " + s
		}
	}
	return text
}

func (f *findings) judgePWMs(board *hardware.Inspection) {
	for i := range board.Lines {
		l := &board.Lines[i]
		if !l.PWM() {
			continue
		}
		about := l.Role + " " + l.Line
		switch {
		case l.Err != nil && errors.Is(l.Err, os.ErrPermission):
			f.add(bad, about, "%v; %s", l.Err, permit("pwm", l.Group, board.User))
		case l.Err != nil && l.Path == "" && isPi(board):
			f.add(bad, about, "%v; add dtoverlay=pwm-2chan to config.txt for GPIO18 and 19, or dtoverlay=pwm-2chan,pin=12,func=4,pin2=13,func2=4, and reboot", l.Err)
		case l.Err != nil:
			f.add(bad, about, "%v", l.Err)
		case l.Used:
			f.add(fair, about, "channel %d of %s is exported already: if another program uses it, both would set it", l.Offset, l.Chip)
		default:
			f.add(good, about, "channel %d of %s; nobody uses it", l.Offset, l.Chip)
		}
	}
}

// permit says how a user gets at a device of a kernel's subsystem.
func permit(subsystem, group, user string) string {
	if group == "root" {
		return fmt.Sprintf("only root may: give it to a group by a udev rule of the subsystem %s", subsystem)
	}
	return fmt.Sprintf("the group %s may: sudo usermod -aG %s %s, then log in anew", group, group, user)
}

func isPi(board *hardware.Inspection) bool { return strings.Contains(board.Model, "Raspberry Pi") }

// judgeRelease says what becomes of the outputs when the process is killed. label is of the chip that they are on.
func (f *findings) judgeRelease(board *hardware.Inspection, label string, guarded bool) {
	guard, runOn := "the guard process then switches them off", good
	if !guarded {
		guard, runOn = "nothing switches them off then, since guard = false", fair
	}
	module := "pinctrl_bcm2835"
	if label == "pinctrl-rp1" {
		module = "pinctrl_rp1"
	}
	persists, known := board.Persist[module]
	switch {
	case label == "":
	case known && persists:
		f.add(fair, "kill -9", "this kernel keeps released lines as they are, so the motors would run on; %s. "+
			"dtparam=strict_gpiod in config.txt has the kernel itself let go of them", guard)
	case known:
		f.add(good, "kill -9", "this kernel makes released lines inputs again")
	default:
		f.add(runOn, "kill -9", "this kernel does not say what becomes of released lines; %s", guard)
	}
	for _, l := range board.Lines {
		if l.PWM() {
			f.add(runOn, "kill -9", "PWM channels go on without their program; %s", guard)
			return
		}
	}
}
