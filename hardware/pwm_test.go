package hardware

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests have the kernel's own PWM, with a chip of no hardware (gpiosim/pwm-fake.c), in the guest.

const fakePWM = "pwm:pwm-fake:"

// pwmChip returns the folder of the guest's PWM chip, none of whose channels is on or exported at the end of the test.
func pwmChip(t *testing.T) string {
	t.Helper()
	if os.Getenv("ROVERD_GUEST") == "" {
		t.Skip("NOT TESTED here: it needs a PWM chip; `make guest` runs it in a virtual machine")
	}
	c, err := findPWM(fakePWM + "0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for channel := range 4 {
			os.WriteFile(fmt.Sprint(c.chip, "/pwm", channel, "/enable"), []byte("0"), 0) // outlasts the export
			os.WriteFile(c.chip+"/unexport", fmt.Append(nil, channel), 0)
		}
	})
	return c.chip
}

// pwmState reads what a channel does: period, duty cycle, polarity and whether it is enabled.
func pwmState(t *testing.T, chip string, channel int) string {
	t.Helper()
	dir := fmt.Sprint(chip, "/pwm", channel, "/")
	if _, err := os.Stat(dir); err != nil {
		return "not exported"
	}
	var words []string
	for _, name := range []string{"period", "duty_cycle", "polarity", "enable"} {
		text, err := os.ReadFile(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, strings.TrimSpace(string(text)))
	}
	return strings.Join(words, " ")
}

// leave has somebody set a channel, and leave it so.
func leave(t *testing.T, chip string, channel int, values ...string) {
	t.Helper()
	if err := os.WriteFile(chip+"/export", fmt.Append(nil, channel), 0); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"period", "duty_cycle", "polarity", "enable"}[:len(values)] {
		if err := os.WriteFile(fmt.Sprint(chip, "/pwm", channel, "/", name), []byte(values[i]), 0); err != nil {
			t.Fatal(err)
		}
	}
}

func wantPWM(t *testing.T, what, chip string, want ...string) {
	t.Helper()
	for channel, want := range want {
		if got := pwmState(t, chip, channel); got != want {
			t.Errorf("%s channel %d is %s, want %s", what, channel, got, want)
		}
	}
}

func TestGPIOPWMNames(t *testing.T) {
	chip := pwmChip(t)
	for line, want := range map[string]string{
		fakePWM + "4": "channels 0 to 3", "pwm:pwmchip0:0": "there are: pwm-fake", "pwm:pwm-fake": "want pwm:DEVICE:CHANNEL",
	} {
		_, _, err := OpenLines([]Output{{Role: "camera.pan", Line: fakePWM + "0"}, {Role: "left.enable", Line: line}})
		if err == nil || !strings.HasPrefix(err.Error(), "left.enable: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want one of left.enable that says %s", line, err, want)
		}
		wantPWM(t, "given back,", chip, "not exported")
	}
}

func TestGPIOPWM(t *testing.T) {
	chip := pwmChip(t)
	dir := startTrace(t, "pwm/pwm_apply")
	lines, where, err := OpenLines([]Output{
		{Role: "camera.pan", Line: fakePWM + "0", Period: servoPeriod, Whole: true},
		{Role: "left.enable", Line: fakePWM + "1"},
		{Role: "right.enable", Line: fakePWM + "2", Period: 10 * time.Millisecond, ActiveLow: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if where != "pwm-fake" {
		t.Errorf("the car is at %q", where)
	}
	wantPWM(t, "when it has been opened,", chip, "20000000 0 normal 1", "1000000 0 normal 1", "10000000 0 inversed 1", "not exported")
	if err := lines.Set([]float64{.075, .3, .4}); err != nil {
		t.Fatal(err)
	}
	wantPWM(t, "driven,", chip, "20000000 1500000 normal 1", "1000000 1000000 normal 1", "10000000 4000000 inversed 1")
	if err := os.WriteFile(chip+"/pwm0/duty_cycle", []byte("7"), 0); err != nil { // to see who writes it
		t.Fatal(err)
	}
	if err := lines.Set([]float64{.075, .6, .5}); err != nil {
		t.Fatal(err)
	}
	wantPWM(t, "changed in one channel,", chip, "20000000 7 normal 1", "1000000 1000000 normal 1", "10000000 5000000 inversed 1")
	if err := lines.Set([]float64{0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	wantPWM(t, "switched off,", chip, "20000000 0 normal 1", "1000000 0 normal 1", "10000000 0 inversed 1")
	if err := lines.Set([]float64{.075, 1, 1}); err != nil {
		t.Fatal(err)
	}
	if err := lines.Close(); err != nil {
		t.Error(err)
	}
	wantPWM(t, "closed,", chip, "not exported", "not exported", "10000000 0 inversed 1")
	events := strings.Split(strings.TrimSpace(read(dir, "trace")), "\n")
	if last := events[len(events)-1]; !strings.Contains(last, "duty_cycle=0") {
		t.Errorf("the last that the chip was told is %s", last)
	}
}

// A write that failed may have come to something: switching off is another, though by the last that succeeded it is
// off.
func TestGPIOPWMSwitchesOffAfterAFailure(t *testing.T) {
	chip := pwmChip(t)
	c, err := openPWM(Output{Line: fakePWM + "0", Period: servoPeriod})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := os.WriteFile(chip+"/pwm0/period", []byte("1000"), 0); err != nil { // in which no such pulse fits
		t.Fatal(err)
	}
	if err := c.Set(.075); err == nil {
		t.Error("it can be set to more than its period")
	}
	if err := os.WriteFile(chip+"/pwm0/duty_cycle", []byte("7"), 0); err != nil { // what the write may have done
		t.Fatal(err)
	}
	if err := c.Set(0); err != nil {
		t.Error(err)
	}
	wantPWM(t, "switched off,", chip, "1000 0 normal 1")
}

// What a roverd that was killed has left on: the next takes it, off at once, and offPWM makes it safe.
func TestGPIOPWMLeftBehind(t *testing.T) {
	for _, tt := range []struct{ name, period, duty, polarity, enable, off string }{
		{"on", "20000000", "1500000", "normal", "1", "20000000 0 normal 0"},
		{"on and active low", "500000", "400000", "inversed", "1", "500000 0 inversed 1"},
		{"set and not on", "500000", "400000", "normal", "0", "500000 0 normal 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chip := pwmChip(t)
			leave(t, chip, 0, tt.period, tt.duty, tt.polarity, tt.enable)
			leave(t, chip, 1, tt.period, tt.duty, tt.polarity, tt.enable)
			if err := offPWM(fakePWM+"0", false); err != nil {
				t.Fatal(err)
			}
			wantPWM(t, "made safe,", chip, tt.off)
			c, err := openPWM(Output{Line: fakePWM + "1", Period: 100 * time.Microsecond})
			if err != nil {
				t.Fatal(err)
			}
			wantPWM(t, "taken over,", chip, tt.off, "100000 0 normal 1")
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("never used", func(t *testing.T) {
		chip := pwmChip(t)
		leave(t, chip, 3)
		if err := offPWM(fakePWM+"3", false); err != nil {
			t.Error(err)
		}
		if err := offPWM(fakePWM+"2", false); err != nil {
			t.Error(err)
		}
		wantPWM(t, "afterwards", chip, "not exported", "not exported", "not exported", "0 0 normal 0")
	})
}

func TestGPIOPWMIsLocked(t *testing.T) {
	chip := pwmChip(t)
	c, err := openPWM(Output{Line: fakePWM + "0", Period: servoPeriod})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Set(.075); err != nil {
		t.Fatal(err)
	}
	if _, err := openPWM(Output{Line: fakePWM + "0"}); err == nil || !strings.Contains(err.Error(), "another roverd") {
		t.Errorf("taken a second time: %v", err)
	}
	wantPWM(t, "asked for a second time,", chip, "20000000 1500000 normal 1")
	if err := offPWM(fakePWM+"0", true); err != nil { // the guard, beside a roverd that is late
		t.Error(err)
	}
	wantPWM(t, "off for now,", chip, "20000000 0 normal 1")
	if err := offPWM(fakePWM+"0", false); err != nil { // the guard, beside a roverd that hangs
		t.Error(err)
	}
	wantPWM(t, "made safe under a lock,", chip, "20000000 0 normal 0")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// A user who owns the chip's files waits for udev to be given the channel's, but not for ever.
func TestGPIOPWMPermissions(t *testing.T) {
	chip := pwmChip(t)
	if err := os.Chmod(chip+"/unexport", 0o666); err != nil {
		t.Fatal(err)
	}
	open := func() error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with its file system user
			unix.Setfsuid(1000)
			c, err := openPWM(Output{Line: fakePWM + "0"})
			if err == nil {
				err = c.Close()
			}
			done <- err
		}()
		return <-done
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "usermod -aG gpio") {
		t.Errorf("with no right to export: %v", err)
	}
	wantPWM(t, "with no right to export", chip, "not exported")
	if err := os.Chmod(chip+"/export", 0o666); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "usermod -aG gpio") {
		t.Errorf("with no right to the channel: %v", err)
	}
	if err := os.WriteFile(chip+"/unexport", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	udev := make(chan error)
	go func() {
		for {
			if _, err := os.Stat(chip + "/pwm0/enable"); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		for _, name := range []string{"period", "duty_cycle", "polarity", "enable"} {
			time.Sleep(50 * time.Millisecond) // udev is slow
			if err := os.Chmod(chip+"/pwm0/"+name, 0o666); err != nil {
				udev <- err
			}
		}
		close(udev)
	}()
	if err := open(); err != nil {
		t.Error(err)
	}
	if err := <-udev; err != nil {
		t.Error(err)
	}
}
