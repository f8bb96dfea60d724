package main

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"roverd/hardware"
	"roverd/netpoll"
	"roverd/server/websocket"

	"github.com/gobwas/ws"
)

// A walk through the viewers lets those who drive pass after sliceTime, which it looks at after every sliceStep of them,
// and all who wait after stretchSlices of these.
const (
	sliceTime     = 100 * time.Microsecond
	sliceStep     = 8
	stretchSlices = 10
)

// The viewers of one deck may leave maxOwed bytes untaken in all, or owedEach for every one of them if that is more.
const (
	maxOwed  = 16 << 20
	owedEach = 256
)

var errTooSlow = errors.New("too slow: what all viewers have yet to take is more than there is memory for")

// deck is one loop's share of the viewers.
type deck struct {
	// Fixed before the first connection.
	srv       *server
	loop      *netpoll.Loop
	walkFn    func() // bound once, so that handing them to the loop does not allocate
	beginFn   func()
	answerFn  func()
	dismissFn func()
	slice     time.Duration

	// Owned by the loop's goroutine.
	viewers    []*viewer
	pilots     map[*viewer]*pilot // of those who have said something
	lines      map[*line]struct{}
	next       int // the viewer whose turn it is in the walk
	left       int // viewers the walk has still to see
	walking    bool
	leaving    bool      // dismiss has been called
	began      time.Time // the walk
	shedInVain time.Time // when the viewers were last looked through for slow ones in vain
	upgrader   *websocket.Upgrader
	wire       *wire         // of all TLS connections; nil without TLS
	asking     *netpoll.Conn // who is before the upgrader
	role       role          // that it was given
	now        time.Time     // when the input at hand was read
	scratch    []byte

	// Shared.
	topic    atomic.Pointer[frame] // the newest state
	posted   atomic.Bool           // begin is on its way to the loop
	walkTime atomic.Int64          // that the last walk took, in nanoseconds
	mu       sync.Mutex
	answers  []answer // for this deck's pilots, on their way to the loop
	spare    []answer
}

// debtor is a viewer or a line, as one that may be too slow.
type debtor interface {
	speaker
	// owes returns how much output the client has left untaken, in bytes; 0 if it is not behind, or drives.
	owes() int
	// drop ends the connection without a word: the client does not read.
	drop(err error)
}

// untaken is owes for a connection. That of a driver is preferred, and not to be let go.
func untaken(c *netpoll.Conn) int {
	if !c.Blocked() || c.Preferred() {
		return 0
	}
	return c.Backlog()
}

// answer is what a pilot is to be told: what the car has to say to its command with that id, or else a message.
type answer struct {
	pilot   *pilot
	id      int64
	result  hardware.Result
	message []byte
}

// newDeck makes a deck that has no loop yet.
func newDeck(srv *server) *deck {
	d := &deck{srv: srv, slice: sliceTime, pilots: map[*viewer]*pilot{}, lines: map[*line]struct{}{}}
	d.upgrader = websocket.NewUpgrader(d.checkUpgrade)
	if srv.handshakes != nil {
		d.wire = newWire()
	}
	d.walkFn, d.beginFn, d.answerFn, d.dismissFn = d.walk, d.begin, d.sendAnswers, d.dismiss
	return d
}

// open takes a new connection.
func (d *deck) open(c *netpoll.Conn, from netip.AddrPort) netpoll.Handler {
	if d.srv.handshakes != nil {
		return newHandshake(d, c, from.Addr())
	}
	return newGuest(d, c, from.Addr())
}

// publish has every viewer of the deck shown f, unless a newer frame comes first. Any goroutine may call it.
func (d *deck) publish(f *frame) {
	d.topic.Store(f)
	if !d.posted.Swap(true) {
		d.loop.Post(d.beginFn)
	}
}

// begin starts a round through all viewers, or makes the one under way go once around from where it is. So everyone
// is shown the newest frame, and a quick succession of frames does not starve the last ones.
func (d *deck) begin() {
	d.posted.Store(false)
	d.left = len(d.viewers)
	if d.walking { // the last round is not over yet: the next one must not come as soon
		d.walkTime.Store(int64(time.Since(d.began)))
		return
	}
	d.walking, d.began = true, time.Now()
	d.walk()
}

func (d *deck) walk() {
	goesOn := func() bool { return d.left > 0 && len(d.viewers) > 0 }
	for slice := 0; slice < stretchSlices && goesOn(); slice++ {
		f := d.topic.Load()
		for turn := d.turn(); goesOn() && turn.goesOn(); {
			if d.next >= len(d.viewers) {
				d.next = 0
			}
			d.viewers[d.next].show(f)
			d.next++
			d.left--
		}
		d.loop.Pass()
	}
	d.shed()
	if goesOn() {
		d.loop.Later(d.walkFn)
		return
	}
	d.walking = false
	d.walkTime.Store(int64(time.Since(d.began)))
}

// turn is a slice of a walk.
type turn struct {
	end  time.Time
	done int
}

func (d *deck) turn() turn { return turn{end: time.Now().Add(d.slice)} }

// goesOn is asked before each viewer.
func (t *turn) goesOn() bool {
	t.done++
	return t.done%sliceStep != 1 || t.done == 1 || time.Now().Before(t.end)
}

// add takes a viewer in.
func (d *deck) add(v *viewer) {
	v.index = int32(len(d.viewers))
	d.viewers = append(d.viewers, v)
	if d.walking {
		d.left++ // or the walk would end one short of its round
	}
}

// remove lets a viewer go; the last one moves to its place.
func (d *deck) remove(v *viewer) {
	last := len(d.viewers) - 1
	moved := d.viewers[last]
	d.viewers[v.index] = moved
	moved.index = v.index
	d.viewers[last] = nil
	d.viewers = d.viewers[:last]
	if d.walking && moved != v {
		moved.show(d.topic.Load()) // the walk may have passed that place
	}
}

// answer hands a pilot of the deck what it is to be told. Any goroutine may call it.
func (d *deck) answer(a answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers = append(d.answers, a)
	if len(d.answers) == 1 {
		d.loop.Post(d.answerFn)
	}
}

// sendAnswers sends what answers there are. It runs after every few events, so that answers wait for no crowd.
func (d *deck) sendAnswers() {
	d.mu.Lock()
	answers := d.answers
	if len(answers) == 0 {
		d.mu.Unlock()
		return
	}
	d.answers = d.spare[:0]
	d.mu.Unlock()
	for i, a := range answers {
		if a.message == nil {
			d.srv.outcomes.add(outcomeOf(a.result))
			d.scratch = appendResult(d.scratch[:0], a.id, a.result)
			a.message = d.scratch
			a.pilot.owed--
		}
		a.pilot.out.say(a.message)
		answers[i] = answer{}
	}
	d.mu.Lock()
	d.spare = answers
	d.mu.Unlock()
}

// shed lets go of those who are slowest to take what they are owed, when it is too much in all, until it is half as much,
// unless it is enough to give no more time to those who have been let go already. A driver is never among them.
func (d *deck) shed() {
	most := max(maxOwed, owedEach*len(d.viewers))
	if d.loop.Backlog() <= most || time.Since(d.shedInVain) < stateInterval {
		return
	}
	if d.loop.Abandon(); d.loop.Backlog() <= most {
		return
	}
	var slow []debtor
	owed := 0
	look := func(c debtor) {
		if n := c.owes(); n > 0 {
			slow = append(slow, c)
			owed += n
		}
	}
	for _, v := range d.viewers {
		look(v)
	}
	for l := range d.lines {
		look(l)
	}
	if owed <= most { // the rest is owed to drivers, or to clients of /echo
		d.shedInVain = time.Now()
		return
	}
	slices.SortFunc(slow, func(a, b debtor) int { return cmp.Compare(b.owes(), a.owes()) })
	for _, c := range slow {
		if owed <= most/2 {
			return
		}
		owed -= c.owes()
		c.drop(errTooSlow)
	}
}

// stopping is what everyone hears at the end.
const stopping = "roverd is stopping"

// dismiss tells everyone that the server goes away (RFC 6455 section 7.4.1, code 1001), in slices like a walk.
func (d *deck) dismiss() {
	d.leaving = true
	f := d.topic.Load()
	turn := d.turn()
	for len(d.viewers) > 0 && turn.goesOn() {
		v := d.viewers[len(d.viewers)-1]
		v.show(f) // that the car stands
		v.close(ws.StatusGoingAway, stopping)
	}
	for l := range d.lines {
		if !turn.goesOn() {
			break
		}
		l.end(stopping)
	}
	if len(d.viewers)+len(d.lines) > 0 {
		d.loop.Later(d.dismissFn)
	}
}
