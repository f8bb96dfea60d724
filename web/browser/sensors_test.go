package browser

import (
	"fmt"
	"testing"
)

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
	say(`"distance_m":0.841,"front_left_m":null,"battery_v":7.4,"left_mps":0.48,"x_m":1,"y_m":2,"heading_deg":-30.2,"pitch_deg":-0.4,"bumper":1`)
	p.shows("#cause", "something is in the way")
	if got, want := rows("#sensors"), "distance=0.84 m,front left=–,battery=7.40 V,left=0.48 m/s,x=1.00 m,y=2.00 m,heading=-30°,pitch=0°,bumper=1"; got != want {
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
	p.shows("#cause", "something is in the way")
	p.up('w')
	// The log tells one answer from another, however often each came.
	p.until(`['ack', 'blocked: '].every((answer) => [...document.querySelectorAll('#log span')].some((row) =>
		/^up 100( ×\d+)? → /.test(row.textContent) && row.textContent.includes('→ ' + answer)))`)
	eventually(t, "the page shows where the car has come to rest", func() bool {
		at := c.state().Sensors
		return *at["x_m"] > 2 && eval[bool](p, fmt.Sprintf(`
			document.querySelector('#room-car').getAttribute('transform') === 'translate(' + %v + ' ' + %v + ') rotate(' + %v + ')' &&
			document.querySelector('#sensors [data-name="distance_m"] b').textContent === (%v).toFixed(2) + ' m'`,
			*at["x_m"], *at["y_m"], *at["heading_deg"], *at["distance_m"]))
	})
	p.until(`document.querySelector('#room-trail').points.length > 20`)
}
