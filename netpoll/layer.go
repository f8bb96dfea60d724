package netpoll

// Layer is a handler that stands between the wire and another handler, as TLS does. Its Data gets what came over the
// wire, and calls the other's with what that says, unless the connection has Ended meanwhile; the other events it passes
// on. What is written to the connection goes over the wire as Encode has it.
//
// A layer is the connection's handler: so a connection without one costs, and pays, nothing for it.
type Layer interface {
	Handler
	// SetHandler makes h the handler behind the layer.
	SetHandler(h Handler)
	// Encode appends to out what goes over the wire for p. An error closes the connection.
	Encode(out, p []byte) ([]byte, error)
	// End appends to out what says that nothing follows.
	End(out []byte) []byte
}

// SetLayer makes l the connection's handler from now on; SetHandler then sets the one behind it.
func (c *Conn) SetLayer(l Layer) { c.handler, c.layered = l, true }

// Layer returns the connection's layer; nil if it has none, or if Finish has ended it.
func (c *Conn) Layer() Layer {
	if !c.layered {
		return nil
	}
	return c.handler.(Layer)
}

// WriteRaw sends p past the layer, at once: for what the layer has to say on its own account. What has been written in
// this event is not encoded before the event ends, and follows.
func (c *Conn) WriteRaw(p []byte) {
	if c.state == open && len(p) > 0 {
		c.transmit(p)
	}
}

// Flush sends what has been written in this event without waiting for its end: for who closes the connection.
func (c *Conn) Flush() {
	if l := c.loop; l.corked == c && c.state == open && len(l.out) > 0 {
		c.send(l.out)
		l.out = l.out[:0]
	}
}

// Ended reports whether the connection was closed, finished or detached: then Data does not come any more.
func (c *Conn) Ended() bool { return c.state != open }

// Feed is an event of its own in which the handler gets p as if it had just been read. It must not be called inside
// another event.
func (c *Conn) Feed(p []byte) {
	if c.state == open {
		c.loop.corked = c
		c.handler.Data(c, p)
		c.loop.uncork()
	}
}

// encode sends p through the layer, in portions, so that what the loop keeps for it stays small. The layer gets a copy:
// what is passed through an interface gets to the heap, and most who write have p on their stack.
func (c *Conn) encode(p []byte) {
	l, layer := c.loop, c.handler.(Layer)
	for len(p) > 0 {
		n := min(len(p), corkSize)
		l.clear = append(l.clear[:0], p[:n]...)
		p = p[n:]
		wire, err := layer.Encode(l.encoded[:0], l.clear)
		if err != nil {
			c.Close(err)
		}
		if c.state == closed {
			return
		}
		l.encoded = wire
		c.transmit(wire)
	}
}

// endLayer sends the layer's last word.
func (c *Conn) endLayer() {
	layer := c.handler.(Layer)
	c.layered = false
	c.transmit(layer.End(c.loop.encoded[:0]))
}
