package netpoll

import (
	"bytes"
	"cmp"
	"io"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Handler receives the events of one connection, all on the goroutine of its loop.
type Handler interface {
	// Data gets what one read returned. The bytes are the loop's scratch buffer: they may be changed in place, and
	// are valid until Data returns.
	Data(c *Conn, p []byte)
	// Drained tells that the output that the kernel had not taken at once has now gone.
	Drained(c *Conn)
	// Expired tells that the deadline has passed; it is then no longer set.
	Expired(c *Conn)
	// Closed is the last event and comes exactly once. It runs at the end of the loop's turn, never inside a call
	// of Close. The error is nil after Finish, unless the connection breaks before the last bytes have gone; io.EOF
	// when the peer closed, what Close was given, or the socket's.
	Closed(c *Conn, err error)
}

// HalfCloser is a Handler of a peer that may shut its sending side down and still listen (RFC 9293 section 3.6). Any
// other takes the end of the input for that of the connection.
type HalfCloser interface {
	Handler
	// HalfClosed tells that no more Data will come. The connection stays until it is closed or finished.
	HalfClosed(c *Conn)
}

// Conn is one connection. It holds no buffer except output that the kernel would not take yet.
type Conn struct {
	loop    *Loop
	handler Handler
	rest    *rest // output the kernel has not taken yet, nil for none; the socket is then watched for EPOLLOUT

	fd        int32
	slot      uint32
	events    uint16 // what the socket is watched for: input, EPOLLOUT
	state     state
	pause     pause
	preferred bool // it is in the loop's first set
	detached  bool // the descriptor is somebody else's now
	layered   bool // the handler is a Layer, which output passes through
	halfShut  bool // the handler has been told HalfClosed
}

// rest stands apart from the connection because hardly any has one: it is what makes a Conn 48 bytes.
type rest struct {
	bytes []byte
	gone  int // bytes that stood before them, and still take their memory
	// After Finish:
	until uint32 // the tick by which they must have gone
	owed  int    // what the peer had yet to take when that was last looked at, see Conn.owed
}

type state uint8

const (
	open      state = iota
	finishing       // takes no more output, sends what is left
	shut            // all is sent and the sending side shut down: waits for the peer to close
	closed          // no more events; reaped at the end of the turn
)

// pause is why a connection is not read.
type pause uint8

const (
	reading    pause = iota
	untilTaken       // not read until rest has gone
	untilResume
)

// SetHandler makes h receive the events from now on.
func (c *Conn) SetHandler(h Handler) {
	if c.layered {
		c.handler.(Layer).SetHandler(h)
		return
	}
	c.handler = h
}

// handle serves one event: at most one read and, however much the handler wrote in small pieces, one write.
func (c *Conn) handle(events uint32) {
	l := c.loop
	l.corked = c
	if events&(unix.EPOLLOUT|unix.EPOLLERR) == unix.EPOLLOUT {
		if c.flush(); c.state == open && c.rest == nil {
			c.handler.Drained(c)
		}
	}
	const end = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	switch {
	case events&(unix.EPOLLIN|end) == 0 || c.state == closed:
	case c.pause != untilResume:
		c.receive(events&(end|unix.EPOLLPRI) != 0)
	case events&end != 0:
		err := io.EOF
		if n, _ := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR); n != 0 {
			err = syscall.Errno(n)
		}
		c.Close(err)
	}
	l.uncork()
}

// receive reads once. When there may be more than was read, or the end of it, the kernel is asked to tell again: after
// the others have had their turn. (A read ends before urgent data, whatever stands behind it: tcp(7).)
func (c *Conn) receive(more bool) {
	in := c.loop.in
	if c.preferred {
		in = in[:preferredSize]
	}
	n, errno := recv(int(c.fd), in)
	switch {
	case errno == unix.EAGAIN:
	case (errno != 0 || n == 0) && c.state == shut:
		c.Close(nil) // all was said: how the peer hangs up is no matter
	case errno != 0:
		c.Close(errno)
	case n == 0:
		c.endInput()
	case c.state == open:
		c.handler.Data(c, in[:n])
	}
	if n > 0 && (more || n == len(in)) && c.state != closed {
		c.arm()
	}
}

// endInput is for the end of what the peer sends.
func (c *Conn) endInput() {
	h, listens := c.handler.(HalfCloser)
	switch {
	case !listens || c.state != open:
		c.Close(io.EOF)
	case !c.halfShut:
		c.halfShut = true
		h.HalfClosed(c)
	}
}

// Write sends p, or keeps a copy of what the kernel does not take at once. Inside an event of this connection the
// output gathers and leaves in one write when the event ends. After Close or Finish it does nothing.
func (c *Conn) Write(p []byte) {
	if c.state != open || len(p) == 0 {
		return
	}
	l := c.loop
	if l.corked != c {
		c.send(p)
		return
	}
	l.out = append(l.out, p...)
	if len(l.out) >= corkSize {
		c.send(l.out)
		l.out = l.out[:0]
	}
}

// Blocked reports whether the peer has yet to make room for output.
func (c *Conn) Blocked() bool { return c.rest != nil }

// Backlog returns how many bytes of output the peer has yet to take from us.
func (c *Conn) Backlog() int {
	n := 0
	if c.rest != nil {
		n = len(c.rest.bytes)
	}
	if c.loop.corked == c {
		n += len(c.loop.out)
	}
	return n
}

// Pause stops reading until all output has gone: for a handler whose input makes more of it. It has no effect, and
// need not be undone, where the kernel takes the output at once.
func (c *Conn) Pause() {
	if c.state == open && c.pause == reading {
		c.pause = untilTaken
		c.watch()
	}
}

// Hold stops reading until Resume: for a handler that waits for something else first. If the peer sends no more
// meanwhile the connection ends, whatever has come and was not read.
func (c *Conn) Hold() {
	if c.state == open {
		c.pause = untilResume
		c.watch()
	}
}

// Resume has the connection read on after Hold.
func (c *Conn) Resume() {
	if c.state == open && c.pause == untilResume {
		c.pause = reading
		c.watch()
	}
}

// taken is for when all output has gone.
func (c *Conn) taken() {
	if c.pause == untilTaken {
		c.pause = reading
	}
}

// uncork writes what the event's handler produced.
func (l *Loop) uncork() {
	c := l.corked
	l.corked = nil
	if len(l.out) > 0 && c.state != closed {
		c.send(l.out)
	}
	if cap(l.out) > 2*corkSize {
		l.out = nil // one large reply must not stay for ever
	}
	l.out = l.out[:0]
	if c.rest == nil {
		c.taken()
	}
	if c.state == finishing {
		c.conclude()
	}
}

// send sends p through the layer, if there is one.
func (c *Conn) send(p []byte) {
	if c.layered {
		c.encode(p)
		return
	}
	c.transmit(p)
}

// transmit hands p to the kernel, and keeps what that does not take.
func (c *Conn) transmit(p []byte) {
	if c.rest != nil {
		c.rest.bytes = append(c.rest.bytes, p...)
		c.loop.backlog += len(p)
		return
	}
	n, errno := send(int(c.fd), p)
	if errno == unix.EAGAIN {
		n = 0
	} else if errno != 0 {
		c.Close(errno)
		return
	}
	if n < len(p) {
		c.rest = &rest{bytes: append([]byte(nil), p[n:]...)}
		c.loop.backlog += len(p) - n
		c.watch()
	}
}

// flush writes what the kernel did not take before. (Dial leaves an empty rest when it has nothing to send first.)
func (c *Conn) flush() {
	if c.rest == nil {
		return
	}
	n, errno := 0, syscall.Errno(0)
	if len(c.rest.bytes) > 0 {
		n, errno = send(int(c.fd), c.rest.bytes)
	}
	if errno == unix.EAGAIN {
		return
	}
	if errno != 0 {
		c.Close(errno)
		return
	}
	c.loop.backlog -= n
	r := c.rest
	r.bytes, r.gone = r.bytes[n:], r.gone+n
	switch {
	case len(r.bytes) == 0:
		c.rest = nil
		c.taken()
		c.watch()
	case r.gone > len(r.bytes): // give back their memory, while copying costs no more than they did
		r.bytes, r.gone = bytes.Clone(r.bytes), 0
	}
}

// watch has the kernel tell of what the connection waits for now.
func (c *Conn) watch() {
	events := uint16(input)
	switch {
	case c.pause == untilResume:
		events = unix.EPOLLRDHUP
	case c.rest != nil && (c.pause == untilTaken || c.state == finishing):
		events = 0
	}
	if c.rest != nil {
		events |= unix.EPOLLOUT
	}
	if c.events != events {
		c.events = events
		c.arm()
	}
}

// input is what reading waits for. The end of the input is news of its own, since it may come with the last bytes.
const input = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI

// arm tells the kernel what the connection is watched for, and has it look whether that is so already. From then on it
// tells only of what is new (EPOLLET): otherwise it would look at each socket once more after it was served, which is a
// twentieth of the cost of a message.
func (c *Conn) arm() {
	if err := control(c.set(), unix.EPOLL_CTL_MOD, int(c.fd), unix.EPOLLET|uint32(c.events), c.slot); err != nil {
		c.Close(err)
	}
}

// Prefer has the connection's events pass those of the others, however many wait, or no longer: for the few that may not
// wait for their turn in a crowd.
func (c *Conn) Prefer(yes bool) {
	if c.preferred == yes || c.state == closed {
		return
	}
	l := c.loop
	err := control(c.set(), unix.EPOLL_CTL_DEL, int(c.fd), 0, 0)
	if c.preferred = yes; yes {
		l.preferred++
	} else {
		l.preferred--
	}
	if err = cmp.Or(err, control(c.set(), unix.EPOLL_CTL_ADD, int(c.fd), unix.EPOLLET|uint32(c.events), c.slot)); err != nil {
		c.Close(err)
	}
}

// Preferred tells whether the connection's events pass those of the others.
func (c *Conn) Preferred() bool { return c.preferred }

// set returns the epoll set that watches the connection.
func (c *Conn) set() int {
	if c.preferred {
		return c.loop.first
	}
	return c.loop.set
}

// SetDeadline has Expired called once d has passed, to the grain of the loop's tick and never early; zero clears it.
// After Finish, which has a deadline of its own, and Close it can't be set.
func (c *Conn) SetDeadline(d time.Duration) {
	switch {
	case c.state != open:
	case d > 0:
		c.expireAt(c.loop.after(d))
	default:
		c.clearDeadline()
	}
}

func (c *Conn) expireAt(tick uint32) {
	l := c.loop
	c.clearDeadline()
	l.due[c.slot] = tick
	l.deadlines++
	l.startTicks()
}

func (c *Conn) clearDeadline() {
	if l := c.loop; l.due[c.slot] != 0 {
		l.due[c.slot] = 0
		l.deadlines--
	}
}

// Close ends the connection at once: output not yet taken by the kernel is lost. Only the first call counts.
func (c *Conn) Close(err error) {
	if c.state == closed {
		return
	}
	if c.rest != nil {
		c.loop.backlog -= len(c.rest.bytes)
	}
	c.state, c.rest = closed, nil
	c.loop.closing = append(c.loop.closing, ending{c, err})
}

// Detach takes the connection out of the loop and returns its descriptor, still open and non-blocking, to the caller.
// No event follows, not even Closed. Nothing may have been written that the kernel has not taken.
func (c *Conn) Detach() (fd int, err error) {
	if err := control(c.set(), unix.EPOLL_CTL_DEL, int(c.fd), 0, 0); err != nil {
		c.Close(err)
		return -1, err
	}
	c.state, c.detached = closed, true
	c.loop.closing = append(c.loop.closing, ending{c, nil})
	return int(c.fd), nil
}

// Peer returns the address of the other side; the zero AddrPort when it has hung up.
func (c *Conn) Peer() netip.AddrPort { return peerOf(int(c.fd)) }
