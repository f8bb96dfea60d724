// Package browser drives roverd's page in a real Chromium with real mouse, key and touch events, and reads what comes of
// it from outside the page: from GET /state.
package browser

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	patience = 30 * time.Second // for anything that should come, on a slow and busy machine
	pause    = 10 * time.Millisecond
	long     = 1100 * time.Millisecond // more than two commands live
)

var (
	chromium = "/usr/bin/chromium"
	roverd   = cmp.Or(os.Getenv("ROVERD_BIN"), "../../bin/roverd")
	chrome   context.Context // the browser that the tests share
)

func TestMain(m *testing.M) {
	if _, err := os.Stat(chromium); err != nil {
		fmt.Println("FAIL: Chromium is missing: apt-get install --no-install-recommends chromium")
		os.Exit(1)
	}
	if _, err := os.Stat(roverd); err != nil {
		fmt.Printf("FAIL: %v: run `make build` first, or name the program in ROVERD_BIN\n", err)
		os.Exit(1)
	}
	ctx, _, stop, err := startChromium()
	if err != nil {
		fmt.Println("FAIL: Chromium does not start:", err)
		os.Exit(1)
	}
	chrome = ctx
	code := m.Run()
	stop()
	os.Exit(code)
}

// startChromium starts a browser with an empty profile. kill ends all its processes at once, as a power cut would.
func startChromium() (ctx context.Context, kill, stop func(), err error) {
	dir, err := os.MkdirTemp("", "roverd-chromium") // for what it leaves behind
	if err != nil {
		return nil, nil, nil, err
	}
	var cmd *exec.Cmd
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(chromium), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Env("TMPDIR=" + dir),
		chromedp.ModifyCmdFunc(func(c *exec.Cmd) {
			c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
			cmd = c
		}),
	}
	for _, flag := range []string{"disable-background-networking", "disable-component-update", "disable-sync", "disable-quic", "disable-dev-shm-usage"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stopBrowser := chromedp.NewContext(ctx)
	stop = func() {
		stopBrowser()
		stopAllocator()
		os.RemoveAll(dir)
	}
	if err = chromedp.Do(ctx); err != nil {
		stop()
		return nil, nil, nil, err
	}
	return ctx, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }, stop, nil
}

// eventually polls ok until it holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

/* ----------------------------------------------------------------- roverd */

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

/* -------------------------------------------------------------------- tab */

// tab is one page in the browser.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	requests []string // the addresses it asked for
	troubles []string // what it wrote to the console, and its exceptions
}

// open opens the page at address in a window and profile of its own. What it does but should not fails the test:
// requests to other hosts than the car's and those named, and console messages other than those that match allow, or say
// that it has tried for too long to connect, as on a busy machine.
func open(t *testing.T, browser context.Context, address, allow string, hosts ...string) *tab {
	t.Helper()
	p := blank(t, browser, chromedp.WithNewBrowserContext())
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	hosts = append(hosts, u.Host)
	allowed := regexp.MustCompile(cmp.Or(allow, "^$") + `|^warning: WebSocket connection to \S+ failed: WebSocket is closed before the connection is established`)
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, text := range p.troubles {
			if !allowed.MatchString(text) {
				t.Errorf("console: %s", text)
			}
		}
		for _, request := range p.requests {
			if u, err := url.Parse(request); err != nil || !slices.Contains(hosts, u.Host) {
				t.Errorf("the page asked for %s", request)
			}
		}
	})
	p.do(chromedp.Navigate(address))
	p.until(`document.querySelector('#status').dataset.state === 'connected' && document.body.dataset.live === 'yes'`)
	return p
}

// blank opens an empty tab.
func blank(t *testing.T, browser context.Context, options ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, options...)
	p := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		if t.Failed() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			log, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector('#log')?.innerText ?? ''`))
			t.Logf("the log of a page:\n%s", log)
			p.screenshot(filepath.Join(os.TempDir(), "roverd-"+strings.ReplaceAll(t.Name(), "/", "-")+".png"))
		}
		cancel()
	})
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		t.Fatal(err)
	}
	return p
}

// hear notes what the browser tells of the tab.
func (p *tab) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	case *network.EventWebSocketCreated:
		p.requests = append(p.requests, e.URL)
	case *runtime.EventExceptionThrown:
		p.troubles = append(p.troubles, (&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
	case *runtime.EventConsoleAPICalled:
		p.troubles = append(p.troubles, fmt.Sprintf("console.%s, %d arguments", e.Type, len(e.Args)))
	case *log.EventEntryAdded:
		p.troubles = append(p.troubles, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
	}
}

// run performs an action in the tab.
func run[T any](p *tab, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatal(err)
	}
	return result
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	run(p, chromedp.Steps(steps...))
}

// eval returns the value of a JavaScript expression.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	return run(p, chromedp.Evaluate[T](expression))
}

// call gives a command of the DevTools protocol.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	return run(p, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, command, params) })
}

// until waits until a JavaScript expression is true.
func (p *tab) until(expression string) {
	p.t.Helper()
	eventually(p.t, expression, func() bool { return eval[bool](p, expression) })
}

// shows waits until the element has this text in it.
func (p *tab) shows(selector, text string) {
	p.t.Helper()
	p.until(fmt.Sprintf("document.querySelector(%q).textContent.includes(%q)", selector, text))
}

// link waits until the page takes its connection to be in this state.
func (p *tab) link(state string) {
	p.t.Helper()
	p.until(fmt.Sprintf("document.querySelector('#status').dataset.state === %q", state))
}

// centre returns where the middle of an element is.
func (p *tab) centre(selector string) (x, y float64) {
	p.t.Helper()
	at := eval[[]float64](p, fmt.Sprintf(`(() => {
		const element = document.querySelector(%q);
		element.scrollIntoView({block: 'nearest'});
		const box = element.getBoundingClientRect();
		return [box.x + box.width / 2, box.y + box.height / 2];
	})()`, selector))
	return at[0], at[1]
}

// mouse sends an event of the left mouse button, on an element.
func (p *tab) mouse(kind input.DispatchMouseEventType, selector string) {
	p.t.Helper()
	x, y := p.centre(selector)
	p.do(chromedp.MouseEvent(chromedp.MouseMoved, x, y), chromedp.MouseEvent(kind, x, y, chromedp.ButtonLeft, chromedp.ClickCount(1)))
}

func (p *tab) press(selector string)   { p.t.Helper(); p.mouse(chromedp.MousePressed, selector) }
func (p *tab) release(selector string) { p.t.Helper(); p.mouse(chromedp.MouseReleased, selector) }
func (p *tab) click(selector string)   { p.t.Helper(); p.press(selector); p.release(selector) }

// touch sends a touch event: with a finger on the element, or without fingers if none is named.
func (p *tab) touch(kind input.DispatchTouchEventType, selector string) {
	p.t.Helper()
	fingers := []*input.TouchPoint{}
	if selector != "" {
		x, y := p.centre(selector)
		fingers = append(fingers, &input.TouchPoint{X: x, Y: y})
	}
	call(p, input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: kind, TouchPoints: fingers})
}

// down presses the key that types r, or repeats it if it is held, as keyboards do.
func (p *tab) down(r rune, repeat bool) {
	p.t.Helper()
	k := kb.Keys[r]
	call(p, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown,
		Code: k.Code, Key: k.Key, Text: k.Text, WindowsVirtualKeyCode: k.Windows, AutoRepeat: &repeat})
}

func (p *tab) up(r rune) {
	p.t.Helper()
	k := kb.Keys[r]
	call(p, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyUp,
		Code: k.Code, Key: k.Key, WindowsVirtualKeyCode: k.Windows})
}

func (p *tab) tap(r rune) { p.t.Helper(); p.down(r, false); p.up(r) }

// screenshot saves what the tab shows, as well as it can.
func (p *tab) screenshot(file string) {
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(file, picture, 0o644)
	}
	p.t.Log("screenshot", file, err)
}
