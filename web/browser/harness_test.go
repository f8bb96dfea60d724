// Package browser drives roverd's page in a real Chromium with real mouse, key and touch events, and reads what comes of
// it from outside the page: from GET /state.
package browser

import (
	"cmp"
	"context"
	"fmt"
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
	// It is counted a little later, in a state of its own.
	p.until(`document.querySelector('#status').dataset.state === 'connected' && document.querySelector('#viewers').textContent > 0`)
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
