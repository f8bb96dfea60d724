package websocket

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// TestAppendFrame compares the writers with the library's (RFC 6455 section 5.2).
func TestAppendFrame(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536} {
		payload := bytes.Repeat([]byte("x"), n)
		f := ws.NewFrame(ws.OpBinary, true, payload)
		if got, want := AppendFrame([]byte("dst"), ws.OpBinary, payload), "dst"+string(ws.MustCompileFrame(f)); string(got) != want {
			t.Errorf("AppendFrame of %d bytes: %.20x, want %.20x", n, got, want)
		}
		want := "dst" + string(ws.MustCompileFrame(ws.MaskFrameWith(f, mask)))
		if got := AppendMasked([]byte("dst"), ws.OpBinary, payload, mask); string(got) != want {
			t.Errorf("AppendMasked of %d bytes: %.20x, want %.20x", n, got, want)
		}
		if !bytes.Equal(payload, f.Payload) || bytes.Count(payload, []byte("x")) != n {
			t.Errorf("AppendMasked of %d bytes changed its payload", n)
		}
	}
}

func TestAppendFrameAllocations(t *testing.T) {
	dst, payload := make([]byte, 0, 4096), make([]byte, 2000)
	for name, f := range map[string]func(){
		"AppendFrame":  func() { dst = AppendFrame(dst[:0], ws.OpText, payload) },
		"AppendMasked": func() { dst = AppendMasked(dst[:0], ws.OpText, payload, mask) },
		"AppendClose":  func() { dst = AppendClose(dst[:0], ws.StatusGoingAway, "bye") },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestAppendClose checks that a client's decoder reads back what was written (RFC 6455 section 5.5.1).
func TestAppendClose(t *testing.T) {
	for _, c := range []struct {
		name         string
		code         ws.StatusCode
		reason, want string
	}{
		{"no code", 0, "lost", ""},
		{"no reason", ws.StatusNormalClosure, "", ""},
		{"reason", ws.StatusGoingAway, "bye", "bye"},
		{"longest reason", ws.StatusGoingAway, strings.Repeat("x", 123), strings.Repeat("x", 123)},
		{"too long a reason", ws.StatusGoingAway, strings.Repeat("x", 124), strings.Repeat("x", 123)},
		{"a character at the end", ws.StatusGoingAway, strings.Repeat("x", 121) + "é!", strings.Repeat("x", 121) + "é"},
		{"a character across the end", ws.StatusGoingAway, strings.Repeat("x", 120) + "🚗", strings.Repeat("x", 120)},
	} {
		m, _, err := new(Decoder).Next(AppendClose(nil, c.code, c.reason), Client, 0)
		if err != nil || m.Op != ws.OpClose || m.Code != c.code || string(m.Payload) != c.want {
			t.Errorf("%s: got %s, want %d %q", c.name, outcome([]Message{m}, err), c.code, c.want)
		}
	}
	if f := AppendClose(nil, ws.StatusGoingAway, strings.Repeat("\x80", 200)); len(f) > 2+125 || utf8.Valid(f) {
		t.Errorf("a reason that never was UTF-8 made %x", f)
	}
}

// TestLibraryReads checks frames of this package with the library's reader.
func TestLibraryReads(t *testing.T) {
	r := bytes.NewReader(AppendFrame(AppendMasked(nil, ws.OpText, []byte("Hello"), mask), ws.OpPing, nil))
	for _, want := range []string{"Hello", ""} {
		h, err := ws.ReadHeader(r)
		if err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(r, payload); err != nil {
			t.Fatal(err)
		}
		if h.Masked {
			ws.Cipher(payload, h.Mask, 0)
		}
		if string(payload) != want {
			t.Errorf("got %q, want %q", payload, want)
		}
	}
	if _, err := r.ReadByte(); err != io.EOF {
		t.Error("bytes are left over")
	}
}
