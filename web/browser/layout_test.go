package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

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

// parts is where the elements of a selector are, in JavaScript.
func parts(selector string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(%q)].map((element) => {
		const {left, top, right, bottom} = element.getBoundingClientRect();
		return {name: element.id || element.className, left, top, right, bottom};
	})`, selector)
}

// inSight checks that boxes are on the screen, with nothing over those elements that one touches.
func (p *tab) inSight(boxes, touched string) {
	p.t.Helper()
	outside := boxes + `.filter((box) => box.left === box.right || box.left < 0 || box.top < 0 || box.right > innerWidth || box.bottom > innerHeight)
		.map((box) => box.name)`
	if out := eval[[]string](p, outside); len(out) > 0 {
		p.t.Errorf("out of sight: %q", out)
	}
	covered := fmt.Sprintf(`[...document.querySelectorAll(%q)].filter((element) => element.checkVisibility()).filter((element) => {
		const {left, top, right, bottom} = element.getBoundingClientRect();
		return ![top + 4, bottom - 4].every((y) => element.contains(document.elementFromPoint((left + right) / 2, y)));
	}).map((element) => element.id)`, touched)
	if under := eval[[]string](p, covered); len(under) > 0 {
		p.t.Errorf("under something else: %q", under)
	}
	if wide := eval[int](p, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
		p.t.Errorf("the page is %d pixels too wide", wide)
	}
}

// wantSame checks that boxes are where they were before something happened.
func (p *tab) wantSame(boxes string, before []box, what string) {
	p.t.Helper()
	for i, after := range eval[[]box](p, boxes) {
		if after != before[i] {
			p.t.Errorf("%s makes the page jump from %v to %v", what, before[i], after)
		}
	}
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
			boxes := parts(".stage, .state, #helm, #notes, #speed, #estop, #room, .pad button, #sensors")
			if name == "small-phone" {
				boxes = strings.Replace(boxes, ", #sensors", "", 1) // for which it has no room
			}
			p.inSight(boxes, ".pad button, #speed, #estop, #connect, #helm button")

			before := eval[[]box](p, boxes)
			p.tap(escape)
			p.shows("#alarm", "Emergency stop")
			p.until(calm)
			shoot("-estop")
			p.wantSame(boxes, before, "the emergency stop")
			eval[any](p, `scrollTo(0, 1e6)`)
			if eval[bool](p, `(({top, bottom}) => top < 0 || bottom > innerHeight)(document.querySelector('#estop').getBoundingClientRect())`) {
				t.Error("the emergency stop scrolls out of sight")
			}
			shoot("-scrolled")
			p.up(arrowUp)
		})
	}
}

// TestHelmLayout has two ask each other for the helm, and a third watch.
func TestHelmLayout(t *testing.T) {
	for name, viewport := range viewports {
		t.Run(name, func(t *testing.T) {
			host := startCamera(t)
			c := serve(&car{t: t}, "", "http://"+host+"/?action=stream")
			ann, bob, watcher := open(t, chrome, c.login(), "", host), open(t, chrome, c.login(), "", host), open(t, chrome, c.url, "", host)
			boxes := parts(".stage, .state, #helm, #notes, .speed, #estop, .pad button")
			places := map[*tab][]box{}
			for _, p := range []*tab{ann, bob, watcher} {
				p.do(viewport)
				p.until(pictureShown)
				eval[any](p, `document.querySelector('#name').focus()`)
				p.do(chromedp.KeyEvent("A name of 32 letters, no more 32\r"))
				eval[any](p, `scrollTo(0, 0)`)
				places[p] = eval[[]box](p, boxes)
			}
			check := func(what string) {
				t.Helper()
				for p, before := range places {
					eval[any](p, `scrollTo(0, 0)`)
					p.inSight(boxes, ".pad button, #speed, #estop, #connect, #helm button, #token")
					p.wantSame(boxes, before, what)
				}
				dir := os.Getenv("ROVERD_SCREENSHOTS")
				for who, p := range map[string]*tab{"ann": ann, "bob": bob, "watcher": watcher} {
					if dir != "" {
						for _, scheme := range []string{"light", "dark"} {
							p.colours(scheme)
							p.until(`document.getAnimations().length === 0`)
							p.screenshot(filepath.Join(dir, "helm-"+name+"-"+what+"-"+who+"-"+scheme+".png"))
						}
					}
				}
			}
			check("free")
			ann.down('a', false) // and hold it: the helm must not fall free
			bob.helm("(" + ann.id() + ") drives")
			check("driving")
			bob.tap('h')
			ann.helm("asks for the helm")
			check("claim")
			ann.tap('n')
			bob.helm("keeps the helm")
			check("refusal")
			bob.tap('w')
			bob.shows("#notice", "ask for the helm")
			check("not-driver")
			watcher.enter("a-wrong-token")
			watcher.shows("#notice", "the token is wrong")
			check("wrong-token")
		})
	}
}

// colours has the page think that the user likes light or dark ones.
func (p *tab) colours(scheme string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// TestCauseLayout has the car stop for every reason there is.
func TestCauseLayout(t *testing.T) {
	c := startCar(t, "")
	r := startRelay(t, c.host())
	p := open(t, chrome, "http://"+r.addr+"/", lostSocket)
	say := func(cause string) {
		r.say(`{"op":"state","seq":1,"driver":"","motion":{"left":0,"right":0},"camera":{"pan":0,"tilt":0},"estop":false,"cause":"` + cause + `","viewers":1,"lines":{},"sensors":{}}`)
	}
	say("")
	p.until(`document.querySelector('#lines li') === null`) // the car's own are gone
	boxes := parts(".stage, .state, #helm, #notes, .pad button")
	for name, viewport := range viewports {
		p.do(viewport)
		before := eval[[]box](p, boxes)
		for cause, text := range map[string]string{"ttl": "no command for 500 ms", "disconnect": "driver disconnected", "fault": "line failed",
			"estop": "emergency stop", "sensor": "in the way", "handover": "changed hands", "": "stands"} {
			say(cause)
			p.shows("#cause", text)
			p.wantSame(boxes, before, name+": "+text)
		}
	}
}
