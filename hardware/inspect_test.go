package hardware

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/warthog618/go-gpiocdev"
	"github.com/warthog618/go-gpiosim"
)

// fakeRoot makes a file system of files and of symbolic links ("-> TARGET").
func fakeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if target, ok := strings.CutPrefix(files[name], "-> "); ok && err == nil {
			err = os.Symlink(target, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(files[name]), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestInspectSystem(t *testing.T) {
	root := fakeRoot(t, map[string]string{
		"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\x00",
		"proc/cmdline":           "8250.nr_uarts=1 console=ttyS0,115200 console=tty1 root=PARTUUID=x",
		"proc/asound/cards":      " 0 [Headphones     ]: bcm2835_headpho - bcm2835 Headphones\n",
		"sys/module/pinctrl_bcm2835/parameters/persist_gpio_outputs": "Y\n",
		"sys/module/pinctrl_rp1/parameters/persist_gpio_outputs":     "N\n",
		"dev/i2c-1":                "",
		"dev/i2c-20":               "",
		"dev/spidev0.0":            "",
		"dev/serial0":              "-> ttyS0",
		"boot/firmware/config.txt": "dtparam=audio=on\ngpio=4=op,dl\n#gpio=5=op,dl\n[pi3]\ngpio=6=op,dl\n[all]\ngpio=7-8,17=pd\n",
	})
	in := Inspect(root, &Config{})
	if in.Model != "Raspberry Pi 4 Model B Rev 1.4" || in.Kernel == "" || in.User == "" || !in.Audio || in.Serial != "ttyS0" {
		t.Errorf("%+v", in)
	}
	if !slices.Equal(in.Console, []string{"ttyS0", "tty1"}) || !slices.Equal(in.Buses, []string{"i2c-1", "spidev0.0"}) {
		t.Errorf("consoles %q, buses %q", in.Console, in.Buses)
	}
	if want := map[string]bool{"pinctrl_bcm2835": true, "pinctrl_rp1": false}; !maps.Equal(in.Persist, want) {
		t.Errorf("released lines persist: %v", in.Persist)
	}
	if want := map[int]string{4: "op,dl", 7: "pd", 8: "pd", 17: "pd"}; !maps.Equal(in.Boot, want) {
		t.Errorf("the firmware sets %v", in.Boot)
	}

	in = Inspect(t.TempDir(), &Config{}) // a board of which nothing is known
	if in.Model != "" || in.Audio || len(in.Persist)+len(in.Boot)+len(in.Buses)+len(in.PWMs)+len(in.Lines) > 0 {
		t.Errorf("%+v", in)
	}
}

func TestInspectPWM(t *testing.T) {
	const device = "sys/devices/platform/soc/fe20c000.pwm/"
	root := fakeRoot(t, map[string]string{
		"sys/class/pwm/pwmchip0":                "-> ../../devices/platform/soc/fe20c000.pwm/pwm/pwmchip0",
		device + "pwm/pwmchip0/device":          "-> ../..",
		device + "pwm/pwmchip0/npwm":            "2\n",
		device + "pwm/pwmchip0/export":          "",
		device + "pwm/pwmchip0/pwm1/duty_cycle": "0\n",
		"etc/group":                             fmt.Sprintf("root:x:4294967295:\nwheels:x:%d:pi\n", os.Getgid()),
	})
	for _, tt := range []struct {
		line string
		used bool
		err  string
	}{
		{"pwm:fe20c000.pwm:0", false, ""},
		{"pwm:fe20c000.pwm:1", true, ""},
		{"pwm:fe20c000.pwm:2", false, "channels 0 to 1"},
		{"pwm:pwmchip0:0", false, `no PWM chip is of the device "pwmchip0"; there are: fe20c000.pwm`},
		{"pwm:fe20c000.pwm", false, "want pwm:DEVICE:CHANNEL"},
		{"pwm:fe20c000.pwm:x", false, "want pwm:DEVICE:CHANNEL"},
	} {
		l := Inspect(root, &Config{Pan: Servo{Line: tt.line}}).Lines[0]
		switch {
		case tt.err != "":
			if l.Err == nil || !strings.Contains(l.Err.Error(), tt.err) {
				t.Errorf("%s: the error is %v, want one that says %s", tt.line, l.Err, tt.err)
			}
		case l.Err != nil || l.Used != tt.used || l.Chip != "fe20c000.pwm" || l.Group != "wheels" || filepath.Base(l.Path) != "pwmchip0":
			t.Errorf("%s: %+v", tt.line, l)
		}
	}
	if l := Inspect(t.TempDir(), &Config{Pan: Servo{Line: "pwm:x:0"}}).Lines[0]; l.Err == nil || !strings.Contains(l.Err.Error(), "there is no PWM chip") {
		t.Errorf("without a chip: %v", l.Err)
	}
}

// What the kernel says of real lines, and that nobody's line is touched to learn it.
func TestGPIOInspect(t *testing.T) {
	chips := simulate(t, gpiosim.NewBank("expander", 8, gpiosim.WithNamedLine(3, "GPIO9")), pi("pinctrl-bcm2711", true))
	held, err := gpiocdev.RequestLine(chips[1].ChipName(), 22, gpiocdev.AsOutput(1), gpiocdev.WithConsumer("somebody"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := os.Symlink(chips[1].ChipName(), "/dev/gpiochip77"); err != nil { // as Raspberry Pi OS has gpiochip4
		t.Fatal(err)
	}
	defer os.Remove("/dev/gpiochip77")
	trace := traceValues(t)
	cfg := wiring("GPIO23", "pinctrl-bcm2711:24", "GPIO9", "GPIO22", "wheel", "")
	cfg.Motors.ActiveLow = true
	cfg.Sensors = []Sensor{{Name: "echo", Kind: Distance, Line: "expander:5", Trigger: "GPIO5"}, {Name: "x_m", Kind: Truth}}
	in := Inspect("/", &cfg)
	if len(in.Chips) != 2 || in.Chips[1].Label != "pinctrl-bcm2711" || in.Chips[1].Lines != 28 || !in.Chips[1].V2 || in.Chips[1].Err != nil {
		t.Errorf("the chips are %+v", in.Chips)
	}
	path := "/dev/" + chips[1].ChipName()
	want := []LineReport{
		{Role: "left.forward", Line: "GPIO23", Output: true, ActiveLow: true, Chip: "pinctrl-bcm2711", Path: path, Offset: 23, Name: "GPIO23", Direction: "input"},
		{Role: "left.backward", Line: "pinctrl-bcm2711:24", Output: true, ActiveLow: true, Chip: "pinctrl-bcm2711", Path: path, Offset: 24, Name: "GPIO24", Direction: "input"},
		{Role: "left.enable", Line: "GPIO9", Output: true, ActiveLow: true},
		{Role: "right.forward", Line: "GPIO22", Output: true, ActiveLow: true, Chip: "pinctrl-bcm2711", Path: path, Offset: 22, Name: "GPIO22", Direction: "output", Used: true, Consumer: "somebody"},
		{Role: "right.backward", Line: "wheel", Output: true, ActiveLow: true},
		{Role: "sensor echo trigger", Line: "GPIO5", Chip: "pinctrl-bcm2711", Path: path, Offset: 5, Name: "GPIO5", Direction: "input"},
		{Role: "sensor echo", Line: "expander:5", Chip: "expander", Path: "/dev/" + chips[0].ChipName(), Offset: 5, Direction: "input"},
	}
	errs := map[string]string{
		"left.enable":    `line "GPIO9" is on chip expander and on pinctrl-bcm2711`,
		"right.backward": `no chip has a line named "wheel"`,
	}
	for i, l := range in.Lines {
		if want := errs[l.Role]; (l.Err == nil) != (want == "") || l.Err != nil && !strings.Contains(l.Err.Error(), want) {
			t.Errorf("%s: the error is %v, want one that says %q", l.Role, l.Err, want)
		}
		l.Err = nil
		if i >= len(want) || l != want[i] {
			t.Errorf("line %d is %+v", i, l)
		}
	}
	if text := trace(); strings.Contains(text, "gpio_value:") {
		t.Errorf("lines were touched:\n%s", text)
	}
}
