package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"roverd/hardware"
)

const (
	wiggleTime  = 500 * time.Millisecond
	wiggleSpeed = 0.4 // of the way from a motor's least duty to its most; switched motors know only full speed
)

// wiggler moves one motor at a time and asks what it did, so that swapped and inverted wheels are found. The lines are
// the car's, as ever, with its time to live.
type wiggler struct {
	cfg     *config
	answers <-chan string
	out     io.Writer

	car     *hardware.Car
	states  chan hardware.State // the newest
	results chan hardware.Result
	ended   chan error // of the car
}

// wiggle asks, moves, and prints what is to change in the config. However it ends, the lines are off.
func wiggle(ctx context.Context, cfg *config, in io.Reader, out io.Writer) (err error) {
	ctx, stop := context.WithCancel(ctx)
	w := &wiggler{
		cfg: cfg, answers: readLines(ctx, in), out: out,
		states: make(chan hardware.State, 1), results: make(chan hardware.Result, 1), ended: make(chan error, 1),
	}
	defer stop()
	fmt.Fprint(out, "\nThis runs the motors, one at a time, for half a second each.")
	if cfg.simulated() {
		fmt.Fprintln(out, " They are simulated: nothing moves.")
	} else {
		fmt.Fprintln(out, " Lift the wheels off the ground.")
	}
	answer, err := w.ask(ctx, "Type yes to go on: ")
	if err != nil {
		return err
	}
	if answer != "yes" {
		return errors.New("check: the answer was not yes, so nothing was moved")
	}
	if w.car, _, err = newCar(cfg, w.changed); err != nil {
		return fmt.Errorf("%s: %w", cfg.file, err)
	}
	go func() { w.ended <- w.car.Run(ctx) }()
	defer func() {
		stop()
		err = errors.Join(err, <-w.ended)
	}()
	left, err := w.try(ctx, "left", hardware.Command{Left: wiggleSpeed})
	if err != nil {
		return err
	}
	right, err := w.try(ctx, "right", hardware.Command{Right: wiggleSpeed})
	if err != nil {
		return err
	}
	fmt.Fprint(out, "\n", cfg.wiring.mend(left, right))
	return nil
}

// sight is what somebody saw a motor do.
type sight struct {
	wheel string // "left", "right" or "none"
	ahead bool
}

// try moves one motor ahead, as often as is asked for, and returns what came of it.
func (w *wiggler) try(ctx context.Context, side string, cmd hardware.Command) (s sight, err error) {
	for {
		fmt.Fprintf(w.out, "\nThe %s motor runs ahead.\n", side)
		if err := w.move(ctx, cmd); err != nil {
			return s, err
		}
		s.wheel, err = w.choose(ctx, "Which wheel turned?", "left", "right", "none", "again")
		if err != nil || s.wheel == "none" {
			return s, err
		}
		if s.wheel == "again" {
			continue
		}
		way, err := w.choose(ctx, "Which way?", "forward", "back", "again")
		if err != nil || way != "again" {
			s.ahead = way == "forward"
			return s, err
		}
	}
}

// move drives for a time to live, and returns when the car stands again.
func (w *wiggler) move(ctx context.Context, cmd hardware.Command) error {
	cmd.Kind, cmd.TTL, cmd.At, cmd.From = hardware.Drive, wiggleTime, time.Now(), w
	w.car.Do(cmd)
	var result hardware.Result
	select {
	case result = <-w.results:
	case <-ctx.Done():
		return errInterrupted
	}
	if result.Err != nil {
		return fmt.Errorf("check: %w", result.Err)
	}
	for {
		select {
		case s := <-w.states:
			if s.Seq > result.Seq && s.Left == 0 && s.Right == 0 {
				return nil
			}
		case <-ctx.Done():
			return errInterrupted
		case err := <-w.ended:
			w.ended <- nil // told here
			return err
		}
	}
}

var errInterrupted = errors.New("check: interrupted")

// Done is told the outcome of a command.
func (w *wiggler) Done(_ hardware.Command, r hardware.Result) { w.results <- r }

// changed is told every state, on the car's goroutine.
func (w *wiggler) changed(s hardware.State) {
	select {
	case <-w.states:
	default:
	}
	w.states <- s
}

// choose asks until it gets one of the words, or the beginning of one.
func (w *wiggler) choose(ctx context.Context, question string, words ...string) (string, error) {
	prompt := question + " " + strings.Join(words, ", ") + " (the first letter will do): "
	for {
		answer, err := w.ask(ctx, prompt)
		if err != nil {
			return "", err
		}
		for _, word := range words {
			if answer != "" && strings.HasPrefix(word, answer) {
				return word, nil
			}
		}
	}
}

func (w *wiggler) ask(ctx context.Context, prompt string) (string, error) {
	fmt.Fprint(w.out, prompt)
	select {
	case answer, ok := <-w.answers:
		if !ok {
			return "", errors.New("check: nobody answers")
		}
		return strings.ToLower(strings.TrimSpace(answer)), nil
	case <-ctx.Done():
		fmt.Fprintln(w.out)
		return "", errInterrupted
	}
}

// readLines reads on a goroutine of its own, so that an interrupt is heard while nobody types. It ends with the line
// that it then waits for, or with the process.
func readLines(ctx context.Context, in io.Reader) <-chan string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}

// mend says what to change so that each motor does what it is told. left and right are what the two were seen to do
// when they were told to run ahead.
func (w *wiring) mend(left, right sight) string {
	if left.wheel == right.wheel && left.wheel != "none" {
		return fmt.Sprintf("Both turned the %s wheel: look at which line goes to which input of the motor driver.\n", left.wheel)
	}
	var text, lines strings.Builder
	if left.wheel == "right" || right.wheel == "left" {
		fmt.Fprintln(&text, "The motors are swapped.")
		fmt.Fprintf(&lines, "\n[motors]\nswap = %t\n", !w.Motors.Swap)
	}
	if w.Motors.Swap { // a section stays with its lines, whatever motor they are now
		left, right = right, left
	}
	for _, m := range []struct {
		section string
		motorConfig
		sight
	}{{"motors.left", w.Motors.Left, left}, {"motors.right", w.Motors.Right, right}} {
		switch {
		case m.wheel == "none":
			fmt.Fprintf(&text, "The motor of [%s] did not turn: is its battery on, and the battery's ground joined to the board's? If it hums, raise min_duty.\n", m.section)
		case m.ahead:
			fmt.Fprintf(&text, "The motor of [%s] turns the right way.\n", m.section)
		case w.Motors.Driver == hardware.Relay:
			fmt.Fprintf(&text, "The motor of [%s] turns the wrong way: swap its two wires at the relay.\n", m.section)
		default:
			fmt.Fprintf(&text, "The motor of [%s] turns the wrong way.\n", m.section)
			fmt.Fprintf(&lines, "\n[%s]\ninvert = %t\n", m.section, !m.Invert)
		}
	}
	if lines.Len() > 0 {
		fmt.Fprint(&text, "Put this into the config, into the sections of these names:\n", lines.String())
	}
	return text.String()
}
