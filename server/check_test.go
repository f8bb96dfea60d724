package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"roverd/hardware"
)

// boardFor is a Raspberry Pi to which a car is wired, with nothing wrong.
func boardFor(model, label string, car *hardware.Config) *hardware.Inspection {
	b := &hardware.Inspection{
		Model: model, Kernel: "6.6.31+rpt-rpi-v8", User: "pi",
		Chips:   []hardware.ChipReport{{Path: "/dev/gpiochip0", Label: label, Lines: 54, V2: true, Group: "gpio"}},
		Persist: map[string]bool{"pinctrl_bcm2835": false, "pinctrl_rp1": false},
		Boot:    map[int]string{},
	}
	add := func(l hardware.LineReport) {
		if number, ok := strings.CutPrefix(strings.Replace(l.Line, "gpiochip0:", "GPIO", 1), "GPIO"); ok {
			l.Chip, l.Path, l.Name, l.Direction = label, "/dev/gpiochip0", "GPIO"+number, "input"
			l.Offset, _ = strconv.Atoi(number)
		}
		b.Lines = append(b.Lines, l)
	}
	for _, o := range car.Outputs() {
		add(hardware.LineReport{Role: o.Role, Line: o.Line, Output: true, ActiveLow: o.ActiveLow})
	}
	for _, s := range car.Sensors {
		add(hardware.LineReport{Role: "sensor " + s.Name, Line: s.Line})
	}
	return b
}

func TestCheckJudges(t *testing.T) {
	const pi3, pi4, pi5 = "Raspberry Pi 3 Model B Rev 1.2", "Raspberry Pi 4 Model B Rev 1.4", "Raspberry Pi 5 Model B Rev 1.0"
	motors := func(left, right string) string {
		text := ""
		for side, pins := range map[string]string{"left": left, "right": right} {
			p := strings.Fields(pins)
			text += fmt.Sprintf("[motors.%s]\nforward = %q\nbackward = %q\nenable = %q\n", side, p[0], p[1], p[2])
		}
		return text
	}
	pwm := func(device string, rest string) string {
		return motors("GPIO23 GPIO24 pwm:"+device+":0", rest)
	}
	type change = func(*hardware.Inspection)
	for _, tt := range []struct {
		name         string
		model, label string
		config       string
		change       change
		want         []finding // all that are not ok, each with a part of its text
	}{
		{"all is well on a Pi 3", pi3, "pinctrl-bcm2835", l298n, nil, nil},
		{"all is well on a Pi 4", pi4, "pinctrl-bcm2711", l298n, nil, nil},
		{"all is well on a Pi 5", pi5, "pinctrl-rp1", l298n, nil, nil},
		{"buses that no line is on", pi4, "pinctrl-bcm2711", l298n, func(b *hardware.Inspection) {
			b.Buses, b.Serial, b.Console = []string{"i2c-1", "spidev0.0"}, "ttyS0", []string{"ttyS0"}
		}, nil},
		{"no config", pi4, "pinctrl-bcm2711", "", nil, nil},
		{"another board with the same numbers", "Board 1", "pinctrl-other", "[motors]\npreset = \"camjam3\"\n", nil, nil},

		// Chips.
		{"no chip", "", "x", l298n, func(b *hardware.Inspection) { b.Chips = nil }, []finding{
			{bad, "GPIO chips", "there is no /dev/gpiochip*"},
		}},
		{"no chip and no config", "", "x", "", func(b *hardware.Inspection) { b.Chips = nil }, nil},
		{"no permission", pi4, "pinctrl-bcm2711", l298n, func(b *hardware.Inspection) {
			b.Chips[0].Err = &os.PathError{Op: "open", Path: "/dev/gpiochip0", Err: os.ErrPermission}
			for i := range b.Lines {
				b.Lines[i] = hardware.LineReport{Role: b.Lines[i].Role, Err: errors.New("no chip to look for it")}
			}
		}, []finding{{bad, "/dev/gpiochip0", "sudo usermod -aG gpio pi"}}},
		{"no permission for anybody", pi4, "pinctrl-bcm2711", l298n, func(b *hardware.Inspection) {
			b.Chips[0].Err, b.Chips[0].Group = os.ErrPermission, "root"
		}, []finding{{bad, "/dev/gpiochip0", "by a udev rule of the subsystem gpio"}}},
		{"no permission and no config", pi4, "pinctrl-bcm2711", "", func(b *hardware.Inspection) { b.Chips[0].Err = os.ErrPermission },
			[]finding{{fair, "/dev/gpiochip0", "sudo usermod"}}},
		{"no permission for a chip that is not needed", pi4, "pinctrl-bcm2711", l298n, func(b *hardware.Inspection) {
			b.Chips = append(b.Chips, hardware.ChipReport{Path: "/dev/gpiochip1", Err: os.ErrPermission, Group: "gpio"})
		}, []finding{{fair, "/dev/gpiochip1", "sudo usermod"}}},
		{"an old kernel", pi3, "pinctrl-bcm2835", l298n, func(b *hardware.Inspection) {
			b.Chips[0].V2, b.Kernel = false, "5.4.83-v7+"
		}, []finding{{bad, "/dev/gpiochip0", "the kernel 5.4.83-v7+ is older than 5.10"}}},

		// Lines.
		{"an unknown line", pi4, "pinctrl-bcm2711", motors("wheel GPIO24 GPIO25", "GPIO22 GPIO27 GPIO17"), func(b *hardware.Inspection) {
			b.Lines[0].Err = errors.New(`no chip has a line named "wheel"`)
		}, []finding{{bad, "left.forward", "wheel"}}},
		{"somebody's line", pi4, "pinctrl-bcm2711", l298n, func(b *hardware.Inspection) {
			b.Lines[3].Used, b.Lines[3].Consumer = true, "gpioset"
		}, []finding{{bad, "right.forward GPIO22", `"gpioset" uses it: stop that program`}}},
		{"the kernel's line", pi4, "pinctrl-bcm2711", l298n, func(b *hardware.Inspection) { b.Lines[3].Used = true }, []finding{
			{bad, "right.forward GPIO22", "the kernel uses it"},
		}},
		{"a running roverd's lines", pi4, "pinctrl-bcm2711", l298n, func(b *hardware.Inspection) {
			for i := range b.Lines {
				b.Lines[i].Used, b.Lines[i].Consumer = true, "roverd 712"
			}
		}, []finding{{fair, "lines", "sudo systemctl stop roverd"}}},
		{"one line by two names", pi4, "pinctrl-bcm2711", motors("GPIO23 GPIO24 GPIO25", "GPIO22 gpiochip0:23 GPIO17"), nil, []finding{
			{bad, "right.backward gpiochip0:23", "line 23 of pinctrl-bcm2711, which left.forward has already"},
		}},
		{"a sensor on a motor's line", pi4, "pinctrl-bcm2711", l298n + "[[sensors]]\nname = \"bumper\"\nkind = \"contact\"\nline = \"gpiochip0:17\"\n", nil, []finding{
			{bad, "sensor bumper gpiochip0:17", "right.enable has already"},
		}},
		{"two chips", pi4, "pinctrl-bcm2711", l298n, func(b *hardware.Inspection) {
			b.Lines[4].Chip, b.Lines[4].Path = "expander", "/dev/gpiochip2"
		}, []finding{{bad, "right.backward GPIO27", "it is on chip expander, but GPIO23 on pinctrl-bcm2711"}}},
		{"a sensor on another chip", pi4, "pinctrl-bcm2711", l298n + "[[sensors]]\nname = \"bumper\"\nkind = \"contact\"\nline = \"expander:5\"\n", func(b *hardware.Inspection) {
			b.Lines[6].Chip, b.Lines[6].Path = "expander", "/dev/gpiochip2"
		}, nil},

		// Boot.
		{"an enable that is pulled up, and the console", pi4, "pinctrl-bcm2711", "[motors]\npreset = \"rasptank\"\n", nil, []finding{
			{fair, "left.forward GPIO14", "high for a moment at boot"},
			{fair, "left.enable GPIO4", "pulled up: the motor is enabled, and only its two other lines keep it off; choose another pin, or gpio=4=op,dl in config.txt and a pull-down resistor"},
		}},
		{"inputs that are pulled up", pi3, "pinctrl-bcm2835", "[motors]\npreset = \"camjam3\"\n", nil, []finding{
			{fair, "right.forward GPIO7", "the right motor is braked"}, {fair, "right.backward GPIO8", "the right motor is braked"},
		}},
		{"a motor that runs at boot", pi5, "pinctrl-rp1", motors("GPIO5 GPIO24 GPIO6", "GPIO22 GPIO27 GPIO17"), nil, []finding{
			{fair, "left.forward GPIO5", "the left motor may run until roverd starts"}, {fair, "left.enable GPIO6", "may run"},
		}},
		{"an input that is pulled up while the enable is not", pi4, "pinctrl-bcm2711", motors("GPIO5 GPIO24 GPIO25", "GPIO22 GPIO27 GPIO17"), nil, []finding{
			{fair, "left.forward GPIO5", "only the line that enables the motor keeps it off"},
		}},
		{"an input that is pulled up while the enable is a PWM channel", pi4, "pinctrl-bcm2711",
			motors("GPIO5 GPIO24 pwm:fe20c000.pwm:0", "GPIO22 GPIO27 GPIO17"), hasPWM("fe20c000.pwm", 2), []finding{
				{fair, "left.forward GPIO5", "only the line that enables the motor keeps it off"},
			}},
		{"a pin that the board pulls up", pi4, "pinctrl-bcm2711", motors("GPIO23 GPIO24 GPIO2", "GPIO22 GPIO27 GPIO17"), nil, []finding{
			{fair, "left.enable GPIO2", "choose another pin: the board itself pulls this one up"},
		}},
		{"config.txt holds it", pi4, "pinctrl-bcm2711", motors("GPIO5 GPIO24 GPIO25", "GPIO22 GPIO27 GPIO17"), func(b *hardware.Inspection) {
			b.Boot[5] = "op,dl"
		}, nil},
		{"config.txt switches it on", pi4, "pinctrl-bcm2711", l298n, func(b *hardware.Inspection) { b.Boot[25] = "op,dh" }, []finding{
			{fair, "left.enable GPIO25", "set by config.txt (op,dh)"},
		}},
		{"active low turns it round", pi4, "pinctrl-bcm2711", "[motors]\ndriver = \"relay\"\nactive_low = true\n[motors.left]\nforward = \"GPIO5\"\n[motors.right]\nforward = \"GPIO23\"\n",
			nil, []finding{{fair, "right.forward GPIO23", "pulled down: the right motor may run until roverd starts; choose another pin, or gpio=23=op,dh in config.txt and a pull-up"}}},
		{"standby", pi4, "pinctrl-bcm2711", "[motors]\ndriver = \"tb6612fng\"\nstandby = \"GPIO5\"\n" + l298n, nil, []finding{
			{fair, "standby GPIO5", "the driver is awake"},
		}},
		{"servos don't turn without pulses", pi4, "pinctrl-bcm2711", l298n + "[pan]\nline = \"GPIO5\"\n", nil, nil},

		// Buses.
		{"I2C and the memory of a HAT", pi4, "pinctrl-bcm2711", l298n + "[pan]\nline = \"GPIO2\"\n[tilt]\nline = \"GPIO0\"\n",
			func(b *hardware.Inspection) { b.Buses = []string{"i2c-1"} }, []finding{
				{fair, "camera.tilt GPIO0", "HAT"}, {fair, "camera.pan GPIO2", "dtparam=i2c_arm=off"},
			}},
		{"I2C is off", pi4, "pinctrl-bcm2711", l298n + "[pan]\nline = \"GPIO2\"\n", nil, nil},
		{"SPI", pi4, "pinctrl-bcm2711", l298n + "[pan]\nline = \"GPIO10\"\n", func(b *hardware.Inspection) { b.Buses = []string{"spidev0.1"} },
			[]finding{{fair, "camera.pan GPIO10", "dtparam=spi=off"}}},
		{"several lines on one bus", pi4, "pinctrl-bcm2711", l298n + "[pan]\nline = \"GPIO10\"\n[tilt]\nline = \"GPIO11\"\n",
			func(b *hardware.Inspection) { b.Buses = []string{"spidev0.0"} }, []finding{{fair, "camera.pan GPIO10, camera.tilt GPIO11", "/dev/spidev0"}}},
		{"the serial port", pi4, "pinctrl-bcm2711", l298n + "[pan]\nline = \"GPIO15\"\n", func(b *hardware.Inspection) { b.Serial = "ttyS0" },
			[]finding{{fair, "camera.pan GPIO15", "the serial port /dev/ttyS0"}}},
		{"the console", pi4, "pinctrl-bcm2711", l298n + "[pan]\nline = \"GPIO15\"\n",
			func(b *hardware.Inspection) { b.Serial, b.Console = "ttyS0", []string{"ttyS0", "tty1"} },
			[]finding{{fair, "camera.pan GPIO15", "console=ttyS0"}}},
		{"a Pi 5's console has a socket of its own", pi5, "pinctrl-rp1", l298n + "[pan]\nline = \"GPIO15\"\n",
			func(b *hardware.Inspection) { b.Serial, b.Console = "ttyAMA10", []string{"ttyAMA10"} }, nil},
		{"a Pi 5's serial port", pi5, "pinctrl-rp1", l298n + "[pan]\nline = \"GPIO15\"\n",
			func(b *hardware.Inspection) { b.Serial, b.Buses = "ttyAMA10", []string{"ttyAMA0"} },
			[]finding{{fair, "camera.pan GPIO15", "/dev/ttyAMA0"}}},

		// PWM.
		{"a PWM channel", pi4, "pinctrl-bcm2711", pwm("fe20c000.pwm", "GPIO22 GPIO27 GPIO17"), hasPWM("fe20c000.pwm", 2), nil},
		{"its overlay is missing", pi4, "pinctrl-bcm2711", pwm("fe20c000.pwm", "GPIO22 GPIO27 GPIO17"), func(b *hardware.Inspection) {
			b.Lines[2].Err = errors.New("there is no PWM chip")
		}, []finding{{bad, "left.enable pwm:fe20c000.pwm:0", "dtoverlay=pwm-2chan"}}},
		{"no such channel", pi4, "pinctrl-bcm2711", pwm("fe20c000.pwm", "GPIO22 GPIO27 GPIO17"), func(b *hardware.Inspection) {
			hasPWM("fe20c000.pwm", 2)(b)
			b.Lines[2].Err = errors.New("the PWM chip has channels 0 to 1")
		}, []finding{{bad, "left.enable pwm:fe20c000.pwm:0", "channels 0 to 1"}}},
		{"somebody's channel", pi4, "pinctrl-bcm2711", pwm("fe20c000.pwm", "GPIO22 GPIO27 GPIO17"), func(b *hardware.Inspection) {
			hasPWM("fe20c000.pwm", 2)(b)
			b.Lines[2].Used = true
		}, []finding{{fair, "left.enable pwm:fe20c000.pwm:0", "exported already"}}},
		{"no permission for PWM", pi4, "pinctrl-bcm2711", pwm("fe20c000.pwm", "GPIO22 GPIO27 GPIO17"), func(b *hardware.Inspection) {
			hasPWM("fe20c000.pwm", 2)(b)
			b.Lines[2].Err, b.Lines[2].Group = os.ErrPermission, "gpio"
		}, []finding{{bad, "left.enable pwm:fe20c000.pwm:0", "sudo usermod -aG gpio pi"}}},
		{"the pin of a channel as a line", pi4, "pinctrl-bcm2711", pwm("fe20c000.pwm", "GPIO22 GPIO27 GPIO18"), hasPWM("fe20c000.pwm", 2),
			[]finding{{fair, "right.enable GPIO18", "at GPIO12 or 18, as its overlay says"}}},
		{"the pin of another channel", pi4, "pinctrl-bcm2711", pwm("fe20c000.pwm", "GPIO22 GPIO27 GPIO19"), hasPWM("fe20c000.pwm", 2), nil},
		{"the pin of a channel that another program has", pi4, "pinctrl-bcm2711", motors("GPIO23 GPIO24 GPIO25", "GPIO22 GPIO27 GPIO19"), func(b *hardware.Inspection) {
			hasPWM("fe20c000.pwm", 2)(b)
			b.PWMs[0].Exported = []int{1}
		}, []finding{{fair, "right.enable GPIO19", "at GPIO13 or 19"}}},
		{"the pin of a Pi 5's channel as a line", pi5, "pinctrl-rp1", pwm("1f00098000.pwm", "GPIO22 GPIO27 GPIO12"), hasPWM("1f00098000.pwm", 4),
			[]finding{{bad, "right.enable GPIO12", "comes out at GPIO12: taken as a line"}}},
		{"18 is another channel on a Pi 5", pi5, "pinctrl-rp1", pwm("1f00098000.pwm", "GPIO22 GPIO27 GPIO18"), hasPWM("1f00098000.pwm", 4), nil},
		{"PWM and audio", pi3, "pinctrl-bcm2835", pwm("3f20c000.pwm", "GPIO22 GPIO27 GPIO17"), func(b *hardware.Inspection) {
			hasPWM("3f20c000.pwm", 2)(b)
			b.Audio = true
		}, []finding{{fair, "pwm:3f20c000.pwm:0", "dtparam=audio=off"}}},

		// Release.
		{"a kernel that keeps released lines", pi4, "pinctrl-bcm2711", l298n, func(b *hardware.Inspection) { b.Persist["pinctrl_bcm2835"] = true },
			[]finding{{fair, "kill -9", "dtparam=strict_gpiod"}}},
		{"a kernel that keeps them, without a guard", pi4, "pinctrl-bcm2711", "guard = false\n" + l298n, func(b *hardware.Inspection) { b.Persist["pinctrl_bcm2835"] = true },
			[]finding{{fair, "kill -9", "nothing switches them off then, since guard = false. dtparam=strict_gpiod"}}},
		{"a kernel that lets go of them, without a guard", pi4, "pinctrl-bcm2711", "guard = false\n" + l298n, nil, nil},
		{"PWM without a guard", pi4, "pinctrl-bcm2711", "guard = false\n" + pwm("fe20c000.pwm", "GPIO22 GPIO27 GPIO17"), hasPWM("fe20c000.pwm", 2),
			[]finding{{fair, "kill -9", "PWM channels go on without their program; nothing switches them off"}}},
		{"a Pi 5 that keeps them", pi5, "pinctrl-rp1", l298n, func(b *hardware.Inspection) { b.Persist["pinctrl_rp1"] = true },
			[]finding{{fair, "kill -9", "dtparam=strict_gpiod"}}},
		{"a Pi 5 with the other's setting", pi5, "pinctrl-rp1", l298n, func(b *hardware.Inspection) { b.Persist["pinctrl_bcm2835"] = true }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var args []string
			if tt.config != "" {
				args = []string{"-config", write(t, tt.config)}
			}
			cfg, err := loadConfig(args, noEnv)
			if err != nil {
				t.Fatal(err)
			}
			car := hardware.Config{}
			if tt.config != "" {
				car = cfg.car()
			}
			b := boardFor(tt.model, tt.label, &car)
			if tt.change != nil {
				tt.change(b)
			}
			var wrong findings
			for _, f := range judge(cfg, &car, b) {
				if f.grade != good {
					wrong = append(wrong, f)
				}
			}
			for i, want := range tt.want {
				if i >= len(wrong) || wrong[i].grade != want.grade || wrong[i].about != want.about || !strings.Contains(wrong[i].text, want.text) {
					t.Errorf("the findings lack %s", want)
				}
			}
			if len(wrong) != len(tt.want) || t.Failed() {
				t.Errorf("what is not ok:\n%v", wrong)
			}
		})
	}
}

// hasPWM gives a board the chip that its car's channels are on.
func hasPWM(device string, channels int) func(*hardware.Inspection) {
	return func(b *hardware.Inspection) {
		p := hardware.PWMReport{Path: "/sys/class/pwm/pwmchip0", Device: device, Channels: channels, Group: "gpio"}
		b.PWMs = append(b.PWMs, p)
		for i := range b.Lines {
			if l := &b.Lines[i]; l.PWM() {
				l.Chip, l.Path = device, p.Path
			}
		}
	}
}

// Without a chip: what is printed, and the exit code.
func TestCheckCommand(t *testing.T) {
	file := write(t, strings.ReplaceAll(l298n, "GPIO23", "wheel"))
	for _, tt := range []struct {
		name   string
		args   []string
		env    string
		code   int
		stdout string
		stderr string
	}{
		{"no config", nil, "", 0, "ok    car: there is no config, so it would be simulated", ""},
		{"how to begin", nil, "", 0, "roverd check -config car.toml", ""},
		{"a config without a car", []string{"-config", write(t, "addr = \":1\"\n")}, "", 0, "has no [motors]", ""},
		{"simulated", []string{"-sim", "-config", file}, "", 0, "it would be simulated, as -sim asks", ""},
		{"no such lines", []string{"-config", file}, "", 1, "fail  ", "must be mended"},
		{"the environment's config", nil, file, 1, file + " has 6 outputs", "must be mended"},
		{"a wrong config", []string{"-config", write(t, "[motors.left]\nforwrd = \"GPIO1\"\n")}, "", 2, "", "motors.left.forwrd"},
		{"unknown flag", []string{"-addr", ":1"}, "", 2, "", "-addr"},
		{"an argument", []string{"here"}, "", 2, "", `"here"`},
		{"nobody to ask", []string{"-sim", "-wiggle"}, "", 2, "", "it needs a terminal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			getenv := func(name string) string {
				if name == "ROVERD_CONFIG" {
					return tt.env
				}
				return ""
			}
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), t.Context(), append([]string{"check"}, tt.args...), getenv, &stdout, &stderr)
			if code != tt.code || !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("exit code %d\n%s\n%s", code, &stdout, &stderr)
			}
		})
	}
}
