package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"roverd/hardware"
)

func TestMend(t *testing.T) {
	const inverted, swapped = "[motors.left]\ninvert = true\n", "[motors]\nswap = true\n"
	ahead, back := func(wheel string) sight { return sight{wheel, true} }, func(wheel string) sight { return sight{wheel, false} }
	none := sight{wheel: "none"}
	relays := wired(false, false)
	relays.Motors.Driver = hardware.Relay
	for _, tt := range []struct {
		name        string
		wiring      wiring
		left, right sight
		lines       string // to paste
		says        []string
	}{
		{"all is well", wired(false, false), ahead("left"), ahead("right"), "", []string{"[motors.left] turns the right way", "[motors.right] turns the right way"}},
		{"left inverted", wired(false, false), back("left"), ahead("right"), inverted, []string{"[motors.left] turns the wrong way"}},
		{"inverted once too often", wired(false, true), back("left"), ahead("right"), "[motors.left]\ninvert = false\n", nil},
		{"swapped", wired(false, false), ahead("right"), ahead("left"), swapped, []string{"The motors are swapped"}},
		{"swapped once too often", wired(true, false), ahead("right"), ahead("left"), "[motors]\nswap = false\n", nil},
		{"swapped, and left inverted", wired(false, false), back("right"), ahead("left"), swapped + "\n" + inverted, nil},
		{"known to be swapped, left motor inverted", wired(true, false), back("left"), ahead("right"), "[motors.right]\ninvert = true\n", nil},
		{"known to be swapped, left motor dead", wired(true, false), none, ahead("right"), "", []string{"[motors.right] did not turn", "[motors.left] turns the right way"}},
		{"swapped, and one dead", wired(false, false), none, ahead("left"), swapped, []string{"[motors.left] did not turn"}},
		{"both dead", wired(false, false), none, none, "", []string{"[motors.left] did not turn", "[motors.right] did not turn"}},
		{"both on one wheel", wired(false, false), back("left"), ahead("left"), "", []string{"Both turned the left wheel"}},
		{"relays", relays, back("left"), ahead("right"), "", []string{"swap its two wires"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, lines, _ := strings.Cut(tt.wiring.mend(tt.left, tt.right), "of these names:\n\n")
			if lines != tt.lines {
				t.Errorf("the lines are\n%s", lines)
			}
			for _, say := range tt.says {
				if !strings.Contains(text, say) {
					t.Errorf("%q does not say %q", text, say)
				}
			}
		})
	}
}

func wired(swap, leftInverted bool) (w wiring) {
	w.Motors.Swap, w.Motors.Left.Invert = swap, leftInverted
	return w
}

// A whole talk, with the answers that people give.
func TestWiggleTalk(t *testing.T) {
	for _, tt := range []struct {
		name, answers, says, err string
		moved                    int
	}{
		{"swapped", "yes\nr\nf\nleft\nFORWARD\n", "swap = true", "", 2},
		{"nonsense is asked again", "yes\nwhat?\n\nn\nx\n\nr\nf\n", "[motors.left] did not turn", "", 2},
		{"once again", "yes\na\na\nl\na\nl\nf\nr\nf\n", "[motors.left] turns the right way", "", 5},
		{"no", "no\n", "", "nothing was moved", 0},
		{"only y", "y\n", "", "nothing was moved", 0},
		{"nobody", "", "", "nobody answers", 0},
		{"gone", "yes\nl\n", "", "nobody answers", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg, err := loadConfig([]string{"-sim"}, noEnv)
				if err != nil {
					t.Fatal(err)
				}
				var out strings.Builder
				begin := time.Now()
				err = wiggle(t.Context(), cfg, strings.NewReader(tt.answers), &out)
				if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("the error is %v", err)
				}
				if !strings.Contains(out.String(), tt.says) || strings.Count(out.String(), "motor runs ahead") != tt.moved {
					t.Errorf("it says\n%s", &out)
				}
				// Each question comes when the car stands again, after its time to live, to which nothing else adds.
				if took := time.Since(begin); took != time.Duration(tt.moved)*wiggleTime {
					t.Errorf("it took %s for %d moves", took, tt.moved)
				}
			})
		})
	}
}

// A state from before the move, as a sensor makes one at any time, is not taken for its end. (The test plays the car.)
func TestWiggleWaitsForItsOwnMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &wiggler{states: make(chan hardware.State), results: make(chan hardware.Result)}
		w.car = hardware.New(hardware.Config{}, nil, nil, nil)
		moved := make(chan error, 1)
		go func() { moved <- w.move(t.Context(), hardware.Command{Left: 1}) }()
		w.results <- hardware.Result{Applied: true, Seq: 5}
		for _, s := range []hardware.State{{Seq: 4}, {Seq: 5, Left: 1}, {Seq: 6, Left: 1}} {
			w.states <- s
			synctest.Wait()
			if len(moved) > 0 {
				t.Fatalf("%+v is taken for the end", s)
			}
		}
		w.states <- hardware.State{Seq: 7}
		if err := <-moved; err != nil {
			t.Error(err)
		}
	})
}

// An interrupt ends it, also while a question waits.
func TestWiggleInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, err := loadConfig([]string{"-sim"}, noEnv)
		if err != nil {
			t.Fatal(err)
		}
		in, answers := io.Pipe()
		ctx, interrupt := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- wiggle(ctx, cfg, in, io.Discard) }()
		io.WriteString(answers, "yes\n")
		synctest.Wait()
		time.Sleep(2 * wiggleTime)
		interrupt()
		if err := <-ended; !errors.Is(err, errInterrupted) {
			t.Errorf("the error is %v", err)
		}
		answers.Close()
	})
}

// What is behind isTerminal when somebody is there.
func TestTerminal(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("NOT TESTED here: %v", err)
	}
	defer tty.Close()
	if !isTerminal(tty) {
		t.Error("a terminal is none")
	}
	if isTerminal(strings.NewReader("yes\n")) {
		t.Error("a text is a terminal")
	}
}

// change is what the kernel did to a line.
type change struct {
	line, value int // value is -1 for a direction
}

// simulatedBoard has the lines of l298n; changes returns all that was done to any of them, whoever did it.
func simulatedBoard(t *testing.T) (changes func() []change) {
	t.Helper()
	simulatePi(t)
	trace := traceLines(t)
	trace.write("events/gpio/gpio_direction/enable", "1")
	return func() (all []change) {
		base := math.MaxInt // of the chip, in the kernel's numbering of all lines
		for _, m := range regexp.MustCompile(`gpio_(?:value|direction): ([0-9]+) +(?:set ([01])|in|out)`).FindAllStringSubmatch(trace.text(), -1) {
			c := change{value: -1}
			c.line, _ = strconv.Atoi(m[1])
			if m[2] != "" {
				c.value = int(m[2][0] - '0')
			}
			base = min(base, c.line-17) // the lowest of l298n's lines
			all = append(all, c)
		}
		for i := range all {
			all[i].line -= base
		}
		return all
	}
}

// wantOnly wants those of the lines to have been on, and no others, and all to be off in the end.
func wantOnly(t *testing.T, what string, all []change, lines ...int) {
	t.Helper()
	last, on := map[int]int{}, map[int]bool{}
	for _, c := range all {
		if c.value >= 0 {
			last[c.line] = c.value
		}
		if c.value == 1 {
			on[c.line] = true
		}
	}
	if got := slices.Sorted(maps.Keys(on)); !slices.Equal(got, lines) {
		t.Errorf("%s: the lines %v were on, want %v", what, got, lines)
	}
	for line, value := range last {
		if value != 0 {
			t.Errorf("%s: GPIO%d is left on", what, line)
		}
	}
}

// check takes no line: the kernel has nothing to do to any.
func TestGPIOCheckMovesNothing(t *testing.T) {
	changes := simulatedBoard(t)
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), t.Context(), []string{"check", "-config", write(t, l298n)}, noEnv, &stdout, &stderr)
	if code != 0 || !strings.Contains(stdout.String(), "ok    left.forward GPIO23: line 23 of pinctrl-bcm2711, input; nobody uses it\n") {
		t.Errorf("exit code %d\n%s\n%s", code, &stdout, &stderr)
	}
	if all := changes(); len(all) > 0 {
		t.Errorf("the lines were changed: %v", all)
	}
}

// Who may not open the chip is told so.
func TestGPIOCheckPermission(t *testing.T) {
	simulatedBoard(t)
	const file = "/tmp/check.toml" // where another user can read it
	if err := os.WriteFile(file, []byte(l298n), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file)
	cmd := command(t, "check", "-config", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "may not open it") || strings.Contains(string(out), "left.forward") {
		t.Errorf("%v\n%s", err, out)
	}
}

// The wiggle on real lines: none before the answer, one motor at a time, and all off when it ends.
func TestGPIOWiggle(t *testing.T) {
	changes := simulatedBoard(t)
	cfg, err := loadConfig([]string{"-config", write(t, l298n)}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	in, answers := io.Pipe()
	out := newLogBuffer()
	ended := make(chan error, 1)
	go func() { ended <- wiggle(t.Context(), cfg, in, out) }()
	out.expect(t, "Type yes to go on")
	if all := changes(); len(all) > 0 {
		t.Errorf("before the answer the lines were changed: %v", all)
	}
	io.WriteString(answers, "yes\n")
	out.expect(t, "The left motor runs ahead.\nWhich wheel turned?")
	left := changes()
	wantOnly(t, "the left motor", left, 23, 25)
	io.WriteString(answers, "r\nb\n")
	out.expect(t, "The right motor runs ahead.\nWhich wheel turned?")
	wantOnly(t, "the right motor", changes()[len(left):], 17, 22)
	io.WriteString(answers, "l\nf\n")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	answers.Close()
	if !strings.Contains(out.String(), "[motors]\nswap = true\n\n[motors.left]\ninvert = true\n") {
		t.Errorf("it says\n%s", out)
	}
}

// An interrupt while a motor runs switches it off at once.
func TestGPIOWiggleInterrupted(t *testing.T) {
	changes := simulatedBoard(t)
	cfg, err := loadConfig([]string{"-config", write(t, l298n)}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	in, answers := io.Pipe()
	defer answers.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- wiggle(ctx, cfg, in, io.Discard) }()
	io.WriteString(answers, "yes\n")
	for !slices.Contains(changes(), change{23, 1}) {
		runtime.Gosched()
	}
	begin := time.Now()
	interrupt()
	if err := <-ended; !errors.Is(err, errInterrupted) {
		t.Errorf("the error is %v", err)
	}
	if took := time.Since(begin); took > wiggleTime/2 {
		t.Errorf("it took %s", took)
	}
	wantOnly(t, "interrupted", changes(), 23, 25)
}
