package websocket

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Error is a fault of the peer that ends the connection. Code is what the close frame is to say.
type Error struct {
	Code   ws.StatusCode
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("websocket: %s (close code %d)", e.Reason, e.Code) }

// Message is a whole text or binary message, or a control frame.
type Message struct {
	Op      ws.OpCode // OpText, OpBinary, OpPing, OpPong, OpClose
	Payload []byte    // unmasked; of OpClose the reason. Valid until the next call of Next
	Code    ws.StatusCode
}

// Decoder turns the bytes a peer sends, in whatever portions they come, into messages. It keeps bytes only while a
// frame or a fragmented message is incomplete; between messages it is as good as empty, so a million idle connections
// can have one each.
type Decoder struct {
	part *part
}

// part is the beginning of something that is not complete.
type part struct {
	frame   []byte    // header and payload so far of a frame
	message []byte    // payload of the fragments so far of a message
	op      ws.OpCode // of that message; 0 (a continuation) when there is none
}

// Side tells which end of a connection decodes.
type Side = ws.State

const (
	Server = ws.StateServerSide // masks are required
	Client = ws.StateClientSide // masks are forbidden
)

// Next takes the next message out of p and returns what follows it. A message with Op 0 says that p was used up first:
// call again with what arrives next. p is unmasked in place, and a message that lies whole within it is not copied.
// Messages longer than limit bytes are refused, by their declared length, before they are kept. After an error the
// decoder must not be used again.
func (d *Decoder) Next(p []byte, side Side, limit int) (m Message, rest []byte, err error) {
	if d.part == nil && side == Server {
		if m, rest, ok := short(p, limit); ok {
			return m, rest, nil
		}
	}
	for {
		buf := p
		if d.part != nil && len(d.part.frame) > 0 {
			if p, err = d.fill(p, side, limit); err != nil {
				return Message{}, nil, err
			}
			buf = d.part.frame
		}
		h, size, err := d.header(buf, side, limit)
		if err != nil {
			return Message{}, nil, err
		}
		if size == 0 || len(buf) < size+int(h.Length) {
			d.keep(p)
			return Message{}, nil, nil
		}
		payload := buf[size : size+int(h.Length)]
		if d.part != nil && len(d.part.frame) > 0 {
			d.part.frame = d.part.frame[:0] // payload still lies there until the next call
		} else {
			p = p[size+int(h.Length):]
		}
		if h.Masked {
			ws.Cipher(payload, h.Mask, 0)
		}
		m, err := d.accept(h, payload)
		if err != nil || m.Op != 0 {
			return m, p, err
		}
	}
}

// short is Next for what nearly every frame of a client is: a text of up to 125 bytes, in one frame that lies whole in p.
// What else it is, Next will find out.
func short(p []byte, limit int) (m Message, rest []byte, ok bool) {
	const head = 2 + 4 // and mask
	if len(p) < head || p[0] != finBit|byte(ws.OpText) || p[1] < maskBit || p[1] > maskBit+125 {
		return m, nil, false
	}
	end := head + int(p[1]-maskBit)
	if len(p) < end || end-head > limit {
		return m, nil, false
	}
	payload := p[head:end:end]
	ws.Cipher(payload, [4]byte(p[2:head]), 0)
	if !utf8.Valid(payload) {
		ws.Cipher(payload, [4]byte(p[2:head]), 0)
		return m, nil, false
	}
	return Message{Op: ws.OpText, Payload: payload}, p[end:], true
}

// fill moves bytes from p to the incomplete frame, no more than complete it.
func (d *Decoder) fill(p []byte, side Side, limit int) (rest []byte, err error) {
	for len(p) > 0 {
		frame := d.part.frame
		h, size, err := d.header(frame, side, limit)
		if err != nil {
			return nil, err
		}
		missing := 1 // of the header, byte by byte: it is 14 at most
		if size > 0 {
			missing = size + int(h.Length) - len(frame)
		}
		if missing == 0 {
			break
		}
		n := min(missing, len(p))
		d.part.frame = append(frame, p[:n]...)
		p = p[n:]
	}
	return p, nil
}

// keep holds on to the beginning of a frame. Without one, it lets go of what a complete frame has left behind.
func (d *Decoder) keep(p []byte) {
	switch {
	case d.part == nil && len(p) > 0:
		d.part = &part{frame: append([]byte(nil), p...)}
	case d.part != nil && len(p) > 0:
		d.part.frame = append(d.part.frame, p...)
	case d.part != nil && len(d.part.frame) == 0 && d.part.op == 0:
		d.part = nil
	case d.part != nil && len(d.part.frame) == 0:
		d.part.frame = nil
	}
}

// header parses and checks the frame header at the start of p (RFC 6455 section 5.2) and returns its size, 0 while it
// is incomplete. What is already wrong in an incomplete header is an error at once.
func (d *Decoder) header(p []byte, side Side, limit int) (h ws.Header, size int, err error) {
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
		if h.Length = int64(binary.BigEndian.Uint64(p[2:])); h.Length >= 0 && h.Length < 1<<16 {
			return h, 0, protocolError("the payload length is not in its shortest form")
		}
	}
	room := int64(limit)
	if d.part != nil && h.OpCode == ws.OpContinuation {
		room -= int64(len(d.part.message)) // a sum with h.Length could overflow
	}
	if h.Length < 0 || h.Length > room && !h.OpCode.IsControl() {
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

// accept makes a message of a frame, or keeps the frame as a fragment of one.
func (d *Decoder) accept(h ws.Header, payload []byte) (Message, error) {
	op := h.OpCode
	switch {
	case op == ws.OpClose:
		return closing(payload)
	case op.IsControl():
		return Message{Op: op, Payload: payload}, nil
	case !h.Fin || op == ws.OpContinuation:
		if d.part == nil {
			d.part = &part{}
		}
		if op != ws.OpContinuation {
			d.part.op = op
		}
		d.part.message = append(d.part.message, payload...)
		if !h.Fin {
			return Message{}, nil
		}
		op, payload = d.part.op, d.part.message
		d.part.op, d.part.message = 0, nil
	}
	if op == ws.OpText && !utf8.Valid(payload) {
		return Message{}, &Error{ws.StatusInvalidFramePayloadData, "the text is not valid UTF-8"}
	}
	return Message{Op: op, Payload: payload}, nil
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
		return m, protocolError("the close reason is not valid UTF-8")
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
