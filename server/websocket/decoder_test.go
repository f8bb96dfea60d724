package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// First bytes of frames (RFC 6455 section 5.2).
const (
	fin     = 0x80
	cont    = 0x0
	text    = 0x1
	bin     = 0x2
	closeOp = 0x8
	ping    = 0x9
	pong    = 0xa
)

var mask = [4]byte{0x37, 0xfa, 0x21, 0x3d} // of the examples in RFC 6455 section 5.7

// frame is a masked frame with any first byte.
func frame(first byte, payload string) string {
	f := AppendMasked(nil, 0, []byte(payload), mask)
	f[0] = first
	return string(f)
}

// closeFrame is a masked close frame.
func closeFrame(code uint16, reason string) string {
	return frame(fin|closeOp, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// long64 is a masked frame's header up to a 64-bit length, without the mask.
func long64(first byte, length uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{first, maskBit | 127}, length))
}

func message(op ws.OpCode, payload string) Message { return Message{Op: op, Payload: []byte(payload)} }

func closed(code ws.StatusCode, reason string) []Message {
	return []Message{{Op: ws.OpClose, Payload: []byte(reason), Code: code}}
}

func texts(payloads ...string) (all []Message) {
	for _, p := range payloads {
		all = append(all, message(ws.OpText, p))
	}
	return all
}

// decodeCase is an input and what a decoder must make of it.
type decodeCase struct {
	name    string
	in      string
	want    []Message
	code    ws.StatusCode // of the error that follows want, if not 0
	limit   int           // 1 MiB when 0
	side    Side          // Server when 0
	pending bool          // the input ends within a frame or a message
}

func (c decodeCase) settings() (Side, int) {
	side, limit := c.side, c.limit
	if side == 0 {
		side = Server
	}
	if limit == 0 {
		limit = 1 << 20
	}
	return side, limit
}

const (
	protocol = ws.StatusProtocolError
	invalid  = ws.StatusInvalidFramePayloadData
	tooBig   = ws.StatusMessageTooBig
)

func decodeCases() []decodeCase {
	cases := []decodeCase{
		{name: "nothing"},

		// RFC 6455 section 5.7, the examples, byte by byte.
		{name: "5.7 unmasked text", side: Client, in: "\x81\x05Hello", want: texts("Hello")},
		{name: "5.7 masked text", in: "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", want: texts("Hello")},
		{name: "5.7 fragmented unmasked text", side: Client, in: "\x01\x03Hel\x80\x02lo", want: texts("Hello")},
		{name: "5.7 unmasked ping", side: Client, in: "\x89\x05Hello", want: []Message{message(ws.OpPing, "Hello")}},
		{name: "5.7 masked pong", in: "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", want: []Message{message(ws.OpPong, "Hello")}},
		{name: "5.7 256 bytes", side: Client, in: "\x82\x7e\x01\x00" + strings.Repeat("x", 256),
			want: []Message{message(ws.OpBinary, strings.Repeat("x", 256))}},
		{name: "5.7 64 KiB", side: Client, in: "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + strings.Repeat("x", 1<<16),
			want: []Message{message(ws.OpBinary, strings.Repeat("x", 1<<16))}},

		// Section 5.6: data frames.
		{name: "empty text", in: frame(fin|text, ""), want: texts("")},
		{name: "empty binary", in: frame(fin|bin, ""), want: []Message{message(ws.OpBinary, "")}},
		{name: "binary need not be UTF-8", in: frame(fin|bin, "\xff\xfe"), want: []Message{message(ws.OpBinary, "\xff\xfe")}},
		{name: "three in a row", in: frame(fin|text, "a") + frame(fin|text, "") + frame(fin|text, "c"), want: texts("a", "", "c")},
		{name: "to a client, of any length", side: Client, in: string(AppendFrame(nil, ws.OpText, bytes.Repeat([]byte("x"), 200))),
			want: texts(strings.Repeat("x", 200))},

		// Incomplete input is no error.
		{name: "one byte", in: "\x81", pending: true},
		{name: "no mask yet", in: "\x81\x85", pending: true},
		{name: "no 16-bit length yet", in: "\x81\xfe\x01", pending: true},
		{name: "no 64-bit length yet", in: "\x81\xff\x00\x00\x00\x00\x00\x01\x00", pending: true},
		{name: "part of the payload", in: frame(fin|text, "Hello")[:9], pending: true},
		{name: "a message and a byte", in: frame(fin|text, "Hello") + "\x81", want: texts("Hello"), pending: true},

		// Section 5.2: lengths.
		{name: "126 for less", in: "\x82\xfe\x00\x7d", code: protocol},
		{name: "126 for 0", in: "\x82\xfe\x00\x00", code: protocol},
		{name: "127 for less", in: long64(fin|bin, 1<<16-1), code: protocol},
		{name: "127 for 125", in: long64(fin|bin, 125), code: protocol},
		{name: "most significant bit", in: long64(fin|bin, 1<<63), code: protocol},
		{name: "all bits", in: long64(fin|bin, 1<<64-1), code: protocol},
		{name: "largest length", in: long64(fin|bin, 1<<63-1), code: tooBig},
		{name: "most significant bit in a continuation", in: frame(text, "a") + long64(fin|cont, 1<<63), code: protocol},
		{name: "largest length in a continuation", in: frame(text, "a") + long64(fin|cont, 1<<63-1) + "mask", code: tooBig},

		// The limit, which section 10.4 asks for, holds by the header alone.
		{name: "exactly the limit", limit: 200, in: frame(fin|bin, strings.Repeat("x", 200)),
			want: []Message{message(ws.OpBinary, strings.Repeat("x", 200))}},
		{name: "limit+1", limit: 200, in: "\x82\xfe\x00\xc9", code: tooBig},
		{name: "limit+1 of a short frame", limit: 4, in: "\x81\x85", code: tooBig},
		{name: "limit+1 of a long frame", limit: 1 << 16, in: long64(fin|bin, 1<<16+1), code: tooBig},
		{name: "limit+1 behind a message", limit: 4, in: frame(fin|text, "Hell") + "\x81\x85", want: texts("Hell"), code: tooBig},
		{name: "limit+1 in a first fragment", limit: 4, in: "\x01\x85", code: tooBig},
		{name: "fragments of exactly the limit", limit: 4, in: frame(text, "He") + frame(cont, "l") + frame(fin|cont, "l"), want: texts("Hell")},
		{name: "fragments of limit+1", limit: 4, in: frame(text, "He") + frame(cont, "ll") + "\x80\x81", code: tooBig},
		{name: "an empty fragment at the limit", limit: 4, in: frame(text, "Hell") + frame(fin|cont, ""), want: texts("Hell")},
		{name: "control frames do not count", limit: 4, in: frame(text, "He") + frame(fin|ping, "Hello") + frame(fin|cont, "ll"),
			want: []Message{message(ws.OpPing, "Hello"), message(ws.OpText, "Hell")}},
		{name: "the limit starts anew with each message", limit: 4, in: strings.Repeat(frame(text, "He")+frame(fin|cont, "ll"), 2),
			want: texts("Hell", "Hell")},

		// Section 5.1: masks.
		{name: "unmasked to a server", in: "\x81\x05", code: protocol},
		{name: "unmasked ping to a server", in: "\x89\x00", code: protocol},
		{name: "masked to a client", side: Client, in: "\x81\x85", code: protocol},

		// Section 5.4: fragments.
		{name: "fragmented text", in: frame(text, "H") + frame(cont, "ell") + frame(cont, "") + frame(fin|cont, "o"), want: texts("Hello")},
		{name: "fragmented binary", in: frame(bin, "\xff") + frame(fin|cont, "\x00"), want: []Message{message(ws.OpBinary, "\xff\x00")}},
		{name: "empty fragments", in: frame(text, "") + frame(cont, "") + frame(fin|cont, ""), want: texts("")},
		{name: "control frames between fragments",
			in: frame(text, "He") + frame(fin|ping, "1") + frame(cont, "l") + frame(fin|pong, "") + frame(fin|ping, "2") + frame(fin|cont, "lo"),
			want: []Message{message(ws.OpPing, "1"), message(ws.OpPong, ""), message(ws.OpPing, "2"),
				message(ws.OpText, "Hello")}},
		{name: "close between fragments", in: frame(text, "He") + closeFrame(1000, "bye"), want: closed(1000, "bye"), pending: true},
		{name: "fragments after fragments", in: frame(text, "a") + frame(fin|cont, "b") + frame(bin, "c") + frame(fin|cont, "d"),
			want: []Message{message(ws.OpText, "ab"), message(ws.OpBinary, "cd")}},
		{name: "a fragment alone", in: frame(text, "He"), pending: true},
		{name: "a fragment and a half", in: frame(text, "He") + frame(fin|cont, "llo")[:7], pending: true},
		{name: "continuation of nothing", in: "\x80\x80", code: protocol},
		{name: "unfinished continuation of nothing", in: "\x00\x80", code: protocol},
		{name: "continuation of a whole message", in: frame(fin|text, "a") + "\x80\x80", want: texts("a"), code: protocol},
		{name: "continuation of a finished message", in: frame(text, "a") + frame(fin|cont, "b") + "\x80\x80", want: texts("ab"), code: protocol},
		{name: "text within a fragmented message", in: frame(text, "a") + "\x81\x80", code: protocol},
		{name: "fragment of binary within a fragmented message", in: frame(text, "a") + "\x02\x80", code: protocol},

		// Section 5.5: control frames.
		{name: "ping of 125", in: frame(fin|ping, strings.Repeat("x", 125)), want: []Message{message(ws.OpPing, strings.Repeat("x", 125))}},
		{name: "ping of 126", in: "\x89\xfe", code: protocol},
		{name: "close of 64 KiB", in: "\x88\xff", code: protocol},
		{name: "fragmented ping", in: "\x09\x80", code: protocol},
		{name: "fragmented pong", in: "\x0a\x80", code: protocol},
		{name: "fragmented close", in: "\x08\x80", code: protocol},

		// Sections 5.6 and 8.1: text is UTF-8, as a whole message, not frame by frame.
		{name: "UTF-8", in: frame(fin|text, "κόσμε 🚗 \x00 \U0010ffff"), want: texts("κόσμε 🚗 \x00 \U0010ffff")},
		{name: "UTF-8 cut by fragments", in: frame(text, "\xf0") + frame(cont, "\x9f\x9a") + frame(fin|ping, "") + frame(fin|cont, "\x97"),
			want: []Message{message(ws.OpPing, ""), message(ws.OpText, "🚗")}},
		{name: "UTF-8 broken by fragments", in: frame(text, "\xf0\x9f") + frame(fin|cont, "\x9a"), code: invalid},
		{name: "UTF-8 broken in the first fragment", in: frame(text, "\xff") + frame(fin|cont, "a"), code: invalid},
		{name: "cut UTF-8", in: frame(fin|text, "\xe2\x82"), code: invalid},
		{name: "surrogate", in: frame(fin|text, "\xed\xa0\x80"), code: invalid},
		{name: "overlong UTF-8", in: frame(fin|text, "\xc0\xaf"), code: invalid},
		{name: "above the last code point", in: frame(fin|text, "\xf4\x90\x80\x80"), code: invalid},
		{name: "invalid UTF-8 behind a message", in: frame(fin|text, "a") + frame(fin|text, "\x80"), want: texts("a"), code: invalid},
		// It fails at the first byte that shows it, though the frame is not complete.
		{name: "invalid UTF-8 in an incomplete frame", in: frame(fin|text, "Hell\xffo")[:6+5], code: invalid},
		{name: "above the last code point in an incomplete frame", in: frame(fin|text, "\xf4\x90\x80\x80")[:6+2], code: invalid},
		{name: "valid beginning in an incomplete frame", in: frame(fin|text, "\xf4\x8f\xbf\xbf")[:6+3], pending: true},
		{name: "invalid UTF-8 in an incomplete continuation", in: frame(text, "\xe2\x82") + frame(fin|cont, "\x82\x82\x82")[:6+2], code: invalid},
		{name: "a frame promises what does not fit the fragment", in: frame(text, "\xe2\x82") + frame(cont, "a"), code: invalid},

		// Section 5.5.1: close.
		{name: "empty close", in: frame(fin|closeOp, ""), want: closed(0, "")},
		{name: "half a close code", in: frame(fin|closeOp, "\x03"), code: protocol},
		{name: "longest reason", in: closeFrame(1000, strings.Repeat("x", 123)), want: closed(1000, strings.Repeat("x", 123))},
		{name: "reason in UTF-8", in: closeFrame(1000, "bis später"), want: closed(1000, "bis später")},
		{name: "reason not in UTF-8", in: closeFrame(1000, "\xce\xba\xe1"), code: invalid},
	}
	for _, n := range []int{1, 124, 125, 126, 127, 128, 65535, 65536} { // section 5.2: the sizes of the length
		payload := strings.Repeat("x", n)
		cases = append(cases, decodeCase{name: fmt.Sprintf("text of %d", n), in: frame(fin|text, payload), want: texts(payload)})
	}
	for rsv := byte(1); rsv <= 7; rsv++ { // section 5.2: RSV bits without an extension
		for _, op := range []byte{text, ping} {
			cases = append(cases, decodeCase{name: fmt.Sprintf("RSV %d of opcode %d", rsv, op),
				in: string([]byte{fin | rsv<<4 | op, 0x80}), code: protocol})
		}
	}
	for _, op := range []byte{3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf} { // section 5.2: reserved opcodes
		cases = append(cases,
			decodeCase{name: fmt.Sprintf("opcode %d", op), in: string([]byte{fin | op, 0x80}), code: protocol},
			decodeCase{name: fmt.Sprintf("opcode %d in a message", op), in: frame(text, "a") + string([]byte{fin | op, 0x80}), code: protocol})
	}
	// Section 7.4 and IANA's registry, which has 1012 to 1014 too.
	for _, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		cases = append(cases, decodeCase{name: fmt.Sprintf("close code %d", code),
			in: closeFrame(code, ""), want: closed(ws.StatusCode(code), "")})
	}
	for _, code := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		cases = append(cases, decodeCase{name: fmt.Sprintf("close code %d", code), in: closeFrame(code, ""), code: protocol})
	}
	return cases
}

// decode gives a decoder portions, each until it is used up, and returns copies of the messages.
func decode(d *Decoder, side Side, limit int, portions ...[]byte) (all []Message, err error) {
	for _, p := range portions {
		for {
			m, n, err := d.Next(p, side, limit)
			if err != nil {
				return all, err
			}
			if m.Op == 0 {
				break
			}
			m.Payload = bytes.Clone(m.Payload)
			all = append(all, m)
			p = p[n:]
		}
	}
	return all, nil
}

func equal(a, b Message) bool {
	return a.Op == b.Op && a.Code == b.Code && bytes.Equal(a.Payload, b.Payload)
}

// outcome is a test's short account of what a decoder said.
func outcome(all []Message, err error) string {
	var s strings.Builder
	for _, m := range all {
		fmt.Fprintf(&s, "op %d, code %d, %d bytes %.40q; ", m.Op, m.Code, len(m.Payload), m.Payload)
	}
	fmt.Fprint(&s, err)
	return s.String()
}

func TestDecoder(t *testing.T) {
	for _, c := range decodeCases() {
		t.Run(c.name, func(t *testing.T) {
			side, limit := c.settings()
			var d Decoder
			all, err := decode(&d, side, limit, []byte(c.in))
			if !slices.EqualFunc(all, c.want, equal) {
				t.Errorf("got %s, want %s", outcome(all, err), outcome(c.want, nil))
			}
			var fault *Error
			if errors.As(err, &fault); c.code == 0 && err != nil || c.code != 0 && (fault == nil || fault.Code != c.code || fault.Reason == "") {
				t.Errorf("error %v, want code %d", err, c.code)
			}
			if err == nil && (d.part != nil) != c.pending {
				t.Errorf("the decoder keeps %+v", d.part)
			}
		})
	}
}

// TestDecoderPortions checks that no cutting of the input, valid or not, makes a difference.
func TestDecoderPortions(t *testing.T) {
	for _, c := range decodeCases() {
		t.Run(c.name, func(t *testing.T) {
			side, limit := c.settings()
			want, wantErr := decode(new(Decoder), side, limit, []byte(c.in))
			check := func(how string, portions [][]byte) {
				t.Helper()
				var d Decoder
				all, err := decode(&d, side, limit, portions...)
				if !slices.EqualFunc(all, want, equal) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
					t.Errorf("%s: got %s, want %s", how, outcome(all, err), outcome(want, wantErr))
				}
				if err == nil && (d.part != nil) != c.pending {
					t.Errorf("%s: the decoder keeps %+v", how, d.part)
				}
			}
			for _, size := range []int{1, 2, 3, 7} {
				check(fmt.Sprintf("portions of %d", size), slices.Collect(slices.Chunk([]byte(c.in), size)))
			}
			for at := range len(c.in) + 1 {
				if at > 300 && at < len(c.in)-300 && at%997 != 0 {
					continue // the middle of a long payload
				}
				check(fmt.Sprintf("split at %d", at), [][]byte{[]byte(c.in[:at]), []byte(c.in[at:])})
			}
		})
	}
}

// TestDecoderIdle checks that a decoder holds on to nothing once a message is complete, even while others follow.
func TestDecoderIdle(t *testing.T) {
	var d Decoder
	for _, in := range []string{
		frame(fin|text, strings.Repeat("x", 1000)),
		frame(text, "He") + frame(fin|ping, "") + frame(fin|cont, "llo"),
		frame(fin|ping, "Hello"),
	} {
		for _, size := range []int{1, 5, len(in)} {
			if _, err := decode(&d, Server, 1000, slices.Collect(slices.Chunk([]byte(in), size))...); err != nil || d.part != nil {
				t.Errorf("portions of %d: the decoder keeps %+v, error %v", size, d.part, err)
			}
		}
	}
}

// TestDecoderInPlace checks that a whole message is neither copied nor costs memory.
func TestDecoderInPlace(t *testing.T) {
	in := []byte(frame(fin|text, strings.Repeat("x", 1000)) + frame(fin|ping, "Hello"))
	p := make([]byte, len(in))
	var d Decoder
	if m, _, err := d.Next(p[:copy(p, in)], Server, 1000); err != nil || &m.Payload[0] != &p[8] {
		t.Errorf("the payload is not where it was read to, error %v", err)
	}
	if n := testing.AllocsPerRun(100, func() {
		for p := p[:copy(p, in)]; ; {
			m, n, err := d.Next(p, Server, 1000)
			if err != nil {
				t.Error(err)
			}
			if m.Op == 0 {
				return
			}
			p = p[n:]
		}
	}); n != 0 {
		t.Errorf("%v allocations for whole frames", n)
	}
}

// TestDecoderReuse checks that frames that straddle reads make no garbage in the long run.
func TestDecoderReuse(t *testing.T) {
	in := []byte(frame(text, "He") + frame(fin|ping, "Hello") + frame(fin|cont, strings.Repeat("x", 1000)))
	p := make([]byte, len(in))
	var d Decoder
	if n := testing.AllocsPerRun(1000, func() {
		copy(p, in)
		for portion := range slices.Chunk(p, 100) {
			for n := -1; n != 0 && len(portion) > 0; portion = portion[n:] {
				var err error
				if _, n, err = d.Next(portion, Server, 2000); err != nil {
					t.Error(err)
				}
			}
		}
		if _, _, err := d.Next(nil, Server, 2000); err != nil || d.part != nil {
			t.Errorf("the decoder keeps %+v, error %v", d.part, err)
		}
	}); n > 2 { // 7 without the pool; -race loses a part now and then on purpose
		t.Errorf("%v allocations", n)
	}
}

// TestDecoderGrowth checks that memory follows what has come in, not what a header promises.
func TestDecoderGrowth(t *testing.T) {
	var d Decoder
	decode(&d, Server, 16<<20, []byte(long64(fin|bin, 16<<20)+"mask"+strings.Repeat("x", 1000)))
	if kept := cap(d.part.message); kept > maxReuse {
		t.Errorf("%d bytes are held for 1,000", kept)
	}
}

func TestErrorText(t *testing.T) {
	if got, want := (&Error{tooBig, "too long"}).Error(), "websocket: too long (close code 1009)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkDecode(b *testing.B) {
	frame := AppendMasked(nil, ws.OpText, []byte("up 60"), [4]byte{1, 2, 3, 4})
	var p []byte
	for range 16 {
		p = append(p, frame...)
	}
	buf := make([]byte, len(p))
	var d Decoder
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		copy(buf, p)
		for rest := buf; len(rest) > 0; {
			_, n, err := d.Next(rest, Server, 4096)
			if err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
	}
}
