package browser

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// controls are what only who may drive can use.
const controls = `.pad button, #speed, #estop, #say, #send`

// id returns how the car calls the page.
func (p *tab) id() string {
	p.t.Helper()
	return strings.TrimPrefix(eval[string](p, `document.querySelector('#status').textContent`), "Connected as ")
}

// helm waits until the page says so of the helm.
func (p *tab) helm(says string) {
	p.t.Helper()
	p.shows("#helm p", says)
}

// Three tabs: a driver, another who may drive, and one who watches.
func TestHelm(t *testing.T) {
	c := startClosed(t)
	ann := open(t, chrome, c.login(), "")
	bob := open(t, chrome, c.login(), "")
	cleo := open(t, chrome, c.login(), "")
	watcher := open(t, chrome, c.url, "")
	tabs := []*tab{ann, bob, cleo, watcher}
	for _, p := range tabs {
		p.helm("Nobody drives")
	}
	ann.click("#name")
	ann.do(chromedp.KeyEvent("Ann\r"))
	ann.shows("#log", "name Ann → done")
	ann.down('w', false)
	c.wantSteady(forward)
	ann.helm("You have the helm")
	for _, p := range tabs[1:] {
		p.helm("\u2068Ann\u2069 (" + ann.id() + ") drives")
	}
	watcher.until(`[...document.querySelectorAll('` + controls + `')].every((one) => one.disabled)`)
	watcher.until(`document.querySelector('#helm-act').hidden`)
	watcher.shows("#role-note", "You are watching. To drive, open the address that roverd printed")
	watcher.tap('h') // means nothing to it

	// The driver keeps it.
	bob.click("#helm-act")
	bob.helm("(" + ann.id() + ") is asked for the helm")
	bob.shows("#helm-left", " s")
	ann.helm(bob.id() + " asks for the helm")
	ann.shows("#helm-left", " s")
	cleo.helm("drives; " + bob.id() + " asks for the helm")
	cleo.until(`document.querySelector('#helm-act').hidden`)
	ann.click("#helm-keep")
	bob.helm("keeps the helm")
	ann.helm("You have the helm")
	watcher.helm("(" + ann.id() + ") drives")
	c.wantSteady(forward)
	bob.click("#helm-act")
	bob.shows("#notice", "keeps the helm: ask again in")

	// Another asks, thinks better of it, and is given the helm; all by keyboard.
	cleo.until(`!document.querySelector('#helm-act').hidden`)
	cleo.tap('h')
	ann.helm(cleo.id() + " asks for the helm")
	cleo.helm("is asked for the helm")
	cleo.tap('h')
	ann.helm("You have the helm")
	cleo.helm("(" + ann.id() + ") drives")
	cleo.tap('h')
	ann.helm(cleo.id() + " asks for the helm")
	ann.tap('h')
	c.wantStopped("handover")
	cleo.helm("You have the helm")
	ann.helm(cleo.id() + " drives")
	c.wantStill() // although Ann holds W
	ann.until(`document.querySelector('#up[data-held]') === null`)
	cleo.down('s', false)
	c.wantSteady(backward)
	ann.up('w') // which stops nobody else's car
	c.wantSteady(backward)
	cleo.up('s')
	c.wantStopped("")

	cleo.click("#helm-act")
	for _, p := range tabs {
		p.helm("Nobody drives")
	}
	bob.down('w', false)
	c.wantSteady(forward)
	bob.helm("You have the helm")
	bob.up('w')

	// Who asks and leaves asks no longer.
	cleo.helm(bob.id() + " drives")
	cleo.click("#helm-act")
	bob.helm(cleo.id() + " asks for the helm")
	if err := chromedp.Cancel(cleo.ctx); err != nil {
		t.Fatal(err)
	}
	bob.helm("You have the helm")
}

// A name is kept for the next visit, and is nobody else's.
func TestName(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	watcher := open(t, chrome, c.url, "")
	p.click("#name")
	p.do(chromedp.KeyEvent("free\r"))
	p.tap('w')
	watcher.helm("\u2068free\u2069 (" + p.id() + ") drives")
	p.do(chromedp.Reload())
	p.link("connected")
	p.tap('w')
	watcher.helm("\u2068free\u2069 (" + p.id() + ") drives")
	p.click("#name")
	eval[any](p, `document.querySelector('#name').value = ''`)
	p.do(chromedp.KeyEvent("\r"))
	watcher.until(`document.querySelector('#helm-who').textContent === '` + p.id() + `'`)
}

// Answers find what they answer by its id; words have none, and JSON typed by hand gets one.
func TestAnswers(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	say := func(text, answer string) {
		t.Helper()
		p.click("#say")
		p.do(chromedp.KeyEvent(text + "\r"))
		p.shows("#log", text+" → "+answer)
	}
	p.down('w', false) // and hold it: answers come all the time
	c.want(forward)
	say("ping", "pong")
	say("state", "state ")
	say(`{"op":"state"}`, "state ")
	say(`{"op":"ping","id":7}`, "pong")
	say(`{"op":"pong"}`, `unknown_command: unknown op "pong"`)
	say(`{"op":`, "bad_json")
	say("[1]", "unknown_command")
	say("cam_left 3", "ack")
	c.wantSteady(forward)
	p.up('w')
	c.wantStopped("")
	p.until(`[...document.querySelectorAll('#log span')].every((row) => row.textContent.includes('→') || !/ ×|^(up|stop)( |$)/.test(row.textContent))`)
	p.link("connected")
}

// Answers with an id come in any order; those without belong to the words, but for the driver's answer to a claim.
func TestAnswersOutOfOrder(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	eval[any](p, `{ import('/requests.js').then(({createRequests}) => {
		const requests = createRequests(() => true);
		requests.ask({op: 'stop'});
		requests.say('cam_up');
		requests.ask({op: 'claim'});
		requests.say('ping');
		requests.say('claim');
		window.answered = [{id: 2}, {code: 'refused'}, {id: 9}, {}, {}, {code: 'refused'}, {}, {id: 1}]
			.map((answer) => requests.answered(answer)?.text || 'none').join();
	}); }`)
	p.until(`window.answered !== undefined`)
	if got, want := eval[string](p, `answered`), "claim,claim,none,cam_up,ping,none,none,stop"; got != want {
		t.Errorf("the answers are of %s, not of %s", got, want)
	}
}

// A computer's clock may stand still while it sleeps: that is no reason to take what it says afterwards for late.
func TestClockThatStoodStill(t *testing.T) {
	c := startCar(t, "")
	p := open(t, chrome, c.url, "")
	p.down('w', false)
	c.wantSteady(forward)
	p.up('w')
	c.wantStopped("")
	p.until(`(performance.slept ??= performance.now()) + 5000 < performance.now()`)
	eval[any](p, `{ const now = performance.now.bind(performance); performance.now = () => now() - 5000; }`)
	p.down('w', false)
	p.shows("#log", "stale: the command came")
	c.wantSteady(forward)
	p.up('w')
}
