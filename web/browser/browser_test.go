package browser

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

const (
	arrowUp = '\u0304' // as kb.ArrowUp calls it
	escape  = '\u001b'

	forward   = "left.forward right.forward"
	backward  = "left.backward right.backward"
	turnLeft  = "left.backward right.forward"
	turnRight = "left.forward right.backward"

	// What the browser notes when the network is cut: also of the icon, which it asks for when it has the time.
	lostSocket = `^error: (WebSocket connection to \S+ failed|Failed to load resource: net::ERR_CONNECTION_\S+ \S+/(icon\.svg|state)$)`
)

var phone = chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2), chromedp.EmulatePortrait, chromedp.EmulateMobile, chromedp.EmulateTouch)

func TestDriveButtons(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	for button, lines := range map[string]string{"#up": forward, "#back": backward, "#left": turnLeft, "#right": turnRight} {
		c.wantWhileHeld(lines, func() { p.press(button) }, func() { p.release(button) })
	}

	p.down('w', false)
	c.want(forward)
	p.press("#stop")
	c.wantStopped("")
	c.wantStill() // although W is held
	p.release("#stop")
	p.shows("#log", "stop")
	c.wantStill()
	p.up('w')
}

func TestKeys(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	for k, lines := range map[rune]string{arrowUp: forward, 'w': forward, 'a': turnLeft, 's': backward, 'd': turnRight} {
		c.wantWhileHeld(lines, func() { p.down(k, false) }, func() { p.up(k) })
	}

	// The key held before comes back into force, but not past a stop.
	p.down(arrowUp, false)
	c.want(forward)
	p.down('a', false)
	c.want(turnLeft)
	p.up('a')
	c.want(forward)
	p.down(' ', false)
	c.wantStopped("")
	p.up(' ')
	p.down(arrowUp, true)
	c.wantStill()
}

func TestTouch(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	p.do(phone)
	for _, end := range []input.DispatchTouchEventType{input.DispatchTouchEventTypeTouchEnd, input.DispatchTouchEventTypeTouchCancel} {
		c.wantWhileHeld(forward, func() { p.touch(input.DispatchTouchEventTypeTouchStart, "#up") }, func() { p.touch(end, "") })
	}
}

func TestSpeed(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	p.shows("#speed-shown", "60 %")
	p.press("#up")
	c.wantSpeed(0.6)
	p.tap('3') // while the car drives
	c.wantSpeed(0.3)
	p.tap('0')
	c.wantSpeed(1)
	p.release("#up")
	c.wantStopped("")

	p.click("#speed") // the middle between 10 and 100
	p.shows("#speed-shown", "55 %")
	p.down(arrowUp, false) // which drives: the slider has given the keys back
	c.wantSpeed(0.55)
	p.up(arrowUp)
	c.wantStopped("")

	eval[any](p, `document.querySelector('#speed').focus()`) // as Tab would
	p.tap(arrowUp)
	p.shows("#speed-shown", "60 %")
	c.wantStill()
	p.down('w', false)
	c.wantSpeed(0.6)
	p.up('w')
	p.tap('8')
	p.shows("#speed-shown", "80 %")

	p.click("#say")
	p.do(chromedp.KeyEvent("up 30"))
	p.shows("#speed-shown", "80 %")
	p.do(chromedp.Reload())
	p.link("connected")
	p.shows("#speed-shown", "80 %")
	p.down('w', false)
	c.wantSpeed(0.8)
	p.up('w')
}

func TestCameraButtons(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	for button, ok := range map[string]func(pan, tilt int) bool{
		"#cam_up":    func(pan, tilt int) bool { return pan == 0 && tilt > 0 },
		"#cam_down":  func(pan, tilt int) bool { return pan == 0 && tilt < 0 },
		"#cam_left":  func(pan, tilt int) bool { return pan < 0 && tilt == 0 },
		"#cam_right": func(pan, tilt int) bool { return pan > 0 && tilt == 0 },
	} {
		p.click(button)
		eventually(t, button, func() bool { s := c.state().Camera; return ok(int(s.Pan), int(s.Tilt)) })
		p.click("#cam_init")
		eventually(t, "#cam_init", func() bool { s := c.state().Camera; return s.Pan == 0 && s.Tilt == 0 })
	}

	p.press("#cam_up") // and hold it
	eventually(t, "the camera to look straight up", func() bool { return c.state().Camera.Tilt == 90 })
	p.release("#cam_up")
}

func TestWords(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	say := func(words string) {
		p.click("#say")
		p.do(chromedp.KeyEvent(words + "\r"))
	}
	say("cam_up")
	p.shows("#log", "cam_up → ack")
	if tilt := c.state().Camera.Tilt; tilt != 10 {
		t.Errorf("cam_up tilted the camera to %v, not 10", tilt)
	}
	say("wasd")
	p.shows("#log", `wasd → unknown_command: unknown command "wasd"; the commands are: up back`)
	p.shows("#notice", `unknown command "wasd"`)
	if eval[bool](p, `[...document.querySelectorAll('#log span')].some((row) => /^(up|left|back|right|stop) /.test(row.textContent))`) {
		t.Error("typing drives the car")
	}
	say("up 60")
	p.shows("#log", "up 60 → ack")
	c.wantStopped("ttl")
	p.shows("#log", "stopped: no command for 500 ms")
	p.shows("#cause", "no command for 500 ms")
}

func TestHiddenTabStops(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	p.press("#up")
	c.wantSteady(forward)
	// A tab opened in the same window covers this one.
	blank(t, p.ctx, chromedp.WithExistingBrowserContext(chromedp.FromContext(p.ctx).BrowserContextID), chromedp.WithNewWindow(false))
	c.wantStopped("")
	p.until(`document.visibilityState === 'hidden' && !document.hasFocus()`)

	call(p, page.BringToFront, cdp.Empty{})
	p.until(`document.visibilityState === 'visible'`)
	c.wantStill()
	p.release("#up")
}

func TestLeavingThePageStops(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, lostSocket)
	p.down('w', false)
	c.wantSteady(forward)
	p.do(chromedp.Navigate("about:blank"))
	c.wantStopped("", "disconnect")
	eval[any](p, `history.back()`)
	p.link("connected")
	c.wantStill()
}

func TestClosedTabStops(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	p.down('w', false)
	c.wantSteady(forward)
	if err := chromedp.Cancel(p.ctx); err != nil {
		t.Fatal(err)
	}
	c.wantStopped("", "disconnect")
	eventually(t, "nobody there", func() bool { s := c.state(); return s.Driver == "" && s.Viewers == 0 })
}

func TestKilledBrowserStops(t *testing.T) {
	browser, kill, stop, err := startChromium()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c := startCar(t, "")
	p := open(t, browser, c.url, "")
	p.down('w', false)
	c.wantSteady(forward)
	kill()
	c.wantStopped("disconnect")
	eventually(t, "nobody there", func() bool { s := c.state(); return s.Driver == "" && s.Viewers == 0 })
}

func TestNetworkCut(t *testing.T) {
	for _, hung := range []bool{false, true} {
		t.Run(fmt.Sprintf("hung=%v", hung), func(t *testing.T) {
			c := startCar(t, "")
			r := startRelay(t, c.host())
			p := open(t, chrome, "http://"+r.addr+"/", lostSocket)
			p.down('w', false)
			c.wantSteady(forward)

			r.freeze()
			c.wantStopped("ttl")
			if hung { // and the page, too, for as long as it waits for an answer
				eval[any](p, `{ const until = performance.now() + 5500; while (performance.now() < until); }`)
			}
			p.until(`document.body.dataset.live === 'no'`)
			if eval[bool](p, `document.querySelector('#lines [data-level="1"]') !== null || document.querySelector('#motor-left').dataset.value !== ''`) {
				t.Error("the page shows what it no longer knows")
			}
			p.shows("#log", "no answer from the car")
			p.shows("#notice", "its state is unknown")
			if hung {
				p.link("disconnected") // the page gives up by itself
			}
			r.cut()
			p.link("disconnected")
			p.until(`document.querySelector('#up').disabled`)

			r.restore()
			p.link("connected")
			p.down('w', true)
			c.wantStill()
			p.up('w')
			p.down('w', false)
			c.wantSteady(forward)
		})
	}
}

func TestServerRestart(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, lostSocket)
	p.down('w', false)
	c.wantSteady(forward)
	host := c.host()
	c.kill()
	p.link("disconnected")
	c.start(host)
	p.link("connected")
	p.down('w', true)
	c.wantStill()
	p.up('w')
	p.down('w', false)
	c.wantSteady(forward)
}

func TestTwoDrivers(t *testing.T) {
	c := startCar(t, "")
	first := open(t, chrome, c.url, "")
	second := open(t, chrome, c.url, "")
	first.press("#up")
	driving := c.wantSteady(forward)
	first.shows("#helm-who", "You")
	second.shows("#helm-who", driving.Driver)
	second.shows("#notice", "Ask for the helm")

	second.press("#back")
	second.shows("#log", "back 60 → not_driver: "+driving.Driver+" drives; send claim")
	second.shows("#notice", driving.Driver+" drives: ask for the helm")
	c.wantSteady(forward)
	second.release("#back")
	if eval[bool](second, `[...document.querySelectorAll('#log span')].some((row) => /^stop( |$)/.test(row.textContent))`) {
		t.Error("the refused one stopped the driver's car")
	}
	if now := c.wantSteady(forward); now.Driver != driving.Driver {
		t.Errorf("%s drives, not %s", now.Driver, driving.Driver)
	}
	first.release("#up")
	c.wantStopped("")
	if err := chromedp.Cancel(first.ctx); err != nil {
		t.Fatal(err)
	}
	second.shows("#helm-who", "Nobody")
	second.press("#back")
	c.wantSteady(backward)
}

const pictureShown = `(({hidden, naturalWidth}) => !hidden && naturalWidth > 0)(document.querySelector('#camera'))`

func TestNoCameraPicture(t *testing.T) {
	host := startCamera(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent.Close()
	address := silent.Addr().String()
	c := startWired(t, "", strings.Replace("http://"+address+"/?action=stream", "127.0.0.1", "HOST", 1))
	p := open(t, chrome, c.url, "^error: Failed to load resource: net::ERR_CONNECTION_REFUSED http://"+address, host, address)
	p.do(phone)
	p.shows("#camera-note", "No picture from http://"+address+"/?action=stream")
	p.inSight(parts("#camera-retry"), "#camera-retry")
	p.until(`document.querySelector('#camera').hidden`)
	p.press("#up") // which needs no picture
	c.want(forward)
	p.release("#up")

	p.click("#camera-url")
	p.do(chromedp.KeyEvent("http://" + host + "/\r"))
	p.until(pictureShown)
}
