package browser

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

type car struct {
	t      *testing.T
	config string
	args   []string // besides where it is
	env    []string // of tokens
	url    string
	token  string // with which one may drive, if it takes one
	cmd    *exec.Cmd
}

// wiring is of a car without sensors: it drives ahead for as long as it is told to.
const wiring = `
sim = true

[motors]
preset = "donkeycar"

[pan]
line      = "GPIO5"
min_angle = -90
max_angle = 90

[tilt]
line      = "GPIO6"
min_angle = -90
max_angle = 90
`

// startCar starts roverd with a car of that wiring and the address of a camera's picture, which may be empty.
func startCar(t *testing.T, camera string) *car {
	t.Helper()
	return startWired(t, wiring, camera)
}

// startWired starts roverd with a car of any wiring; without one it is the simulated car, with its sensors and its
// room.
func startWired(t *testing.T, wiring, camera string) *car {
	t.Helper()
	return serve(&car{t: t, args: []string{"-open"}}, wiring, camera)
}

// startClosed starts roverd for those who have a token: to drive the one that it makes, to watch one of env or none.
func startClosed(t *testing.T, env ...string) *car {
	t.Helper()
	return serve(&car{t: t, env: env}, wiring, "")
}

func serve(c *car, wiring, camera string) *car {
	c.t.Helper()
	c.config = filepath.Join(c.t.TempDir(), "roverd.toml")
	if err := os.WriteFile(c.config, fmt.Appendf(nil, "%s\n[camera]\nurl = %q\n", wiring, camera), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.start("127.0.0.1:0")
	c.t.Cleanup(c.kill)
	return c
}

func (c *car) start(addr string) {
	c.t.Helper()
	c.cmd = exec.Command(roverd, append(c.args, "-addr", addr, "-config", c.config, "-log-level", "warn")...)
	c.cmd.Env = append(os.Environ(), c.env...)
	c.cmd.Stderr = os.Stderr
	stdout, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if n, _ := fmt.Sscanf(line, "open %s in a browser", &c.url); n != 1 {
		c.t.Fatalf("roverd said %q (%v), not where its page is", line, err)
	}
	c.url, c.token, _ = strings.Cut(c.url, "?token=")
	go io.Copy(io.Discard, stdout)
}

// login is the address with the token, as roverd prints it.
func (c *car) login() string { return c.url + "?token=" + c.token }

func (c *car) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

func (c *car) host() string {
	u, err := url.Parse(c.url)
	if err != nil {
		c.t.Fatal(err)
	}
	return u.Host
}

// state is what GET /state tells.
type state struct {
	Seq     int
	Driver  string
	Claim   string
	Motion  struct{ Left, Right float64 }
	Estop   bool
	Cause   string
	Viewers int
	Lines   map[string]float64
	Sensors map[string]*float64
	Camera  struct{ Pan, Tilt float64 }
}

// lines returns the names of the lines of directions that are up, in the order of the wiring.
func (s state) lines() string {
	var up []string
	for _, line := range []string{"left.forward", "left.backward", "right.forward", "right.backward"} {
		if level, ok := s.Lines[line]; !ok || level == 1 {
			up = append(up, line)
		}
	}
	return strings.Join(up, " ")
}

func (c *car) state() (s state) {
	c.t.Helper()
	request, err := http.NewRequest(http.MethodGet, c.url+"state", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := (&http.Client{Timeout: patience}).Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&s); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// want waits until the lines that are up are these.
func (c *car) want(lines string) (s state) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("lines %q up", lines), func() bool { s = c.state(); return s.lines() == lines })
	return s
}

// wantSpeed waits until both motors drive ahead at this speed.
func (c *car) wantSpeed(speed float64) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("a speed of %v", speed), func() bool {
		s := c.state()
		return s.Motion.Left == speed && s.Motion.Right == speed
	})
}

// wantEstop waits until the emergency stop holds the car, or does so no longer.
func (c *car) wantEstop(holds bool) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("emergency stop: %v", holds), func() bool {
		s := c.state()
		return s.Estop == holds && s.lines() == ""
	})
}

// wantStopped waits until all lines are down, for one of these causes, or because a busy machine has held the commands up
// before.
func (c *car) wantStopped(causes ...string) (s state) {
	c.t.Helper()
	causes = append(causes, "ttl")
	eventually(c.t, fmt.Sprintf("no line up, with a cause of %q", causes), func() bool {
		s = c.state()
		return s.lines() == "" && slices.Contains(causes, s.Cause)
	})
	return s
}

// wantWhileHeld checks that the car drives while something is held, and stops because it is let go, not because the time
// to live is over. (Where a busy machine has let that happen it tries again.)
func (c *car) wantWhileHeld(lines string, hold, release func()) {
	c.t.Helper()
	eventually(c.t, "the car stops when it is told to", func() bool {
		hold()
		c.wantSteady(lines)
		release()
		return c.wantStopped("").Cause == ""
	})
}

// wantSteady waits until the lines are these for long, without the least change: the repeated commands arrive. (A busy
// machine may hold a repeat up for so long that the car stops, as it should; then the time begins anew.)
func (c *car) wantSteady(lines string) state {
	c.t.Helper()
	since, before := time.Now(), c.want(lines)
	eventually(c.t, fmt.Sprintf("lines %q up for long", lines), func() bool {
		if now := c.state(); now.Seq != before.Seq {
			if now.lines() != lines && now.Cause != "ttl" {
				c.t.Fatalf("lines %q up, not %q, cause %q", now.lines(), lines, now.Cause)
			}
			since, before = time.Now(), c.want(lines)
		}
		return time.Since(since) > long
	})
	return before
}

// wantStill checks that no line comes up for long.
func (c *car) wantStill() {
	c.t.Helper()
	since := time.Now()
	eventually(c.t, "", func() bool {
		if s := c.state(); s.lines() != "" {
			c.t.Fatalf("the car drives: lines %q up", s.lines())
		}
		return time.Since(since) > long
	})
}
