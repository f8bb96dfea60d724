package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/warthog618/go-gpiocdev"
	"github.com/warthog618/go-gpiosim"
)

// The guard on real lines: whatever becomes of roverd, the levels fall, and as on a Raspberry Pi they would not do so
// by themselves. They are read from the kernel's simulator.

// piChip is a chip whose lines keep their level when they are released.
func piChip(t *testing.T) *gpiosim.Chip {
	t.Helper()
	chip := newChip(t)
	const persist = "/sys/module/gpio_sim/parameters/persist"
	if err := os.WriteFile(persist, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile(persist, []byte("0"), 0) })
	return chip
}

var (
	fullSpeed = []int{1, 0, 1, 1, 0, 1}
	allOff    = []int{0, 0, 0, 0, 0, 0}
)

const longTTL = "[drive]\nttl = \"5s\"\n" + l298n

// drive has the rover at full speed.
func (r *rover) drive() {
	r.t.Helper()
	driver, _ := dial(r.t, r.addr)
	driver.send("up")
	r.wantSoon("up", 4*time.Second, fullSpeed...)
}

// guards returns the processes that are roverd's guards, and all that are waited for in vain.
func guards(t *testing.T) (pids []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	for _, file := range all {
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if strings.Contains(string(text), "\x00guard\x00") || strings.Contains(string(stat), ") Z ") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (r *rover) guard() int {
	r.t.Helper()
	pids := guards(r.t)
	if len(pids) != 1 {
		r.t.Fatalf("the guards are %v, want one", pids)
	}
	return pids[0]
}

// died waits for roverd and for its guard, which has the same standard error, and wants the log to tell of it.
func (r *rover) died(says string) {
	r.t.Helper()
	r.cmd.Wait()
	if log := r.log.String(); says != "" && !strings.Contains(log, says) {
		r.t.Errorf("the log does not say %q:\n%s", says, log)
	}
	until(r.t, "the guard has gone", func() bool { return len(guards(r.t)) == 0 })
}

func TestGPIOGuard(t *testing.T) {
	const (
		ended = "guard: roverd ended in the midst of its work: the outputs were off after "
		hung  = "guard: roverd hung and was killed: the outputs were off after "
	)
	for _, tt := range []struct {
		name, config string
		off          []int
		fault        func(t *testing.T, r *rover)
		says         string
	}{
		{"killed", longTTL, allOff, func(t *testing.T, r *rover) { r.cmd.Process.Kill() }, ended},
		{"killed by active-low lines", strings.Replace(longTTL, "[motors.left]", "[motors]\nactive_low = true\n[motors.left]", 1),
			[]int{1, 1, 1, 1, 1, 1}, func(t *testing.T, r *rover) { r.cmd.Process.Kill() }, ended},
		{"stopped", l298n, allOff, func(t *testing.T, r *rover) { r.cmd.Process.Signal(syscall.SIGSTOP) }, hung},
		{"crashed", longTTL, allOff, func(t *testing.T, r *rover) { r.cmd.Process.Signal(syscall.SIGABRT) }, ended},
		{"out of memory", longTTL, allOff, func(t *testing.T, r *rover) {
			if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", r.cmd.Process.Pid), []byte("1000"), 0); err != nil {
				t.Fatal(err)
			}
			// Has the kernel choose a victim as when there is no memory left (Documentation/admin-guide/sysrq.rst).
			if err := os.WriteFile("/proc/sysrq-trigger", []byte("f"), 0); err != nil {
				t.Fatal(err)
			}
		}, ended},
		{"killed after a signal to all", longTTL, allOff, func(t *testing.T, r *rover) {
			syscall.Kill(r.guard(), syscall.SIGTERM)
			syscall.Kill(r.guard(), syscall.SIGINT)
			r.cmd.Process.Kill()
		}, ended},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := launch(t, piChip(t), "-config", write(t, tt.config))
			driver, _ := dial(t, r.addr)
			driver.send("up")
			driver.expectState("driving", func(m message) bool { return m.Motion.Left == 1 && m.Motion.Right == 1 })
			if slices.Equal(r.levels(), tt.off) {
				t.Fatal("the car does not drive")
			}
			tt.fault(t, r)
			r.wantSoon("after the fault", 4*time.Second, tt.off...)
			r.died(tt.says)
			r.wantSoon("in the end", 0, tt.off...)
		})
	}
}

// A roverd that is only late to stop the car finds it stopped, lives on, and drives again. (On a machine that is
// emulated it may be too late all the same.)
func TestGPIOGuardOfALateRoverd(t *testing.T) {
	chip := piChip(t)
	for range 5 {
		r := launch(t, chip, "-config", write(t, l298n))
		driver, _ := dial(t, r.addr)
		driver.send("up")
		r.wantSoon("up", 4*time.Second, fullSpeed...)
		r.cmd.Process.Signal(syscall.SIGSTOP)
		r.wantSoon("while roverd stands still", 4*time.Second, allOff...)
		r.cmd.Process.Signal(syscall.SIGCONT)
		// As a held button does.
		for begin := time.Now(); time.Since(begin) < 2*time.Second; time.Sleep(50 * time.Millisecond) {
			if err := wsutil.WriteClientText(driver.conn, []byte("up")); err != nil {
				break
			}
			if slices.Equal(r.levels(), fullSpeed) {
				r.wait()
				return
			}
		}
		r.died("hung and was killed")
	}
	t.Error("it was killed each time, or stood")
}

// PWM channels outlive their process, so they are the guard's affair, too.
func TestGPIOGuardOfPWM(t *testing.T) {
	chip := piChip(t)
	duties := func() (all []string) {
		for _, channel := range []string{"0", "1"} {
			text, err := os.ReadFile("/sys/class/pwm/pwmchip0/pwm" + channel + "/duty_cycle")
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, strings.TrimSpace(string(text)))
		}
		return all
	}
	config := write(t, strings.NewReplacer("GPIO25", "pwm:pwm-fake:0", "GPIO17", "pwm:pwm-fake:1").Replace(longTTL))
	for _, guarded := range []bool{false, true} {
		r := launch(t, chip, "-config", config, fmt.Sprintf("-guard=%v", guarded))
		driver, _ := dial(t, r.addr)
		driver.send("up 50")
		driver.expectState("driving", func(m message) bool { return m.Motion.Left == 0.5 })
		const half = "5000000" // ns of 100 Hz
		if got := duties(); !slices.Equal(got, []string{half, half}) {
			t.Errorf("the channels' duties are %v, want half", got)
		}
		r.cmd.Process.Kill()
		r.died("")
		if got := duties(); slices.Equal(got, []string{"0", "0"}) != guarded {
			t.Errorf("guarded: %v, and in the end the channels' duties are %v", guarded, got)
		}
	}
	if out, err := command(t, "stop", "-config", config).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// Without the guard the levels stay, so the tests above can fail; and `roverd stop` switches them off by hand.
func TestGPIOStopByHand(t *testing.T) {
	config := write(t, longTTL)
	r := launch(t, piChip(t), "-config", config, "-guard=false")
	r.drive()

	out, err := command(t, "stop", "-config", config).CombinedOutput()
	if want := fmt.Sprintf(`in use by "roverd %d"`, r.cmd.Process.Pid); err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%v, and it says %q instead of %q", err, out, want)
	}
	r.wantSoon("a roverd that runs keeps its lines", 0, fullSpeed...)

	r.cmd.Process.Kill()
	r.died("")
	r.wantSoon("without a guard", 0, fullSpeed...)
	if out, err := command(t, "stop", "-config", config).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	r.wantSoon("switched off by hand", 0, allOff...)
}

// If one line is somebody else's, the others are switched off all the same.
func TestGPIOStopByHandOfTheRest(t *testing.T) {
	chip := piChip(t)
	r := launch(t, chip, "-config", write(t, longTTL), "-guard=false")
	r.drive()
	r.cmd.Process.Kill()
	r.died("")
	held, err := gpiocdev.RequestLine(chip.ChipName(), offsets[0], gpiocdev.WithConsumer("somebody"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	out, err := command(t, "stop", "-config", write(t, longTTL)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), `"GPIO23" of pinctrl-bcm2711 is in use by "somebody"`) {
		t.Errorf("%v: %s", err, out)
	}
	r.wantSoon("but for one", 0, r.levels()[0], 0, 0, 0, 0, 0)
}

func TestGPIOGuardEndsWithRoverd(t *testing.T) {
	r := launch(t, piChip(t), "-config", write(t, longTTL))
	r.drive()
	r.guard()
	r.wait()
	r.wantSoon("in the end", 0, allOff...)
	if left := guards(t); len(left) > 0 {
		t.Errorf("guards are left: %v", left)
	}
	if log := r.log.String(); strings.Contains(log, "guard") {
		t.Errorf("the guard was heard of:\n%s", log)
	}
}

// A car without its guard does not drive.
func TestGPIOGuardIsMissed(t *testing.T) {
	r := launch(t, piChip(t), "-config", write(t, longTTL))
	r.drive()
	syscall.Kill(r.guard(), syscall.SIGKILL)
	r.wantSoon("without the guard", 4*time.Second, allOff...)
	r.died("their guard has ended (signal: killed), and without it the car does not drive")
	if code := r.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("it ended with %v", r.cmd.ProcessState)
	}
	if log := r.log.String(); !strings.Contains(log, "stopped") {
		t.Errorf("it did not end in order:\n%s", log)
	}
}

// Who starts roverd again at once finds neither the lines taken nor anybody switching them off.
func TestGPIOGuardAndTheNext(t *testing.T) {
	chip := piChip(t)
	r := launch(t, chip, "-config", write(t, longTTL))
	for range 5 {
		r.drive()
		r.cmd.Process.Kill()
		next := launch(t, chip, "-config", write(t, longTTL))
		next.drive()
		r.cmd.Wait() // and for its guard, which has the same standard error
		r.log.expect(t, "guard: roverd ended")
		for begin := time.Now(); time.Since(begin) < 100*time.Millisecond; {
			if got := next.levels(); !slices.Equal(got, fullSpeed) {
				t.Fatalf("somebody else sets the lines: %v", got)
			}
		}
		r = next
	}
}

// The guard is given what it needs and no other file.
func TestGPIOGuardsDescriptors(t *testing.T) {
	r := launch(t, piChip(t), "-config", write(t, longTTL))
	r.drive()
	dir := fmt.Sprintf("/proc/%d/fd", r.guard())
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var has []string
	for _, e := range entries {
		to, _ := os.Readlink(dir + "/" + e.Name())
		if strings.HasPrefix(to, "pipe:") {
			to = "pipe"
		}
		has = append(has, e.Name()+" "+to)
	}
	slices.Sort(has)
	if want := []string{"0 pipe", "1 pipe", "2 pipe", "3 /memfd:roverd guard (deleted)", "4 anon_inode:[eventfd]", "5 anon_inode:[pidfd]",
		"6 anon_inode:gpio-line"}; !slices.Equal(has, want) {
		t.Errorf("it has\n%s\nwant\n%s", strings.Join(has, "\n"), strings.Join(want, "\n"))
	}
}
