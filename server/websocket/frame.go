package websocket

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// AppendFrame appends an unmasked frame, as a server sends it (RFC 6455 section 5.2), to dst.
func AppendFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	return append(AppendHeader(dst, op, len(payload)), payload...)
}

// AppendMasked appends a frame masked as a client must (RFC 6455 section 5.3) to dst.
func AppendMasked(dst []byte, op ws.OpCode, payload []byte, mask [4]byte) []byte {
	dst = appendHeader(dst, op, len(payload), maskBit)
	dst = append(dst, mask[:]...)
	from := len(dst)
	dst = append(dst, payload...)
	cipher(dst[from:], mask, 0)
	return dst
}

// AppendClose appends a server's close frame (RFC 6455 section 5.5.1) to dst, with as much of the reason as fits. The
// empty code stands for no code.
func AppendClose(dst []byte, code ws.StatusCode, reason string) []byte {
	if code.Empty() {
		return AppendFrame(dst, ws.OpClose, nil)
	}
	var body [ws.MaxControlFramePayloadSize]byte
	binary.BigEndian.PutUint16(body[:], uint16(code))
	n := copy(body[2:], reason)
	for n > 0 && n < len(reason) && !utf8.RuneStart(reason[n]) {
		n-- // what is cut off is whole characters
	}
	return AppendFrame(dst, ws.OpClose, body[:2+n])
}

const (
	finBit  = 0x80
	maskBit = 0x80
)

// MaxHeader is the largest header that AppendHeader appends, in bytes.
const MaxHeader = 10

// AppendHeader appends the header of a server's frame, whose payload of that length the caller sends behind it.
func AppendHeader(dst []byte, op ws.OpCode, length int) []byte {
	return appendHeader(dst, op, length, 0)
}

func appendHeader(dst []byte, op ws.OpCode, length int, mask byte) []byte {
	dst = append(dst, finBit|byte(op))
	switch {
	case length < 126:
		return append(dst, mask|byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, mask|126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(dst, mask|127), uint64(length))
	}
}
