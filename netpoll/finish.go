package netpoll

import (
	"time"

	"golang.org/x/sys/unix"
)

// How long Finish waits for the peer.
const (
	lingerTime = 2 * time.Second  // to take some more of the last bytes, or to close behind them
	finishTime = 30 * time.Second // to take all of them
)

// Finish ends the connection once the peer has taken all that was written: it shuts down the sending side and waits,
// for a bounded time, for the peer to close. (Closing at once while input is unread makes TCP send a reset, which can
// destroy the last reply on its way; RFC 9112 section 9.6.) Data and Drained are not called any more.
func (c *Conn) Finish() {
	if c.state != open {
		return
	}
	c.SetDeadline(lingerTime)
	c.state, c.pause = finishing, reading
	if c.loop.corked != c {
		c.conclude()
	}
}

// conclude takes Finish one step on: send the rest without reading, then shut down, then read to the end.
func (c *Conn) conclude() {
	if c.layered {
		c.endLayer()
	}
	if c.state != closed {
		c.watch()
	}
	if c.state == closed {
		return
	}
	if c.rest != nil {
		if c.rest.until == 0 {
			c.rest.until, c.rest.owed = c.loop.after(finishTime), c.owed()
		}
		return
	}
	c.expireAt(c.loop.after(lingerTime))
	c.state = shut
	if err := unix.Shutdown(int(c.fd), unix.SHUT_WR); err != nil {
		c.Close(nil) // the peer has hung up already
	}
}

// linger gives a peer more time that has taken some of the last bytes since lingerTime: it is slow, but there.
func (c *Conn) linger() bool {
	if c.rest == nil || c.loop.tick() >= c.rest.until {
		return false
	}
	owed := c.owed()
	if owed >= c.rest.owed {
		return false
	}
	c.rest.owed = owed
	c.expireAt(min(c.loop.after(lingerTime), c.rest.until))
	return true
}

// Abandon closes those that Finish is ending while the last bytes have yet to be taken: for when memory is short. It
// belongs to the loop's goroutine.
func (l *Loop) Abandon() {
	for _, c := range l.conns {
		if c != nil && c.state == finishing && c.rest != nil {
			c.Close(nil)
		}
	}
}

// owed returns how much the peer has yet to take from us and from the kernel. (When the kernel takes more from us is
// not enough to go by: it does so by the third of its buffer.)
func (c *Conn) owed() int {
	n, _ := unix.IoctlGetInt(int(c.fd), unix.SIOCOUTQ) // tcp(7)
	return n + c.Backlog()
}
