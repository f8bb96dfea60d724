package main

import (
	"bytes"
	"io"
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

// A wrong config is refused by name, with what would be right, and exit code 2.
func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		file string
		args []string
		env  string
		says []string
	}{
		{"unknown key", "addr = \":1\"\n[motors.left]\nforwrd = \"GPIO1\"\n", nil, "", []string{"car.toml:3", "motors.left.forwrd"}},
		{"not TOML", "addr = :1\n", nil, "", []string{"car.toml:1:"}},
		{"wrong type", "loops = \"two\"\n", nil, "", []string{"car.toml:1:"}},
		{"wrong duration", "[drive]\nttl = \"fast\"\n", nil, "", []string{"car.toml", `"fast"`}},
		{"ttl too long", "[drive]\nttl = \"1m\"\n", nil, "", []string{"car.toml", "drive.ttl", "50ms to 5s"}},
		{"dead time", "[drive]\ndead_time = \"0s\"\n", nil, "", []string{"drive.dead_time", "1ms to 2s"}},
		{"half a wiring", "[motors.left]\nforward = \"GPIO1\"\nbackward = \"GPIO2\"\n", nil, "", []string{"motors.right.forward is missing"}},
		{"camera", "[camera]\nurl = \"/dev/video0\"\n", nil, "", []string{"camera.url", "/dev/video0", "http"}},
		{"no file", "", []string{"-config", "/nowhere/car.toml"}, "", []string{"/nowhere/car.toml", "no such file"}},
		{"a folder", "", []string{"-config", "/"}, "", []string{"is a directory"}},
		{"address", "", []string{"-addr", "9900"}, "", []string{`"9900"`, ":9900"}},
		{"loops", "", []string{"-loops", "0"}, "", []string{"-loops 0", "1 to 256"}},
		{"connections", "", []string{"-max-conns", "999999999"}, "", []string{"-max-conns 999999999", "ulimit -n"}},
		{"connections per address", "", []string{"-max-per-addr", "-1"}, "", []string{"-max-per-addr -1"}},
		{"unknown flag", "", []string{"-speed", "5"}, "", []string{"-speed"}},
		{"flag value", "", []string{"-loops", "many"}, "", []string{"many", "-loops"}},
		{"log level", "", []string{"-log-level", "loud"}, "", []string{"loud"}},
		{"environment", "", nil, "many", []string{"ROVERD_LOOPS", "many"}},
		{"argument", "", []string{"serve", "here"}, "", []string{`"here"`}},
		{"command", "", []string{"drive"}, "", []string{`"drive"`, "roverd help"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := tt.args
			if tt.file != "" {
				args = append(args, "-config", write(t, tt.file))
			}
			getenv := func(name string) string {
				if name == "ROVERD_LOOPS" {
					return tt.env
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

// Where there is no such chip or line, the program names it and ends with 1 before it serves anyone.
func TestNoSuchLines(t *testing.T) {
	var stderr bytes.Buffer
	file := write(t, strings.ReplaceAll(l298n, "GPIO23", "wheel"))
	code := run(t.Context(), t.Context(), []string{"-addr", "127.0.0.1:0", "-config", file}, noEnv, io.Discard, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), file) {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}
