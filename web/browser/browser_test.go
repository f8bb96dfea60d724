package browser

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
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

	lostSocket = `^error: WebSocket connection to \S+ failed`
)

var phone = chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2), chromedp.EmulatePortrait, chromedp.EmulateMobile, chromedp.EmulateTouch)

func TestDriveButtons(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	for button, lines := range map[string]string{"#up": forward, "#back": backward, "#left": turnLeft, "#right": turnRight} {
		p.press(button)
		c.wantSteady(lines)
		p.release(button)
		c.wantStopped("")
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
		p.down(k, false)
		c.wantSteady(lines)
		p.up(k)
		c.wantStopped("")
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
		p.touch(input.DispatchTouchEventTypeTouchStart, "#up")
		c.wantSteady(forward)
		p.touch(end, "")
		c.wantStopped("")
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

func TestEmergencyStop(t *testing.T) {
	c := startCar(t, "")
	driver := open(t, chrome, c.url, "")
	other := open(t, chrome, c.url, "")
	driver.down('w', false)
	c.wantSteady(forward)
	other.click("#say") // from anywhere, also where one types
	other.tap(escape)
	c.wantEstop(true)
	for _, p := range []*tab{driver, other} {
		p.shows("#alarm", "Emergency stop: press Reset")
		p.until(`document.querySelector(document.querySelector('.drive').getAttribute('aria-describedby').replace(/^/, '#')).textContent.includes('Emergency stop')`)
		p.until(`['up', 'left', 'stop', 'right', 'back', 'speed'].every((id) => document.getElementById(id).disabled)`)
		p.shows("#estop", "Reset")
	}
	driver.shows("#cause", "emergency stop")
	other.tap(escape) // again: it must not reset
	driver.down('w', true)
	driver.press("#up")
	c.wantStill()
	driver.release("#up")
	if s := c.state(); !s.Estop || s.Cause != "estop" {
		t.Errorf("estop %v, cause %q after another Escape", s.Estop, s.Cause)
	}

	other.until(calm)
	other.click("#estop")
	c.wantEstop(false)
	driver.until(`!document.querySelector('#up').disabled && document.querySelector('#alarm').textContent === ''`)
	driver.shows("#estop", "Emergency stop")
	driver.down('w', true)
	c.wantStill() // until the key is pressed anew
	driver.up('w')
	driver.down('w', false)
	c.wantSteady(forward)
	driver.up('w')
}

// calm is when the emergency stop may be reset.
const calm = `document.querySelector('#estop[data-holds][aria-disabled="false"]') !== null`

func TestEmergencyButton(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	p.down('w', false)
	c.wantSteady(forward)
	p.press("#estop") // stops before it is let go
	c.wantEstop(true)
	p.until(calm)
	p.release("#estop") // which makes a click, but of the press that stopped
	p.up('w')
	c.wantStill()
	p.until(calm)
	p.click("#estop")
	c.wantEstop(false)
	p.shows("#estop", "Emergency stop")

	// Who hits it twice has not reset it.
	eval[any](p, `new MutationObserver((_, observer) => {
		observer.disconnect();
		document.querySelector('#estop').click();
	}).observe(document.querySelector('#estop'), {attributeFilter: ['data-holds']})`)
	p.click("#estop")
	c.wantEstop(true)
	p.until(calm)
	c.wantEstop(true)

	// With the keyboard alone.
	eval[any](p, `document.querySelector('#estop').focus()`)
	p.tap('\r')
	c.wantEstop(false)
	p.shows("#estop", "Emergency stop")
	p.tap('\r')
	c.wantEstop(true)
}

func TestWatcher(t *testing.T) {
	c := startCar(t, "")
	r := startRelay(t, c.host())
	p := open(t, chrome, "http://"+r.addr+"/", lostSocket)
	r.say(`{"op":"welcome","protocol":1,"id":"v9","role":"view","ttl_ms":500,"car":"simulated","camera_url":""}`)
	p.shows("#status", "v9")
	p.shows("#role-note", "You are watching.")
	p.until(`[...document.querySelectorAll('.pad button, #speed, #estop')].every((one) => one.disabled)`)
	p.tap(escape)
	r.say(`{"op":"state","seq":1,"driver":"","motion":{"left":0,"right":0},"estop":true,"cause":"estop","viewers":1,"lines":{},"sensors":{}}`)
	p.shows("#alarm", "a driver must reset it")
	p.shows("#estop", "Reset")
	if c.state().Estop {
		t.Error("a watcher stopped the car")
	}
}

func TestSensors(t *testing.T) {
	c := startCar(t, "")
	r := startRelay(t, c.host())
	p := open(t, chrome, "http://"+r.addr+"/", lostSocket)
	p.until(`document.querySelector('#sensors-panel').hidden && document.querySelector('#room').hasAttribute('hidden')`) // this car has none
	say := func(sensors string) {
		r.say(`{"op":"state","seq":1,"driver":"","motion":{"left":0.255,"right":0},"estop":false,"cause":"sensor","viewers":1,
			"lines":{"left.enable":0.6,"camera.pan":0.075,"left.forward":1,"left.backward":0},"sensors":{` + sensors + `}}`)
	}
	rows := func(list string) string {
		return eval[string](p, fmt.Sprintf(`[...document.querySelectorAll('%s li')].map((row) => row.firstChild.textContent + '=' + row.lastChild.textContent).join()`, list))
	}
	say(`"distance_m":0.841,"front_left_m":null,"battery_v":7.4,"left_mps":0.48,"x_m":1,"y_m":2,"heading_deg":-30.2,"bumper":1`)
	p.shows("#cause", "a sensor saw something ahead")
	if got, want := rows("#sensors"), "distance=0.84 m,front left=–,battery=7.40 V,left=0.48 m/s,x=1.00 m,y=2.00 m,heading=-30°,bumper=1"; got != want {
		t.Errorf("the sensors are %q, not %q", got, want)
	}
	if got, want := rows("#lines"), "left.enable=60%,camera.pan=7.5%,left.forward=1,left.backward=0"; got != want {
		t.Errorf("the lines are %q, not %q", got, want)
	}

	// The room grows with what was seen, and keeps the car's way.
	room := func() string {
		return eval[string](p, `['room viewBox', 'room-car transform', 'room-trail points'].map((one) => {
			const [id, name] = one.split(' ');
			return document.getElementById(id).getAttribute(name);
		}).join('; ')`)
	}
	if got, want := room(), "0 -3 4 3; translate(1 2) rotate(-30.2); 1,2 1,2"; got != want {
		t.Errorf("the room is %q, not %q", got, want)
	}
	for _, x := range []string{"1.3", "1.6", "1.61", "2", "2.4", "2.8", "3.2", "3.6", "4"} {
		say(`"x_m":` + x + `,"y_m":2,"heading_deg":0`)
	}
	p.until(`document.querySelector('#room-car').getAttribute('transform') === 'translate(4 2) rotate(0)'`)
	if got, want := room(), "0 -3 4.5 3; translate(4 2) rotate(0); 1,2 1.3,2 1.6,2 2,2 2.4,2 2.8,2 3.2,2 3.6,2 4,2 4,2"; got != want {
		t.Errorf("the room is %q, not %q", got, want)
	}

	say(`"x_m":1,"y_m":2,"heading_deg":null,"distance_m":null`)
	p.until(`document.querySelector('#room').hasAttribute('hidden')`)
	r.freeze()
	r.cut()
	p.link("disconnected")
	if got, want := rows("#sensors"), "x=–,y=–,heading=–,distance=–"; got != want {
		t.Errorf("without a connection the sensors are %q", got)
	}
}

// TestRoom drives the simulated car through its room until the wall stops it.
func TestRoom(t *testing.T) {
	c := startWired(t, "", "")
	p := open(t, chrome, c.url, "")
	p.tap('0')
	p.down('w', false)
	p.shows("#notice", "a sensor forbids to drive ahead: distance_m")
	p.shows("#cause", "a sensor saw something ahead")
	p.up('w')
	p.until(`document.querySelector('#sensors [data-name="left_mps"] b').textContent === '0.00 m/s'`)
	at := c.state().Sensors
	if *at["x_m"] < 2 {
		t.Errorf("it is at %v metres already", *at["x_m"])
	}
	p.shows(`#sensors [data-name="distance_m"]`, fmt.Sprintf("%.2f m", *at["distance_m"]))
	p.until(fmt.Sprintf(`document.querySelector('#room-car').getAttribute('transform') === 'translate(%v %v) rotate(%v)'`, *at["x_m"], *at["y_m"], *at["heading_deg"]))
	p.until(`document.querySelector('#room-trail').points.length > 20`)
}

func TestFault(t *testing.T) {
	c := startCar(t, "")
	r := startRelay(t, c.host())
	p := open(t, chrome, "http://"+r.addr+"/", lostSocket)
	r.say(`{"op":"state","seq":1,"driver":"","motion":{"left":0,"right":0},"estop":false,"cause":"fault","viewers":1,"lines":{},"sensors":{},"fault":"GPIO23: input/output error"}`)
	p.shows("#alarm", "The car failed and is off: GPIO23: input/output error")
	p.until(`document.querySelector('#up').disabled`)
	r.freeze()
	r.cut()
	p.link("disconnected")
	p.shows("#alarm", "GPIO23") // although the car has gone
	r.restore()
	p.link("connected")
	p.until(`document.querySelector('#alarm').textContent === '' && !document.querySelector('#up').disabled`)
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
	before := c.state().Seq
	say("wasd")
	p.shows("#log", `wasd → unknown_command: unknown command "wasd"; the commands are: up back`)
	p.shows("#notice", `unknown command "wasd"`)
	if c.state().Seq != before {
		t.Error("typing moved the car")
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
	first.shows("#driver", "you")
	second.shows("#driver", driving.Driver)
	second.shows("#notice", driving.Driver+" drives; wait")

	second.press("#back")
	second.shows("#log", "not_driver: "+driving.Driver+" drives; wait")
	second.shows("#notice", driving.Driver+" drives; wait until it leaves or has been silent")
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
	second.shows("#driver", "free")
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
	c := startCar(t, strings.Replace("http://"+address+"/?action=stream", "127.0.0.1", "HOST", 1))
	p := open(t, chrome, c.url, "^error: Failed to load resource: net::ERR_CONNECTION_REFUSED http://"+address, host, address)
	p.shows("#camera-note", "No picture from http://"+address+"/?action=stream")
	p.until(`document.querySelector('#camera').hidden`)
	p.press("#up") // which needs no picture
	c.want(forward)
	p.release("#up")

	p.click("#camera-url")
	p.do(chromedp.KeyEvent("http://" + host + "/\r"))
	p.until(pictureShown)
}

// viewports are what people have in hand or on the desk.
var viewports = map[string]chromedp.Action[chromedp.Void]{
	"phone":         phone,
	"small-phone":   chromedp.EmulateViewport(360, 640, chromedp.EmulateScale(2), chromedp.EmulatePortrait, chromedp.EmulateMobile, chromedp.EmulateTouch),
	"lying":         chromedp.EmulateViewport(844, 390, chromedp.EmulateScale(2), chromedp.EmulateLandscape, chromedp.EmulateMobile, chromedp.EmulateTouch),
	"small-lying":   chromedp.EmulateViewport(667, 375, chromedp.EmulateScale(2), chromedp.EmulateLandscape, chromedp.EmulateMobile, chromedp.EmulateTouch),
	"desktop":       chromedp.EmulateViewport(1280, 800),
	"small-desktop": chromedp.EmulateViewport(1024, 720),
}

// stroll drives the simulated car around, which leaves a trail.
func (c *car) stroll(p *tab) {
	for _, leg := range []struct {
		speed, key rune
		sensor     string
		past       func(value float64) bool
	}{
		{'1', 'd', "heading_deg", func(v float64) bool { return v < -15 }},
		{'6', 'w', "x_m", func(v float64) bool { return v > 1.6 }},
		{'1', 'a', "heading_deg", func(v float64) bool { return v > 5 }},
		{'6', 'w', "x_m", func(v float64) bool { return v > 2.4 }},
		{'1', 'd', "heading_deg", func(v float64) bool { return v < 10 }},
	} {
		p.tap(leg.speed)
		p.down(leg.key, false)
		eventually(c.t, "driving "+leg.sensor, func() bool { return leg.past(*c.state().Sensors[leg.sensor]) })
		p.up(leg.key)
		c.wantStopped("")
	}
	p.tap('6')
}

// box is where an element is on the screen.
type box struct {
	Name                     string
	Left, Top, Right, Bottom float64
}

// TestLayout looks for what is out of sight or jumps, and saves what the page looks like in ROVERD_SCREENSHOTS, if that
// is set. Two of the pictures are in web/, for the README.
func TestLayout(t *testing.T) {
	for name, viewport := range viewports {
		t.Run(name, func(t *testing.T) {
			host := startCamera(t)
			c := startWired(t, "", "http://"+host+"/?action=stream")
			p := open(t, chrome, c.url, "", host)
			p.do(viewport)
			p.until(pictureShown)
			screenshots := os.Getenv("ROVERD_SCREENSHOTS")
			if screenshots != "" && (name == "phone" || name == "desktop") {
				c.stroll(p)
			}
			p.down(arrowUp, false)
			p.until(`['left', 'right'].every((side) => document.querySelector('#motor-' + side).dataset.value === '0.6')`)
			p.until(`document.getAnimations().length === 0`)
			shoot := func(suffix string) {
				if screenshots != "" {
					p.screenshot(filepath.Join(screenshots, "screenshot-"+name+suffix+".png"))
				}
			}
			shoot("")
			boxes := `[...document.querySelectorAll('.stage, .state, #notes, #speed, #estop, #room, .pad button, #sensors')].map((element) => {
				const {left, top, right, bottom} = element.getBoundingClientRect();
				return {name: element.id || element.className, left, top, right, bottom};
			})`
			if name == "small-phone" {
				boxes = strings.Replace(boxes, ", #sensors", "", 1) // for which it has no room
			}
			outside := boxes + `.filter((box) => box.left === box.right || box.left < 0 || box.top < 0 || box.right > innerWidth || box.bottom > innerHeight)
				.map((box) => box.name)`
			if out := eval[[]string](p, outside); len(out) > 0 {
				t.Errorf("out of sight: %q", out)
			}
			const covered = `[...document.querySelectorAll('.pad button, #speed, #estop, #connect')].filter((element) => {
				const {left, top, right, bottom} = element.getBoundingClientRect();
				return ![top + 4, bottom - 4].every((y) => element.contains(document.elementFromPoint((left + right) / 2, y)));
			}).map((element) => element.id)`
			if under := eval[[]string](p, covered); len(under) > 0 {
				t.Errorf("under something else: %q", under)
			}
			if wide := eval[int](p, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
				t.Errorf("the page is %d pixels too wide", wide)
			}

			before := eval[[]box](p, boxes)
			p.tap(escape)
			p.shows("#alarm", "Emergency stop")
			p.until(calm)
			shoot("-estop")
			for i, after := range eval[[]box](p, boxes) {
				if after != before[i] {
					t.Errorf("the emergency stop makes the page jump from %v to %v", before[i], after)
				}
			}
			eval[any](p, `scrollTo(0, 1e6)`)
			if eval[bool](p, `(({top, bottom}) => top < 0 || bottom > innerHeight)(document.querySelector('#estop').getBoundingClientRect())`) {
				t.Error("the emergency stop scrolls out of sight")
			}
			shoot("-scrolled")
			p.up(arrowUp)
		})
	}
}
