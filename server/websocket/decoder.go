package websocket

import (
	"encoding/binary"
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Error is a fault of the peer that ends the connection. Code is what the close frame is to say.
type Error struct {
	Code   ws.StatusCode
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("websocket: %s (close code %d)", e.Reason, e.Code) }

// Message is a whole text or binary message, or a control frame. (In this order the fields fit into registers.)
type Message struct {
	Payload []byte    // unmasked; of OpClose the reason. Valid until the next call of Next
	Op      ws.OpCode // OpText, OpBinary, OpPing, OpPong, OpClose
	Code    ws.StatusCode
}

// Decoder turns the bytes a peer sends, in whatever portions they come, into messages. It keeps bytes only while a
// frame or a fragmented message is incomplete; between messages it is as good as empty, so a million idle connections
// can have one each.
type Decoder struct {
	part *part
}

// part is the beginning of something that is not complete. Memory grows with what has come in, never by what a header
// promises.
type part struct {
	head    [ws.MaxHeaderSize]byte // of a frame, as far as it is known
	headLen int

	inPayload bool
	frame     ws.Header
	missing   int64 // of the frame's payload

	op      ws.OpCode // of the data message under way; 0 (a continuation) when there is none
	text    int       // so many bytes of it are whole characters
	message []byte    // its payload so far

	control []byte // the payload so far of a control frame
}

// Parts are used again: a peer whose frames straddle reads makes no garbage. One that has held a large message is not.
var parts = sync.Pool{New: func() any { return new(part) }}

const maxReuse = 64 << 10

// Side tells which end of a connection decodes.
type Side = ws.State

const (
	Server = ws.StateServerSide // masks are required
	Client = ws.StateClientSide // masks are forbidden
)

// Next takes the next message out of p and returns how many bytes of p it has used up. A message with Op 0 says that
// this was all of p: call again with what arrives next. p is unmasked in place, and a message of one frame that lies
// whole within it is not copied. Messages longer than limit bytes are refused, by their declared length, before they
// are kept; text that is not UTF-8 at the first byte that shows it. After an error the decoder must not be used again.
func (d *Decoder) Next(p []byte, side Side, limit int) (m Message, n int, err error) {
	if d.part == nil && side == Server {
		if m, n := short(p, limit); n > 0 {
			return m, n, nil
		}
	}
	return d.next(p, side, limit)
}

// short is Next for what nearly every frame of a client is: a text of up to 125 bytes, in one frame that lies whole in p.
// What else it is, next will find out.
func short(p []byte, limit int) (m Message, n int) {
	const head = 2 + 4 // and mask
	if len(p) < head || p[0] != finBit|byte(ws.OpText) || p[1] < maskBit || p[1] > maskBit+125 {
		return m, 0
	}
	n = head + int(p[1]-maskBit)
	if len(p) < n || n-head > limit {
		return m, 0
	}
	payload, mask := p[head:n:n], [4]byte(p[2:head])
	if !cipher(payload, mask, 0) && !utf8.Valid(payload) {
		cipher(payload, mask, 0)
		return m, 0
	}
	return Message{Op: ws.OpText, Payload: payload}, n
}

func (d *Decoder) next(p []byte, side Side, limit int) (m Message, n int, err error) {
	rest := p
	for {
		if d.part == nil || !d.part.inPayload {
			h, size, err := d.header(rest, side, limit)
			if err != nil {
				return Message{}, 0, err
			}
			if size < 0 {
				d.release()
				return Message{}, len(p), nil
			}
			rest = rest[size:]
			if wholeIn(rest, h) {
				payload := rest[:h.Length:h.Length]
				rest = rest[h.Length:]
				ascii := h.Masked && cipher(payload, h.Mask, 0)
				if h.OpCode == ws.OpText && !ascii && !utf8.Valid(payload) {
					return Message{}, 0, notUTF8()
				}
				m, err = deliver(h.OpCode, payload)
				return m, len(p) - len(rest), err
			}
			d.begin(h)
		}
		t := d.part
		chunk := rest[:min(t.missing, int64(len(rest)))]
		rest = rest[len(chunk):]
		if err := t.add(chunk); err != nil {
			return Message{}, 0, err
		}
		if t.missing > 0 {
			return Message{}, len(p), nil
		}
		t.inPayload = false
		switch {
		case t.frame.OpCode.IsControl():
			m, err = deliver(t.frame.OpCode, t.control)
		case !t.frame.Fin:
			continue
		case t.op == ws.OpText && t.text < len(t.message):
			return Message{}, 0, notUTF8()
		default:
			m, err = deliver(t.op, t.message)
			t.op = 0
		}
		return m, len(p) - len(rest), err
	}
}

// header parses and checks the frame header that rest goes on with (RFC 6455 section 5.2), and returns how many bytes
// of rest belong to it; -1 when it is not complete and all that there is of it is kept. What is already wrong in an
// incomplete header is an error at once.
func (d *Decoder) header(rest []byte, side Side, limit int) (h ws.Header, n int, err error) {
	if d.part == nil || d.part.headLen == 0 {
		h, n, err := d.parse(rest, side, limit)
		if err == nil && n == 0 {
			if n = -1; len(rest) > 0 {
				t := d.hold()
				t.headLen = copy(t.head[:], rest)
			}
		}
		return h, n, err
	}
	t := d.part
	had := t.headLen
	t.headLen += copy(t.head[had:], rest)
	h, n, err = d.parse(t.head[:t.headLen], side, limit)
	if err != nil || n == 0 {
		return h, -1, err
	}
	t.headLen = 0
	return h, n - had, nil
}

// parse reads the header at the start of p and returns its size, 0 while it is incomplete.
func (d *Decoder) parse(p []byte, side Side, limit int) (h ws.Header, size int, err error) {
	if len(p) < 2 {
		return h, 0, nil
	}
	h.Fin = p[0]&finBit != 0
	h.Rsv = p[0] >> 4 & 7
	h.OpCode = ws.OpCode(p[0] & 0x0f)
	h.Masked = p[1]&maskBit != 0
	h.Length = int64(p[1] & 0x7f)

	state := side
	if d.part != nil && d.part.op != 0 {
		state = state.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return h, 0, protocolError(err.Error())
	}
	size = 2
	switch h.Length {
	case 126:
		if size += 2; len(p) < size {
			return h, 0, nil
		}
		if h.Length = int64(binary.BigEndian.Uint16(p[2:])); h.Length < 126 {
			return h, 0, protocolError("the payload length is not in its shortest form")
		}
	case 127:
		if size += 8; len(p) < size {
			return h, 0, nil
		}
		switch h.Length = int64(binary.BigEndian.Uint64(p[2:])); {
		case h.Length < 0:
			return h, 0, protocolError("the most significant bit of the payload length is set")
		case h.Length < 1<<16:
			return h, 0, protocolError("the payload length is not in its shortest form")
		}
	}
	room := int64(limit)
	if d.part != nil && h.OpCode == ws.OpContinuation {
		room -= int64(len(d.part.message)) // a sum with h.Length could overflow
	}
	if h.Length > room && !h.OpCode.IsControl() {
		return h, 0, &Error{ws.StatusMessageTooBig, fmt.Sprintf("the message is longer than %d bytes", limit)}
	}
	if h.Masked {
		if size += 4; len(p) < size {
			return h, 0, nil
		}
		copy(h.Mask[:], p[size-4:])
	}
	return h, size, nil
}

// wholeIn tells whether the frame is a message by itself and its payload complete in p.
func wholeIn(p []byte, h ws.Header) bool {
	return h.Length <= int64(len(p)) && h.Fin && h.OpCode != ws.OpContinuation
}

// begin makes room for a frame's payload.
func (d *Decoder) begin(h ws.Header) {
	t := d.hold()
	t.inPayload, t.frame, t.missing = true, h, h.Length
	switch {
	case h.OpCode.IsControl():
		t.control = t.control[:0]
	case h.OpCode != ws.OpContinuation:
		t.op, t.text, t.message = h.OpCode, 0, t.message[:0]
	}
}

// add takes a chunk of the payload of the frame under way.
func (t *part) add(chunk []byte) error {
	if t.frame.Masked {
		cipher(chunk, t.frame.Mask, int(t.frame.Length-t.missing)&3)
	}
	t.missing -= int64(len(chunk))
	if t.frame.OpCode.IsControl() {
		t.control = append(t.control, chunk...)
		return nil
	}
	t.message = append(t.message, chunk...)
	if t.op == ws.OpText {
		n := characters(t.message[t.text:])
		if n < 0 {
			return notUTF8()
		}
		t.text += n
	}
	return nil
}

// characters returns how many bytes of p are whole characters when what follows them, if anything, can still become
// one; -1 when p is not UTF-8, whatever may follow.
func characters(p []byte) int {
	n := len(p)
	for i := n - 1; i >= max(0, n-(utf8.UTFMax-1)); i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) { // so it is the valid beginning of one
				n = i
			}
			break
		}
	}
	if !utf8.Valid(p[:n]) {
		return -1
	}
	return n
}

// deliver makes a message of a whole payload.
func deliver(op ws.OpCode, payload []byte) (Message, error) {
	if op == ws.OpClose {
		return closing(payload)
	}
	return Message{Op: op, Payload: payload}, nil
}

// hold returns the part, a new one if there is none.
func (d *Decoder) hold() *part {
	if d.part == nil {
		d.part = parts.Get().(*part)
	}
	return d.part
}

// release lets go of the part if nothing is under way.
func (d *Decoder) release() {
	t := d.part
	if t == nil || t.headLen > 0 || t.op != 0 {
		return
	}
	t.message, t.control = t.message[:0], t.control[:0]
	if d.part = nil; cap(t.message) <= maxReuse {
		parts.Put(t)
	}
}

// closing reads the body of a close frame (RFC 6455 sections 5.5.1 and 7.4).
func closing(payload []byte) (Message, error) {
	m := Message{Op: ws.OpClose}
	switch len(payload) {
	case 0:
		return m, nil
	case 1:
		return m, protocolError("the close code is cut short")
	}
	m.Code = ws.StatusCode(binary.BigEndian.Uint16(payload))
	m.Payload = payload[2:]
	switch {
	case !mayClose(m.Code):
		return m, protocolError(fmt.Sprintf("the close code %d must not be sent", m.Code))
	case !utf8.Valid(m.Payload):
		return m, &Error{ws.StatusInvalidFramePayloadData, "the close reason is not valid UTF-8"}
	}
	return m, nil
}

// mayClose tells whether a close frame may have the code: those of RFC 6455 section 7.4.1 and 1012 to 1014, which IANA
// has registered since and ws.CheckCloseFrameData refuses, and those of libraries and applications (section 7.4.2).
func mayClose(code ws.StatusCode) bool {
	switch code {
	case ws.StatusNoMeaningYet, ws.StatusNoStatusRcvd, ws.StatusAbnormalClosure:
		return false
	}
	return 1000 <= code && code <= 1014 || 3000 <= code && code <= 4999
}

func protocolError(reason string) *Error { return &Error{ws.StatusProtocolError, reason} }

func notUTF8() *Error {
	return &Error{ws.StatusInvalidFramePayloadData, "the text is not valid UTF-8"}
}
