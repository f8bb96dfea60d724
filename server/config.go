package main

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"strings"
	"time"

	"roverd/hardware"

	"github.com/pelletier/go-toml/v2"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// config is everything that can be set: by a flag, else by an environment variable, else in the file.
type config struct {
	Addr          string  `toml:"addr"`
	Line          string  `toml:"line"`
	Open          bool    `toml:"open"`
	Helm          string  `toml:"helm"`
	Hosts         list    `toml:"hosts"`
	Origins       list    `toml:"origins"`
	Tokens        tokens  `toml:"tokens"`
	Sim           bool    `toml:"sim"`
	Guard         bool    `toml:"guard"`
	Loops         int     `toml:"loops"`
	Echo          bool    `toml:"echo"`
	MaxConns      int     `toml:"max_conns"`
	MaxPerAddr    int     `toml:"max_per_addr"`
	MaxNewPerAddr float64 `toml:"max_new_per_addr"`
	MaxMessages   float64 `toml:"max_messages"`
	TLSCert       string  `toml:"tls_cert"`
	TLSKey        string  `toml:"tls_key"`
	Proxies       proxies `toml:"trusted_proxies"`
	LogLevel      level   `toml:"log_level"`
	Drive         struct {
		TTL      duration `toml:"ttl"`
		DeadTime duration `toml:"dead_time"`
		OnFault  string   `toml:"on_fault"`
	} `toml:"drive"`
	Camera struct {
		URL  string  `toml:"url"`
		Step float64 `toml:"step"` // degrees of a cam_ word without a number
	} `toml:"camera"`
	wiring

	file string
}

// What happens when the car's lines fail.
const (
	faultExit = "exit" // the program ends, for whoever supervises it to start it again
	faultStay = "stay" // it goes on serving, the car switched off
)

// Who may drive at a time.
const (
	helmOne    = "one"    // one driver, until it gives the helm up
	helmShared = "shared" // everyone, all the time
)

// list is a list of words: on the command line with commas between them.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	*l = nil
	for word := range strings.SplitSeq(s, ",") {
		if word = strings.TrimSpace(word); word != "" {
			*l = append(*l, word)
		}
	}
	return nil
}

// duration is written as Go writes it: "500ms".
type duration time.Duration

func (d *duration) UnmarshalText(p []byte) error {
	v, err := time.ParseDuration(string(p))
	if err != nil {
		return fmt.Errorf(`%q: want a number and its unit, as in "500ms"`, p)
	}
	*d = duration(v)
	return nil
}

// usageError is a mistake of whoever started the program: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// parseFlags reads the flags of a command line.
func parseFlags(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return usage("%w; `roverd help` lists the flags", err)
	}
	return nil
}

// loadConfig reads the command line, the environment and the file.
func loadConfig(args []string, getenv func(string) string) (*config, error) {
	// The file has to be read before the flags that override it, and a flag names it.
	var first config
	flags := first.flags()
	if err := parseFlags(flags, args); err != nil {
		return nil, err
	}
	if err := noMore(flags.Args()); err != nil {
		return nil, err
	}
	c := &config{}
	flags = c.flags()
	if file := cmp.Or(first.file, getenv("ROVERD_CONFIG")); file != "" {
		if err := c.readFile(file); err != nil {
			return nil, usageError{err}
		}
	}
	var err error
	flags.VisitAll(func(f *flag.Flag) {
		name := "ROVERD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v := getenv(name); v != "" && err == nil {
			e := flags.Set(f.Name, v)
			if b, ok := f.Value.(interface{ IsBoolFlag() bool }); e != nil && ok && b.IsBoolFlag() {
				err = usage("%s=%q: want true or false", name, v)
			} else if e != nil {
				err = usage("%s=%q: %w; `roverd help` says what -%s takes", name, v, e, f.Name)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if err := parseFlags(flags, args); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// loadServe is loadConfig for those who serve: only they need the tokens.
func loadServe(args []string, getenv func(string) string) (*config, error) {
	c, err := loadConfig(args, getenv)
	if err != nil {
		return nil, err
	}
	if c.Tokens.Control+c.Tokens.View != "" && isForAll(c.file) {
		return nil, usage("config: %s: there is a token in it, and everyone on this computer can read it: chmod o-r %s", c.file, c.file)
	}
	if err := c.Tokens.resolve(c.Open, getenv); err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// processors is how many there are for loops; see openDecks, which adds to GOMAXPROCS.
var processors = runtime.GOMAXPROCS(0)

// flags sets the defaults and binds the flags.
func (c *config) flags() *flag.FlagSet {
	c.Addr, c.Loops, c.LogLevel = ":9900", processors, level{zapcore.InfoLevel}
	c.MaxPerAddr, c.MaxNewPerAddr, c.MaxMessages, c.Guard, c.Helm = 1000, 100, 500, true, helmOne
	c.Drive.TTL, c.Drive.DeadTime = duration(hardware.DefaultTTL), duration(hardware.DefaultDeadTime)
	c.Drive.OnFault = faultExit
	c.Camera.URL, c.Camera.Step = "http://HOST:8080/?action=stream", 10
	c.wiring.setDefaults()

	f := flag.NewFlagSet("roverd serve", flag.ContinueOnError)
	f.SetOutput(io.Discard) // the error says it all; `roverd help` lists the flags
	f.StringVar(&c.Addr, "addr", c.Addr, "listen on this `host:port`")
	f.StringVar(&c.Line, "line", c.Line, "listen on this `host:port`, too, for commands that come as lines over plain TCP, unencrypted: as in 127.0.0.1:9901")
	f.StringVar(&c.file, "config", "", "read the car's wiring from this TOML `file`")
	f.BoolVar(&c.Sim, "sim", c.Sim, "simulate the car, whatever the config says")
	f.BoolVar(&c.Guard, "guard", c.Guard, "have a small process of its own switch a real car's lines off should this one be killed or hang")
	f.BoolVar(&c.Open, "open", c.Open, "let anyone who reaches the server drive, without a token")
	f.StringVar(&c.Helm, "helm", c.Helm, "`who` may drive: one at a time, or with shared everyone at any time")
	f.StringVar(&c.Tokens.ControlFile, "control-token-file", "", "the token of those who may drive is in this `file`")
	f.StringVar(&c.Tokens.ViewFile, "view-token-file", "", "the token of those who may watch is in this `file`; without one, everyone may")
	f.Var(&c.Hosts, "hosts", "answer only to these `names` (a list), beside localhost and IP addresses; empty is to any")
	f.Var(&c.Origins, "origins", "let pages of these other `origins` connect (a list, as in https://example.org)")
	f.IntVar(&c.Loops, "loops", c.Loops, "number of event loops")
	f.IntVar(&c.MaxConns, "max-conns", c.MaxConns, "number of connections at a time; 0 is as many as the limit of open files allows")
	f.IntVar(&c.MaxPerAddr, "max-per-addr", c.MaxPerAddr, "number of connections from one address (IPv6: one /64); 0 is no limit, and this computer has none")
	f.Float64Var(&c.MaxNewPerAddr, "max-new-per-addr", c.MaxNewPerAddr, "number of new connections a second from one address, and four times that at once; 0 is no limit, and this computer has none")
	f.Float64Var(&c.MaxMessages, "max-messages", c.MaxMessages, "number of messages a second from one client, and twice that at once; 0 is no limit")
	f.StringVar(&c.TLSCert, "tls-cert", c.TLSCert, "speak TLS only, with the certificate in this PEM `file`, its chain behind it; read again on SIGHUP")
	f.StringVar(&c.TLSKey, "tls-key", c.TLSKey, "the certificate's private key, a PEM `file`")
	f.Var(&c.Proxies, "trusted-proxies", "take these proxies' word for whom they pass on: `addresses` or networks, as in 127.0.0.1,10.0.0.0/8")
	f.BoolVar(&c.Echo, "echo", c.Echo, "add /echo, which sends every message back: for conformance and load tests")
	f.Var(&c.LogLevel, "log-level", "log from this `level` on: debug, info, warn or error (default info)")
	return f
}

func (c *config) readFile(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err = d.Decode(c)
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		line, _ := unknown.Errors[0].Position()
		return fmt.Errorf("config: %s:%d: unknown key %q; the README has those there are", file, line, strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &wrong):
		line, column := wrong.Position()
		return fmt.Errorf("config: %s:%d:%d: %s", file, line, column, explain(wrong))
	case err != nil:
		return fmt.Errorf("config: %s: %w", file, err)
	}
	c.file = file
	return nil
}

// wrongType is what go-toml says of a value of another type than its key has.
var wrongType = regexp.MustCompile(`cannot decode TOML (\w+) into struct field .* of type (\S+)`)

// explain says what is wrong in the words of the file, not in those of the program.
func explain(e *toml.DecodeError) string {
	text := strings.TrimPrefix(e.Error(), "toml: ")
	m := wrongType.FindStringSubmatch(text)
	if m == nil {
		return strings.TrimPrefix(strings.Join(e.Key(), ".")+": "+text, ": ")
	}
	want := map[string]string{"string": "text in quotes", "bool": "true or false", "int": "a whole number", "float64": "a number",
		"main.list": `a list, as in ["a", "b"]`, "main.proxies": `a list, as in ["127.0.0.1"]`, "main.duration": `a time in quotes, as in "500ms"`}[m[2]]
	return fmt.Sprintf("%s: want %s, not %s", strings.Join(e.Key(), "."), cmp.Or(want, "a table"), m[1])
}

// check finds what is wrong beyond the form.
func (c *config) check() error {
	where := "config"
	if c.file != "" {
		where += ": " + c.file
	}
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return fmt.Errorf("-addr %q: want host:port, as in :9900 or 127.0.0.1:9900", c.Addr)
	}
	if _, _, err := net.SplitHostPort(c.Line); c.Line != "" && err != nil {
		return fmt.Errorf("-line %q: want host:port, as in 127.0.0.1:9901 or :9901", c.Line)
	}
	if c.Loops < 1 || c.Loops > 256 {
		return fmt.Errorf("-loops %d: want 1 to 256", c.Loops)
	}
	files := openFiles()
	most := files - spareFiles - loopFiles*c.Loops
	switch {
	case most < 1:
		return fmt.Errorf("this process may open only %d files: raise the limit (`ulimit -n`, or LimitNOFILE of systemd) above %d", files, files-most+1)
	case c.MaxConns < 0 || c.MaxConns > most:
		return fmt.Errorf("-max-conns %d: want 1 to %d, since this process may open %d files (`ulimit -n`, or LimitNOFILE of systemd)", c.MaxConns, most, files)
	case c.MaxConns == 0:
		c.MaxConns = most
	}
	if c.MaxPerAddr < 0 {
		return fmt.Errorf("-max-per-addr %d: want 0 (no limit) or more", c.MaxPerAddr)
	}
	if !(c.MaxNewPerAddr >= 0 && c.MaxNewPerAddr <= 1e9) || !(c.MaxMessages >= 0 && c.MaxMessages <= 1e9) { // nor NaN
		return fmt.Errorf("-max-new-per-addr %v, -max-messages %v: want 0 (no limit) or more", c.MaxNewPerAddr, c.MaxMessages)
	}
	if c.Helm != helmOne && c.Helm != helmShared {
		return fmt.Errorf("-helm %q: want %s or %s", c.Helm, helmOne, helmShared)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return fmt.Errorf("-tls-cert %q, -tls-key %q: name both files, or none for a server without TLS", c.TLSCert, c.TLSKey)
	}
	for _, host := range c.Hosts {
		if strings.ContainsAny(host, ":/ ") {
			return fmt.Errorf("-hosts %q: want names without a port, as in car.example.org", host)
		}
	}
	for _, origin := range c.Origins {
		if u, err := url.Parse(origin); err != nil || u.Scheme == "" || u.Host == "" || u.Path != "" {
			return fmt.Errorf("-origins %q: want scheme and host, as in https://example.org", origin)
		}
	}
	if ttl := time.Duration(c.Drive.TTL); ttl < 50*time.Millisecond || ttl > hardware.MaxTTL {
		return fmt.Errorf("%s: drive.ttl = %s: want 50ms to %s, in quotes and with its unit", where, ttl, hardware.MaxTTL)
	}
	if dead := time.Duration(c.Drive.DeadTime); dead < time.Millisecond || dead > 2*time.Second {
		return fmt.Errorf("%s: drive.dead_time = %s: want 1ms to 2s, in quotes and with its unit", where, dead)
	}
	if c.Drive.OnFault != faultExit && c.Drive.OnFault != faultStay {
		return fmt.Errorf("%s: drive.on_fault = %q: want %s or %s", where, c.Drive.OnFault, faultExit, faultStay)
	}
	if c.Camera.URL != "" {
		if u, err := url.Parse(c.Camera.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return fmt.Errorf("%s: camera.url = %q: want an address as in http://HOST:8080/?action=stream, or \"\" for none", where, c.Camera.URL)
		}
	}
	if !(0 < c.Camera.Step && c.Camera.Step <= 90) {
		return fmt.Errorf("%s: camera.step = %v: want degrees, up to 90", where, c.Camera.Step)
	}
	if !c.wired() {
		return nil
	}
	err := c.wiring.resolve()
	if err == nil {
		err = c.wiring.check()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	return nil
}

// openFiles returns how many files this process may open. (Go has raised the soft limit to the hard one.)
func openFiles() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // what a process may open nearly everywhere
	}
	return int(min(limit.Cur, 10_000_000))
}

// simulated tells whether the car is: on request, and whenever its wiring is not known.
func (c *config) simulated() bool { return c.Sim || !c.wired() }

// car returns the hardware's part of the config.
func (c *config) car() hardware.Config {
	ttl, deadTime := time.Duration(c.Drive.TTL), time.Duration(c.Drive.DeadTime)
	if !c.wired() {
		return hardware.SimulatedCar(ttl, deadTime)
	}
	return c.wiring.hardware(ttl, deadTime)
}
