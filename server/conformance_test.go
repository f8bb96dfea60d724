package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"roverd/server/websocket"

	"github.com/gobwas/ws"
)

// RFC 6455 by section, over TCP against /echo, as strictly as the Autobahn fuzzing client's groups 1 to 7, 9 and 10.
// What is sent is made by hand, so that it can be hostile; what must come back is told to the byte.

// exchange is all that is said on one connection: what the client sends, and what the server answers before its close
// frame. Then the server closes; not with a reset, and without being closed first.
type exchange struct {
	name string
	send string
	want string        // frames
	code ws.StatusCode // of the close frame; when 0, the client ends with 1000, which is to be echoed
}

// whole is a portion that holds all that a client sends.
const whole = 1 << 30

const (
	fin       = 0x80                   // of a frame's first byte
	noCode    = ws.StatusNoStatusRcvd  // stands for a close frame without one
	violation = ws.StatusProtocolError // 1002
	notText   = ws.StatusInvalidFramePayloadData
	tooBig    = ws.StatusMessageTooBig
)

var (
	hello     = masked(fin|ws.OpText, "Hello")
	helloBack = plain(ws.OpText, "Hello")
	goodbye   = closing(1000, "")
)

var opNames = map[ws.OpCode]string{ws.OpText: "text", ws.OpBinary: "binary", ws.OpClose: "close", ws.OpPing: "ping", ws.OpPong: "pong"}

// masked is a client's frame with any first byte.
func masked(first ws.OpCode, payload string) string {
	f := websocket.AppendMasked(nil, 0, []byte(payload), [4]byte{0x37, 0xfa, 0x21, 0x3d})
	f[0] = byte(first)
	return string(f)
}

// plain is a server's frame.
func plain(op ws.OpCode, payload string) string {
	return string(ws.MustCompileFrame(ws.NewFrame(op, true, []byte(payload))))
}

// closing is a client's close frame.
func closing(code ws.StatusCode, reason string) string {
	return masked(fin|ws.OpClose, string(binary.BigEndian.AppendUint16(nil, uint16(code)))+reason)
}

// head16 and head64 are a client's frame up to and with a length of 16 or 64 bits.
func head16(first ws.OpCode, length uint16) string {
	return string(binary.BigEndian.AppendUint16([]byte{byte(first), fin | 126}, length))
}

func head64(first ws.OpCode, length uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{byte(first), fin | 127}, length))
}

// fragments is a message in a frame for each part.
func fragments(op ws.OpCode, parts ...string) string { return interleaved("", op, parts) }

// interleaved is fragments with something between any two.
func interleaved(between string, op ws.OpCode, parts []string) string {
	var b strings.Builder
	for i, part := range parts {
		if i > 0 {
			b.WriteString(between)
			op = ws.OpContinuation
		}
		if i == len(parts)-1 {
			op |= fin
		}
		b.WriteString(masked(op, part))
	}
	return b.String()
}

// pieces cuts s into pieces of n bytes.
func pieces(s string, n int) (all []string) {
	for p := range slices.Chunk([]byte(s), n) {
		all = append(all, string(p))
	}
	return all
}

// fill is n bytes that differ from their neighbours, ASCII only or no text at all.
func fill(op ws.OpCode, n int) string {
	pattern := "The quick brown fox jumps over the lazy dog. "
	if op == ws.OpBinary {
		pattern = "\x00\xff\xfe\x80\xc0\x7f\x01"
	}
	return strings.Repeat(pattern, n/len(pattern)+1)[:n]
}

func TestConformance(t *testing.T) {
	addr, _ := start(t, "-echo", "-log-level", "error")
	for _, section := range []struct {
		name      string
		exchanges []exchange
	}{
		{"5.1 masking", masking()},
		{"5.2 first byte", firstBytes()},
		{"5.2 length", lengths()},
		{"5.4 fragmentation", fragmentation()},
		{"5.5 ping and pong", pings()},
		{"5.6 messages", messages()},
		{"7 closing", closings()},
		{"8.1 UTF-8", utf8Texts()},
	} {
		t.Run(section.name, func(t *testing.T) {
			findings := 0
			for _, x := range section.exchanges {
				small := 1
				if len(x.send) > 5000 {
					small = 997
				}
				if !t.Run(x.name, func(t *testing.T) {
					x.run(t, addr, whole)
					x.run(t, addr, small)
				}) {
					findings++
				}
				if findings == 5 {
					t.Fatal("that is enough: where the server waits for more, each would take as long as the test has patience")
				}
			}
		})
	}
}

// run has the exchange with what the client sends in portions of some size.
func (x exchange) run(t *testing.T, addr string, portion int) {
	t.Helper()
	if x.code == 0 {
		x.send, x.code = x.send+goodbye, 1000
	}
	c := dialRaw(t, addr, "/echo")
	var sending sync.WaitGroup
	sending.Go(func() {
		for p := range slices.Chunk([]byte(x.send), portion) {
			if _, err := c.conn.Write(p); err != nil {
				return // the server may have closed: what it said before will tell
			}
		}
	})
	c.conn.SetReadDeadline(time.Now().Add(hangTime))
	got, err := io.ReadAll(c.in)
	c.conn.Close()
	sending.Wait()
	end, ok := strings.CutPrefix(string(got), x.want)
	if !ok || !isClose(end, x.code) || err != nil {
		t.Fatalf("sent in portions of %d: got %s and then %v, want %s, a close frame of code %d and EOF",
			portion, frames(string(got)), err, frames(x.want), x.code)
	}
}

// isClose tells whether p is a close frame with that code, and nothing else.
func isClose(p string, code ws.StatusCode) bool {
	if code == noCode {
		return p == plain(ws.OpClose, "")
	}
	if len(p) < 4 {
		return false
	}
	body := p[2:]
	return p == plain(ws.OpClose, body) && binary.BigEndian.Uint16([]byte(body)) == uint16(code) && utf8.ValidString(body[2:])
}

// frames describes a server's frames.
func frames(p string) string {
	var all []string
	for r := strings.NewReader(p); r.Len() > 0; {
		if len(all) == 12 {
			all = append(all, "...")
			break
		}
		rest := p[len(p)-r.Len():]
		h, err := ws.ReadHeader(r)
		if err != nil || h.Masked || h.Length > int64(r.Len()) {
			all = append(all, fmt.Sprintf("%.40q, which is no frame of a server", rest))
			break
		}
		payload := make([]byte, h.Length)
		r.Read(payload)
		all = append(all, fmt.Sprintf("opcode %d (fin %v, rsv %d) with %d bytes %.40q", h.OpCode, h.Fin, h.Rsv, h.Length, payload))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func masking() (all []exchange) {
	for _, f := range []struct{ name, frame string }{
		{"text", plain(ws.OpText, "Hello")},
		{"empty text", plain(ws.OpText, "")},
		{"binary", plain(ws.OpBinary, fill(ws.OpBinary, 300))},
		{"ping", plain(ws.OpPing, "Hello")},
		{"close", plain(ws.OpClose, "\x03\xe8")},
	} {
		all = append(all,
			exchange{f.name + " not masked", f.frame, "", violation},
			exchange{f.name + " not masked, after a message", hello + f.frame + hello, helloBack, violation},
			exchange{f.name + " not masked, shown by two bytes", f.frame[:2], "", violation})
	}
	return append(all, exchange{"a mask of zeros", "\x81\x85\x00\x00\x00\x00Hello", helloBack, 0})
}

func firstBytes() (all []exchange) {
	for first := range 256 {
		rsv, op := first>>4&7, ws.OpCode(first&15)
		if rsv == 0 && !op.IsReserved() {
			continue
		}
		name := fmt.Sprintf("%#02x, reserved bits %d and opcode %d", first, rsv, op)
		bad := masked(ws.OpCode(first), "\x03\xe8")
		all = append(all,
			exchange{name, bad + hello, "", violation},
			exchange{name + ", after a message", hello + bad + hello, helloBack, violation},
			exchange{name + ", shown by two bytes", bad[:2], "", violation})
	}
	return append(all,
		exchange{"reserved bits within a message", masked(ws.OpText, "Hel") + masked(fin|0x40, "lo"), "", violation},
		exchange{"reserved opcode within a message", masked(ws.OpText, "Hel") + masked(fin|0x3, "lo"), "", violation})
}

func lengths() (all []exchange) {
	for _, n := range []uint16{0, 1, 5, 125} {
		all = append(all, exchange{fmt.Sprintf("%d in 16 bits", n), head16(fin|ws.OpBinary, n), "", violation})
	}
	for _, n := range []uint64{0, 5, 125, 126, 65535} {
		all = append(all, exchange{fmt.Sprintf("%d in 64 bits", n), head64(fin|ws.OpBinary, n), "", violation})
	}
	for _, n := range []uint64{1 << 63, 1<<63 + 5, 1<<64 - 1} {
		all = append(all,
			exchange{fmt.Sprintf("%#x has the top bit", n), head64(fin|ws.OpBinary, n), "", violation},
			exchange{fmt.Sprintf("%#x has the top bit, in a continuation", n), masked(ws.OpBinary, "x") + head64(fin, n), "", violation})
	}
	return append(all,
		exchange{"not the shortest, after a message", hello + head16(fin|ws.OpText, 5) + "maskHello", helloBack, violation},
		exchange{"not the shortest, in a continuation", masked(ws.OpText, "Hel") + head16(fin, 2), "", violation})
}

func fragmentation() []exchange {
	const cont = ws.OpContinuation
	ping, pong := masked(fin|ws.OpPing, "ping"), plain(ws.OpPong, "ping")
	all := []exchange{
		{"two fragments", fragments(ws.OpText, "Hel", "lo"), helloBack, 0},
		{"every byte a fragment", fragments(ws.OpText, pieces("Hello", 1)...), helloBack, 0},
		{"binary", fragments(ws.OpBinary, "\xff", "\xfe", "\x00"), plain(ws.OpBinary, "\xff\xfe\x00"), 0},
		{"all of them empty", fragments(ws.OpText, "", "", ""), plain(ws.OpText, ""), 0},
		{"the first and the last empty", fragments(ws.OpText, "", "Hello", ""), helloBack, 0},
		{"the second empty", fragments(ws.OpText, "Hello", "", "", ""), helloBack, 0},
		{"two messages", fragments(ws.OpText, "Hel", "lo") + fragments(ws.OpBinary, "He", "llo"), helloBack + plain(ws.OpBinary, "Hello"), 0},
		{"a ping between", masked(ws.OpText, "Hel") + ping + masked(fin|cont, "lo"), pong + helloBack, 0},
		{"pings between five, and pongs nobody asked for", masked(ws.OpText, "H") + masked(cont, "e") + ping + masked(cont, "l") +
			masked(fin|ws.OpPong, "?") + masked(cont, "l") + ping + ping + masked(fin|cont, "o") + ping, pong + pong + pong + helloBack + pong, 0},
		{"a ping in front and behind", ping + fragments(ws.OpText, "Hel", "lo") + ping, pong + helloBack + pong, 0},

		{"a continuation of nothing", masked(fin|cont, "Hello") + hello, "", violation},
		{"a continuation of nothing without fin", masked(cont, "Hel") + masked(fin|cont, "lo"), "", violation},
		{"an empty continuation of nothing", masked(fin|cont, ""), "", violation},
		{"a continuation of nothing, shown by two bytes", masked(fin|cont, "Hello")[:2], "", violation},
		{"a continuation of what is complete", hello + masked(fin|cont, "Hello"), helloBack, violation},
		{"a continuation of what fragments completed", fragments(ws.OpText, "Hel", "lo") + masked(cont, "Hello") + hello, helloBack, violation},
		{"a ping does not begin a message", ping + masked(fin|cont, "Hello"), pong, violation},
		{"a text within a text", masked(ws.OpText, "Hel") + masked(fin|ws.OpText, "lo"), "", violation},
		{"a fragment of a text within a text", masked(ws.OpText, "Hel") + masked(ws.OpText, "lo"), "", violation},
		{"a binary within a text", masked(ws.OpText, "Hel") + masked(fin|ws.OpBinary, "lo"), "", violation},
		{"a text within a binary, after a continuation", masked(ws.OpBinary, "He") + masked(cont, "l") + masked(fin|ws.OpText, "lo"), "", violation},
		{"a text within a text, shown by two bytes", masked(ws.OpText, "Hel") + masked(fin|ws.OpText, "lo")[:2], "", violation},
		{"a text within a text, after a ping", masked(ws.OpText, "Hel") + ping + hello, pong, violation},
	}
	for _, op := range []ws.OpCode{ws.OpPing, ws.OpPong, ws.OpClose} {
		name := opNames[op]
		all = append(all,
			exchange{"a " + name + " in two fragments", fragments(op, "\x03\xe8", "lo"), "", violation},
			exchange{"an empty " + name + " in two fragments", fragments(op, "", ""), "", violation},
			exchange{"a " + name + " in fragments within a message", masked(ws.OpText, "Hel") + fragments(op, "\x03\xe8", "lo"), "", violation},
			exchange{"a " + name + " in fragments, shown by two bytes", masked(op, "\x03\xe8")[:2], "", violation})
	}
	return all
}

func pings() (all []exchange) {
	for _, payload := range []string{"", "Hello", "\x00\xff\xfe\xfd\xfc\xfb\x00\xff", fill(ws.OpText, 125), fill(ws.OpBinary, 125)} {
		all = append(all,
			exchange{fmt.Sprintf("ping %.9q of %d bytes", payload, len(payload)), masked(fin|ws.OpPing, payload), plain(ws.OpPong, payload), 0},
			exchange{fmt.Sprintf("pong %.9q of %d bytes that nobody asked for", payload, len(payload)), masked(fin|ws.OpPong, payload) + hello, helloBack, 0})
	}
	ten, answers := "", ""
	for i := range 10 {
		ten += masked(fin|ws.OpPing, fmt.Sprint("payload ", i))
		answers += plain(ws.OpPong, fmt.Sprint("payload ", i))
	}
	all = append(all,
		exchange{"ten pings in a row", ten, answers, 0},
		exchange{"a ping between messages", hello + masked(fin|ws.OpPing, "p") + hello, helloBack + plain(ws.OpPong, "p") + helloBack, 0},
		exchange{"a pong that nobody asked for, and a ping", masked(fin|ws.OpPong, "no") + masked(fin|ws.OpPing, "yes"), plain(ws.OpPong, "yes"), 0})
	for _, op := range []ws.OpCode{ws.OpPing, ws.OpPong, ws.OpClose} {
		name := opNames[op]
		long := masked(fin|op, "\x03\xe8"+fill(ws.OpText, 124))
		all = append(all,
			exchange{name + " of 126 bytes", long, "", violation},
			exchange{name + " of 126 bytes, after a message", hello + long + hello, helloBack, violation},
			exchange{name + " of 126 bytes, shown by two", long[:2], "", violation},
			exchange{name + " of 65536 bytes", masked(fin|op, "\x03\xe8"+fill(ws.OpText, 65534)), "", violation},
			exchange{name + " with its length in 16 bits", head16(fin|op, 5) + "maskHello", "", violation},
			exchange{name + " with its length in 64 bits", head64(fin|op, 5) + "maskHello", "", violation})
	}
	return all
}

func messages() (all []exchange) {
	for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary} {
		for _, n := range []int{0, 1, 125, 126, 127, 128, 65535, 65536} {
			payload := fill(op, n)
			all = append(all, exchange{fmt.Sprintf("%s of %d bytes", opNames[op], n), masked(fin|op, payload), plain(op, payload), 0})
		}
	}
	var many, echoes strings.Builder
	for i := range 10_000 {
		text := fmt.Sprint("message ", i)
		many.WriteString(masked(fin|ws.OpText, text))
		echoes.WriteString(plain(ws.OpText, text))
	}
	return append(all, exchange{"ten thousand in one write", many.String(), echoes.String(), 0})
}

func closings() (all []exchange) {
	ping := masked(fin|ws.OpPing, "too late")
	all = []exchange{
		{"no code", masked(fin|ws.OpClose, ""), "", noCode},
		{"no reason", goodbye, "", 1000},
		{"a reason", closing(1000, "enough, café closes"), "", 1000},
		{"a reason of 123 bytes", closing(1000, fill(ws.OpText, 123)), "", 1000},
		{"one byte", masked(fin|ws.OpClose, "\x03"), "", violation},
		{"one byte, after a message", hello + masked(fin|ws.OpClose, "\x03"), helloBack, violation},
		{"a reason that is not UTF-8", closing(1000, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"), "", notText},
		{"a reason that is cut within a character", closing(1000, "caf\xc3"), "", notText},
		{"a message before", hello + goodbye, helloBack, 1000},
		{"a large message before", masked(fin|ws.OpText, fill(ws.OpText, 256<<10)) + goodbye, plain(ws.OpText, fill(ws.OpText, 256<<10)), 1000},
		{"a large message before, a ping behind", masked(fin|ws.OpText, fill(ws.OpText, 256<<10)) + goodbye + ping, plain(ws.OpText, fill(ws.OpText, 256<<10)), 1000},
		{"half of a message before", masked(ws.OpText, "Hel") + goodbye, "", 1000},
		{"within a message", masked(ws.OpText, "Hel") + goodbye + masked(fin|ws.OpContinuation, "lo"), "", 1000},
		{"twice", closing(1000, "") + closing(3000, ""), "", 1000},
		{"a ping behind", goodbye + ping, "", 1000},
		{"a message behind", goodbye + hello, "", 1000},
		{"a violation behind", goodbye + plain(ws.OpText, "Hello"), "", 1000},
		{"a megabyte behind", goodbye + masked(fin|ws.OpBinary, fill(ws.OpBinary, 1<<20)), "", 1000},
		{"a close behind a violation", masked(fin|3, "") + goodbye, "", violation},
		{"a megabyte behind a violation", masked(fin|3, "") + masked(fin|ws.OpBinary, fill(ws.OpBinary, 1<<20)), "", violation},
	}
	for _, code := range []ws.StatusCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		all = append(all,
			exchange{fmt.Sprintf("code %d", code), closing(code, ""), "", code},
			exchange{fmt.Sprintf("code %d and a reason", code), closing(code, "reason"), "", code})
	}
	for _, code := range []ws.StatusCode{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		all = append(all,
			exchange{fmt.Sprintf("code %d, which must not be sent", code), closing(code, ""), "", violation},
			exchange{fmt.Sprintf("code %d, which must not be sent, and a reason", code), closing(code, "reason"), "", violation})
	}
	return all
}

func utf8Texts() (all []exchange) {
	for _, s := range []string{
		"Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\x00", "\x7f",
		"\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", // the first and last of each length
		"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", // around the surrogates, and the replacement character
		"\xef\xbf\xbe", "\xef\xb7\x90", "\xf0\x9f\xbf\xbe", "\xf0\x9f\xbf\xbf", "\xf4\x8f\xbf\xbe", // non-characters are characters here
	} {
		back := plain(ws.OpText, s)
		all = append(all,
			exchange{fmt.Sprintf("%+q", s), masked(fin|ws.OpText, s), back, 0},
			exchange{fmt.Sprintf("%+q, every byte a fragment", s), fragments(ws.OpText, pieces(s, 1)...), back, 0},
			exchange{fmt.Sprintf("%+q, every byte a fragment, a ping between", s), interleaved(masked(fin|ws.OpPing, ""), ws.OpText, pieces(s, 1)),
				strings.Repeat(plain(ws.OpPong, ""), len(s)-1) + back, 0})
	}
	// The bar stands behind the byte that shows, whatever may follow, that this is no text; without one, its end does.
	invalid := []string{
		"κόσμε\xed\xa0|\x80edited", "κόσμε\xf4\x90|\x80\x80edited", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90|",
		"\xce", "\xce\xba\xe1", "\xce\xba\xe1\xbd", "κόσμ\xce", // a prefix of good text
		"\xc3", "\xdf", "\xe0\xa0", "\xef\xbf", "\xf0\x90\x80", "\xf4\x8f\xbf", // the last byte is missing
		"\xdf |", "\xef\xbf |", "\xf4\x8f\xbf |", "\xdf\xdf|", "\xef\xbf\xef|\xbf",
		"\x80|", "\xbf|", "\x80|\xbf\x80\xbf\x80\xbf", "Hello \x80|!", "ab\xc2\x80\x80|",
		"\xc0|\xaf", "\xe0\x80|\xaf", "\xf0\x80|\x80\xaf", "\xf8|\x80\x80\x80\xaf", "\xfc|\x80\x80\x80\x80\xaf", // too long for the character
		"\xc1|\xbf", "\xe0\x9f|\xbf", "\xf0\x8f|\xbf\xbf", "\xf8|\x87\xbf\xbf\xbf", "\xfc|\x83\xbf\xbf\xbf\xbf",
		"\xc0|\x80", "\xe0\x80|\x80", "\xf0\x80|\x80\x80", "\xf8|\x80\x80\x80\x80", "\xfc|\x80\x80\x80\x80\x80",
		"\xed\xa0|\x80", "\xed\xad|\xbf", "\xed\xae|\x80", "\xed\xaf|\xbf", "\xed\xb0|\x80", "\xed\xbe|\x80", "\xed\xbf|\xbf", // surrogates
		"\xed\xa0|\x80\xed\xb0\x80", "\xed\xaf|\xbf\xed\xbf\xbf",
		"\xf4\x90|\x80\x80", "\xf7|\xbf\xbf\xbf", "\xf8|\x88\x80\x80\x80", "\xfb|\xbf\xbf\xbf\xbf", "\xfc|\x84\x80\x80\x80\x80", "\xfd|\xbf\xbf\xbf\xbf\xbf", // above U+10FFFF
		"\xfe|", "\xff|", "\xfe|\xfe\xff\xff",
	}
	for lone := 0xc0; lone <= 0xff; lone++ { // the first byte of a character, and a space
		if 0xc2 <= lone && lone <= 0xf4 {
			invalid = append(invalid, string([]byte{byte(lone), ' ', '|'}))
		} else {
			invalid = append(invalid, string([]byte{byte(lone), '|', ' '}))
		}
	}
	for _, s := range invalid {
		shown, rest, early := strings.Cut(s, "|")
		s := shown + rest
		all = append(all,
			exchange{fmt.Sprintf("%+q", s), masked(fin|ws.OpText, s), "", notText},
			exchange{fmt.Sprintf("%+q, after a message", s), hello + masked(fin|ws.OpText, s) + hello, helloBack, notText},
			exchange{fmt.Sprintf("%+q, every byte a fragment", s), fragments(ws.OpText, pieces(s, 1)...), "", notText})
		if early {
			within := masked(fin|ws.OpText, s+"and so on")
			all = append(all,
				exchange{fmt.Sprintf("%+q, shown by %d bytes of a frame", s, len(shown)), within[:6+len(shown)], "", notText},
				exchange{fmt.Sprintf("%+q, shown by a first fragment", s), masked(ws.OpText, shown), "", notText},
				exchange{fmt.Sprintf("%+q, shown by %d bytes of a second fragment", s, len(shown)),
					masked(ws.OpText, "Hello") + masked(ws.OpContinuation, s+"and so on")[:6+len(shown)], "", notText})
		}
	}
	return append(all,
		exchange{"binary need not be text", masked(fin|ws.OpBinary, "\xff\xfe\x80"), plain(ws.OpBinary, "\xff\xfe\x80"), 0},
		exchange{"a ping need not be text", masked(fin|ws.OpPing, "\xff\xfe\x80"), plain(ws.OpPong, "\xff\xfe\x80"), 0})
}
