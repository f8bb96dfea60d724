package browser

import "testing"

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
		p.until(`document.getElementById(document.querySelector('.drive').getAttribute('aria-describedby')).textContent.includes('Emergency stop')`)
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
