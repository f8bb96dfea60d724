package hardware

import "sync"

const (
	maxLooks = 64   // camera commands that may wait; steps add up, so none may be dropped unseen
	maxStops = 1024 // stops that may wait for their answer; the stop itself is one and always taken
)

// mailbox holds what is on its way to the car. It is bounded, putting never blocks, a stop goes ahead of all motion, and
// of several motions, or readings of one sensor, only the newest waits.
type mailbox struct {
	ready chan struct{} // has an element while something waits

	mu       sync.Mutex
	stops    []Command // Stop, EStop, Reset, in their order
	motion   []Command // none or one
	looks    []Command
	readings [MaxSensors]float64 // the newest
	tripped  bool                // one of them forbade to drive ahead, though a newer one may not
	closed   bool
}

func newMailbox() *mailbox {
	return &mailbox{ready: make(chan struct{}, 1)}
}

// put takes cmd in, and answers the command that it overtakes, or itself if it is not taken.
func (m *mailbox) put(cmd Command) {
	var overtaken, squeezed Command
	refused, err := false, error(nil)
	stops := cmd.Kind == Stop || cmd.Kind == EStop || cmd.Kind == Reset
	m.mu.Lock()
	if (stops || cmd.Kind == Drive) && len(m.motion) > 0 {
		overtaken, m.motion = m.motion[0], m.motion[:0] // also by a stop: it must not come after it
	}
	switch {
	case m.closed:
		refused, err = true, ErrOff
	case cmd.Kind == Drive:
		m.motion = append(m.motion, cmd)
	case stops && len(m.stops) < maxStops:
		m.stops = append(m.stops, cmd)
	case cmd.Kind == Stop:
		refused = true // those that wait will stop the car for this one too
	case stops:
		squeezed, m.stops[maxStops-1] = m.stops[maxStops-1], cmd // what comes last decides whether the car may drive again
	case len(m.looks) < maxLooks:
		m.looks = append(m.looks, cmd)
	default:
		refused, err = true, ErrBusy
	}
	m.mu.Unlock()

	m.wake()
	overtaken.tell(Result{})
	squeezed.tell(Result{})
	if refused {
		cmd.tell(Result{Err: err})
	}
}

// report takes in what a sensor reads, and whether that forbids to drive ahead.
func (m *mailbox) report(sensor int, value float64, blocks bool) {
	m.mu.Lock()
	m.readings[sensor] = value
	m.tripped = m.tripped || blocks
	m.mu.Unlock()
	m.wake()
}

func (m *mailbox) wake() {
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take moves the commands that wait to the end of into: stops first, then the motion, then the camera. The readings are
// the newest of each sensor; tripped tells whether any that came since the last take forbade to drive ahead, be it for
// ever so short.
func (m *mailbox) take(into []Command) (_ []Command, readings [MaxSensors]float64, tripped bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	into = append(append(append(into, m.stops...), m.motion...), m.looks...)
	m.stops, m.motion, m.looks = m.stops[:0], m.motion[:0], m.looks[:0]
	tripped, m.tripped = m.tripped, false
	return into, m.readings, tripped
}

// close refuses all that comes from now on.
func (m *mailbox) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
}

func (c Command) tell(r Result) {
	if c.From != nil {
		c.From.Done(c, r)
	}
}
