package main

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const l298n = `
[motors.left]
forward  = "GPIO23"
backward = "GPIO24"
enable   = "GPIO25"

[motors.right]
forward  = "GPIO22"
backward = "GPIO27"
enable   = "GPIO17"
`

func TestConfigOverrides(t *testing.T) {
	file := write(t, "addr = \":1\"\nloops = 1\nopen = true\nlog_level = \"warn\"\n[drive]\nttl = \"250ms\"\n"+l298n)
	env := map[string]string{"ROVERD_CONFIG": file, "ROVERD_ADDR": ":2", "ROVERD_LOG_LEVEL": "debug"}
	getenv := func(name string) string { return env[name] }
	c, err := loadConfig([]string{"-addr", ":3"}, getenv)
	if err != nil {
		t.Fatal(err)
	}
	if c.Addr != ":3" { // flag over environment
		t.Errorf("addr is %q", c.Addr)
	}
	if c.LogLevel.String() != "debug" { // environment over file
		t.Errorf("log level is %s", c.LogLevel)
	}
	if !c.Open || c.Loops != 1 || c.car().TTL != 250*time.Millisecond { // file over default
		t.Errorf("the config is %+v", c)
	}
	if car := c.car(); c.simulated() || car.Motors.Right.Enable != "GPIO17" || car.Servos() {
		t.Errorf("the car is %+v", c.car())
	}
	if c, err = loadConfig([]string{"-sim"}, getenv); err != nil || !c.simulated() {
		t.Errorf("with -sim: %+v, %v", c, err)
	}
	if c, err = loadConfig(nil, noEnv); err != nil || !c.simulated() {
		t.Errorf("with nothing: %+v, %v", c, err)
	}
}

// A preset is the wiring of a kit; what the file says beside it counts.
func TestPreset(t *testing.T) {
	file := write(t, "[motors]\npreset = \"donkeycar\"\nswap = true\n[motors.left]\nforward = \"GPIO5\"\ninvert = true\n[pan]\nline = \"GPIO12\"\nspeed = 90\ninvert = true\n"+
		"[[sensors]]\nname = \"bumper\"\nkind = \"contact\"\nline = \"GPIO6\"\nstop = true\ndebounce = \"5ms\"\n")
	c, err := loadConfig([]string{"-config", file}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	car := c.car()
	want := []string{"left.forward GPIO22", "left.backward GPIO27", "left.enable GPIO17",
		"right.forward GPIO24", "right.backward GPIO5", "right.enable GPIO25", "camera.pan GPIO12"}
	var got []string
	for _, o := range car.Outputs() {
		got = append(got, o.Role+" "+o.Line)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the outputs are %v, want %v", got, want)
	}
	if s := car.Sensors[0]; s.Stop != 1 || s.Debounce != 5*time.Millisecond || car.Pan.Speed != 90 || car.Pan.MaxAngle != 45 || car.Pan.MaxPulse != time.Millisecond {
		t.Errorf("the car is %+v", car)
	}
}

// What the README shows as the file is accepted.
func TestReadmeConfigs(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) < 2 {
		t.Fatalf("%d blocks of TOML", len(blocks))
	}
	for _, b := range blocks {
		if _, err := loadConfig([]string{"-config", write(t, string(b[1]))}, noEnv); err != nil {
			t.Error(err)
		}
	}
}

// Every kit's wiring is whole.
func TestKits(t *testing.T) {
	for name := range kits {
		if _, err := loadConfig([]string{"-config", write(t, "motors.preset = \""+name+"\"\n")}, noEnv); err != nil {
			t.Error(err)
		}
	}
}

// A wrong config is refused by name, with what would be right, and exit code 2.
func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		file string
		args []string
		env  string
		says []string
	}{
		{"unknown key", "addr = \":1\"\n[motors.left]\nforwrd = \"GPIO1\"\n", nil, "", []string{"car.toml:3", "motors.left.forwrd", "README"}},
		{"not TOML", "addr = :1\n", nil, "", []string{"car.toml:1:"}},
		{"wrong type", "loops = \"two\"\n", nil, "", []string{"car.toml:1:9: loops: want a whole number, not string"}},
		{"wrong type in a section", "[camera]\nstep = true\n", nil, "", []string{"car.toml:2:8: camera.step: want a number, not boolean"}},
		{"wrong duration", "[drive]\nttl = \"fast\"\n", nil, "", []string{"car.toml:2:7: drive.ttl: ", `"fast"`, `as in "500ms"`}},
		{"a list of proxies", "trusted_proxies = \"127.0.0.1\"\n", nil, "", []string{"car.toml:1:19: trusted_proxies: want a list"}},
		{"ttl too long", "[drive]\nttl = \"1m\"\n", nil, "", []string{"car.toml", "drive.ttl", "50ms to 5s"}},
		{"dead time", "[drive]\ndead_time = \"0s\"\n", nil, "", []string{"drive.dead_time", "1ms to 2s"}},
		{"one line twice", l298n + "[pan]\nline = \"GPIO24\"\n", nil, "", []string{`camera.pan: the line "GPIO24" is already left.backward`}},
		{"a sensor on a motor's line", l298n + "[[sensors]]\nname = \"b\"\nkind = \"contact\"\nline = \"GPIO25\"\n", nil, "", []string{`sensor b: the line "GPIO25" is already left.enable`}},
		{"a driver that the preset has not", "[motors]\npreset = \"alphabot2\"\ndriver = \"relay\"\n", nil, "", []string{`"relay"`, "alphabot2", "tb6612fng"}},
		{"a duration without its unit", "[drive]\nttl = 500\n", nil, "", []string{"drive.ttl = 500ns", "in quotes and with its unit"}},
		{"on fault", "[drive]\non_fault = \"pray\"\n", nil, "", []string{"drive.on_fault", "exit or stay"}},
		{"preset", "[motors]\npreset = \"lego\"\n", nil, "", []string{`motors.preset = "lego"`, "alphabot2", "donkeycar"}},
		{"driver", l298n + "[motors]\ndriver = \"uln2003\"\n", nil, "", []string{`"uln2003"`, "tb6612fng", "relay"}},
		{"frequency of less than 1 Hz", "motors.frequency = 1e-12\n" + l298n, nil, "", []string{"motors.frequency = 1e-12", "1 Hz or more"}},
		{"frequency of a line", "motors.frequency = 20000\n" + l298n, nil, "", []string{"motors.frequency = 20000", "PWM channel", `"GPIO25"`}},
		{"a relay that reverses", "motors.driver = \"relay\"\n" + l298n, nil, "", []string{"motors.left", "only the line"}},
		{"a relay that brakes", "[motors]\ndriver = \"relay\"\nbrake = true\n[motors.left]\nforward = \"GPIO5\"\n[motors.right]\nforward = \"GPIO6\"\n", nil, "", []string{"motors.brake", "can't brake"}},
		{"two pins and an enable", "motors.driver = \"twopin\"\n" + l298n, nil, "", []string{`motors.left.enable = "GPIO25"`}},
		{"standby", "motors.standby = \"GPIO5\"\n" + l298n, nil, "", []string{"motors.standby", "tb6612fng"}},
		{"trim", l298n + "trim = 1.5\n", nil, "", []string{"motors.right.trim = 1.5", "up to 1"}},
		{"no trim", l298n + "trim = 0\n", nil, "", []string{"motors.right.trim = 0", "more than 0"}},
		{"min duty", l298n + "min_duty = 1\n", nil, "", []string{"motors.right.min_duty = 1"}},
		{"max duty", l298n + "min_duty = 0.5\nmax_duty = 0.4\n", nil, "", []string{"motors.right.max_duty = 0.4"}},
		{"no max duty", l298n + "max_duty = 0\n", nil, "", []string{"motors.right.max_duty = 0"}},
		{"servo pulses", l298n + "[pan]\nline = \"GPIO5\"\nmin_pulse = \"100us\"\n", nil, "", []string{"pan: min_pulse = 100µs", "500µs to 2.5ms"}},
		{"servo angles", l298n + "[tilt]\nline = \"GPIO5\"\nmin_angle = 50\n", nil, "", []string{"tilt: min_angle = 50"}},
		{"servo home", l298n + "[tilt]\nline = \"GPIO5\"\nhome = 50\n", nil, "", []string{"tilt.home = 50", "-45 to 45"}},
		{"sensor kind", l298n + "[[sensors]]\nname = \"nose\"\nkind = \"smell\"\nline = \"GPIO5\"\n", nil, "", []string{`sensor "nose": kind = "smell"`, "contact, distance or encoder"}},
		{"sensor twice", l298n + strings.Repeat("[[sensors]]\nname = \"nose\"\nkind = \"contact\"\nline = \"GPIO5\"\n", 2), nil, "", []string{`sensors[1].name = "nose"`}},
		{"sensor without trigger", l298n + "[[sensors]]\nname = \"sonar\"\nkind = \"distance\"\nline = \"GPIO5\"\n", nil, "", []string{`sensor "sonar": trigger`}},
		{"sensor stop", l298n + "[[sensors]]\nname = \"sonar\"\nkind = \"distance\"\nline = \"GPIO5\"\ntrigger = \"GPIO6\"\nstop = true\n", nil, "", []string{"stop_below"}},
		{"sensor debounce", l298n + "[[sensors]]\nname = \"sonar\"\nkind = \"distance\"\nline = \"GPIO5\"\ntrigger = \"GPIO6\"\ndebounce = \"5ms\"\n", nil, "", []string{`sensor "sonar": debounce = 5ms`}},
		{"half a wiring", "[motors.left]\nforward = \"GPIO1\"\nbackward = \"GPIO2\"\n", nil, "", []string{"motors.right.forward is missing"}},
		{"a driver without lines", "[motors]\ndriver = \"l298n\"\n", nil, "", []string{"motors.left.forward is missing"}},
		{"a sensor without motors", "[[sensors]]\nname = \"b\"\nkind = \"contact\"\nline = \"GPIO25\"\n", nil, "", []string{"motors.left.forward is missing"}},
		{"servo line", l298n + "[tilt]\nhome = 10\n", nil, "", []string{"tilt.line is missing"}},
		{"camera without host", "[camera]\nurl = \"http:///stream\"\n", nil, "", []string{"camera.url", "http:///stream", "http://HOST"}},
		{"camera", "[camera]\nurl = \"/dev/video0\"\n", nil, "", []string{"camera.url", "/dev/video0", "http"}},
		{"no file", "", []string{"-config", "/nowhere/car.toml"}, "", []string{"/nowhere/car.toml", "no such file"}},
		{"a folder", "", []string{"-config", "/"}, "", []string{"is a directory"}},
		{"address", "", []string{"-addr", "9900"}, "", []string{`"9900"`, ":9900"}},
		{"address of lines", "line = \"9901\"\n", nil, "", []string{`-line "9901"`, "127.0.0.1:9901"}},
		{"loops", "", []string{"-loops", "0"}, "", []string{"-loops 0", "1 to 256"}},
		{"connections", "", []string{"-max-conns", "999999999"}, "", []string{"-max-conns 999999999", "ulimit -n"}},
		{"connections per address", "", []string{"-max-per-addr", "-1"}, "", []string{"-max-per-addr -1"}},
		{"unknown flag", "", []string{"-speed", "5"}, "", []string{"-speed", "roverd help"}},
		{"flag value", "", []string{"-loops", "many"}, "", []string{"many", "-loops", "roverd help"}},
		{"log level", "", []string{"-log-level", "loud"}, "", []string{"loud", "debug, info, warn or error"}},
		{"log level that ends the program", "log_level = \"fatal\"\n", nil, "", []string{"car.toml:1:13: log_level: ", "fatal", "debug, info, warn or error"}},
		{"log level as a number", "log_level = 3\n", nil, "", []string{`"3": want debug, info, warn or error`}},
		{"environment", "", nil, "ROVERD_LOOPS=many", []string{"ROVERD_LOOPS", "many", "roverd help"}},
		{"yes in the environment", "", nil, "ROVERD_GUARD=yes", []string{`ROVERD_GUARD="yes": want true or false`}},
		{"argument", "", []string{"serve", "here"}, "", []string{`"here"`}},
		{"argument of version", "", []string{"version", "extra"}, "", []string{`"extra"`, "roverd help"}},
		{"argument of help", "", []string{"help", "foo"}, "", []string{`"foo"`, "roverd help"}},
		{"command", "", []string{"drive"}, "", []string{`"drive"`, "roverd help"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if tt.file != "" {
				args = append(args, "-config", write(t, tt.file))
			}
			getenv := func(name string) string {
				if key, value, _ := strings.Cut(tt.env, "="); key == name {
					return value
				}
				return ""
			}
			var stderr bytes.Buffer
			if code := run(t.Context(), t.Context(), args, getenv, io.Discard, &stderr); code != 2 {
				t.Errorf("exit code %d", code)
			}
			for _, say := range tt.says {
				if !strings.Contains(stderr.String(), say) {
					t.Errorf("%q does not say %q", stderr.String(), say)
				}
			}
		})
	}
}

// TOML has a number that is none. It compares with nothing: one of stop_below would stop no car, and say so nowhere.
func TestConfigOfNaN(t *testing.T) {
	const (
		servo = l298n + "[pan]\nline = \"GPIO5\"\n"
		sonar = l298n + "[[sensors]]\nname = \"sonar\"\nkind = \"distance\"\nline = \"GPIO5\"\ntrigger = \"GPIO6\"\n"
	)
	for key, before := range map[string]string{
		"frequency": l298n + "[motors]\n", "slew": l298n + "[motors]\n",
		"trim": l298n, "min_duty": l298n, "max_duty": l298n,
		"min_angle": servo, "max_angle": servo, "home": servo, "speed": servo,
		"stop_below": sonar, "step": l298n + "[camera]\n",
	} {
		_, err := loadConfig([]string{"-config", write(t, before+key+" = nan\n")}, noEnv)
		if err == nil || !strings.Contains(err.Error(), key+" = NaN") {
			t.Errorf("%s = nan: %v", key, err)
		}
	}
}

// Where there is no such chip or line, the program names it and ends with 1 before it serves anyone.
func TestNoSuchLines(t *testing.T) {
	var stderr bytes.Buffer
	file := write(t, strings.ReplaceAll(l298n, "GPIO23", "wheel"))
	code := run(t.Context(), t.Context(), []string{"-open", "-addr", "127.0.0.1:0", "-config", file}, noEnv, io.Discard, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), file) {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}
