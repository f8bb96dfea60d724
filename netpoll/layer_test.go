package netpoll

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// records is a layer as simple as one can be: what is encoded at a time becomes a record of its length and its bytes, all
// of them changed; an empty record is the end. A record "?" is answered with "!", past the handler.
type records struct {
	handler Handler
	in      []byte
	encoded []int // the lengths
	fail    error
}

func record(out, p []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(p)))
	for _, b := range p {
		out = append(out, b^0x5a)
	}
	return out
}

func (r *records) Data(c *Conn, p []byte) {
	r.in = append(r.in, p...)
	for !c.Ended() && len(r.in) >= 4 {
		n := int(binary.BigEndian.Uint32(r.in))
		if len(r.in) < 4+n {
			return
		}
		p := record(nil, r.in[4:4+n])[4:]
		r.in = r.in[4+n:]
		switch string(p) {
		case "":
			c.Flush()
			c.WriteRaw(r.End(nil))
			c.Close(io.EOF)
		case "?":
			c.WriteRaw(record(nil, []byte("!")))
		default:
			r.handler.Data(c, p)
		}
	}
}

func (r *records) Encode(out, p []byte) ([]byte, error) {
	r.encoded = append(r.encoded, len(p))
	return record(out, p), r.fail
}

func (r *records) End(out []byte) []byte     { return record(out, nil) }
func (r *records) SetHandler(h Handler)      { r.handler = h }
func (r *records) Drained(c *Conn)           { r.handler.Drained(c) }
func (r *records) Expired(c *Conn)           { r.handler.Expired(c) }
func (r *records) Closed(c *Conn, err error) { r.handler.Closed(c, err) }

// layered is pair with a layer before the recorder.
func layered(t *testing.T, l *Loop, kind int, r *recorder) (*Conn, *records, *os.File) {
	t.Helper()
	c, peer := pair(t, l, kind, r)
	layer := &records{}
	on(t, l, func() {
		c.SetLayer(layer)
		c.SetHandler(r)
	})
	return c, layer, peer
}

// readRecord returns what the next record of the peer's says.
func readRecord(t *testing.T, from io.Reader) string {
	t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, binary.BigEndian.Uint32(head[:]))
	if _, err := io.ReadFull(from, p); err != nil {
		t.Fatal(err)
	}
	return string(record(nil, p)[4:])
}

// However a layer's records are cut, its handler gets what they say, and what it answers in one event is one record in
// one write, behind what the layer itself has to say.
func TestLayer(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	r.onData = func(c *Conn, p []byte) {
		for i := range 3 {
			c.Write(fmt.Appendf(nil, "%s%d ", p, i))
		}
	}
	_, _, peer := layered(t, l, unix.SOCK_SEQPACKET, r)
	write := func(p []byte) { peer.Write(p); on(t, l, func() {}) }
	read := func() string {
		buf := make([]byte, 1000)
		n, err := peer.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		from := bytes.NewReader(buf[:n])
		said := readRecord(t, from)
		if from.Len() > 0 {
			t.Errorf("%d bytes are behind the record %q", from.Len(), said)
		}
		return said
	}
	for _, b := range record(nil, []byte("a")) {
		write([]byte{b})
	}
	if got := read(); got != "a0 a1 a2 " {
		t.Errorf("the answer is %q", got)
	}
	all := record(record(record(nil, []byte("b")), []byte("?")), []byte("c"))
	write(all)
	if got := []string{read(), read()}; !slices.Equal(got, []string{"!", "b0 b1 b2 c0 c1 c2 "}) {
		t.Errorf("the answers are %q", got)
	}
	on(t, l, func() {
		if string(r.data) != "abc" {
			t.Errorf("the handler got %q", r.data)
		}
	})
}

// What is too much for the kernel goes through the layer in portions, and all of it arrives before the layer's end.
func TestLayerFinish(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	c, layer, peer := layered(t, l, unix.SOCK_STREAM, r)
	want := make([]byte, 1<<20)
	for i := range want {
		want[i] = byte(rand.Uint32())
	}
	on(t, l, func() {
		unix.SetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096)
		c.Write(want)
		if c.Backlog() < len(want)/2 || !c.Blocked() || c.Layer() != layer {
			t.Errorf("a tiny send buffer took all but %d", c.Backlog())
		}
		c.Finish()
		c.Write([]byte("too late"))
		c.WriteRaw([]byte("too late"))
		if c.Layer() != nil {
			t.Error("the layer outlives the end")
		}
		if most := slices.Max(layer.encoded); most > corkSize {
			t.Errorf("%d bytes were encoded at a time", most)
		}
	})
	var got []byte
	for {
		p := readRecord(t, peer)
		if p == "" {
			break
		}
		got = append(got, p...)
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes differ")
	}
	if n, err := peer.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d bytes, %v", n, err)
	}
	peer.Close()
	wait(t, r.end, "Closed")
	if r.err != nil || r.closed != 1 || l.backlog != 0 {
		t.Errorf("closed %d times, %v, backlog %d", r.closed, r.err, l.backlog)
	}
}

// The end of the layer is the end of the connection, and comes behind the last answer.
func TestLayerEnds(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	r.onData = func(c *Conn, p []byte) { c.Write(p) }
	_, _, peer := layered(t, l, unix.SOCK_STREAM, r)
	peer.Write(append(record(record(nil, []byte("last")), nil), "garbage"...))
	if got := []string{readRecord(t, peer), readRecord(t, peer)}; !slices.Equal(got, []string{"last", ""}) {
		t.Errorf("the answers are %q", got)
	}
	wait(t, r.end, "Closed")
	if string(r.data) != "last" || r.err != io.EOF || r.closed != 1 {
		t.Errorf("got %q, closed %d times, %v", r.data, r.closed, r.err)
	}
}

// A layer that can't encode any more closes the connection, and nothing it made leaves.
func TestLayerFails(t *testing.T) {
	l := newTestLoop(t, Config{})
	r := newRecorder()
	c, layer, peer := layered(t, l, unix.SOCK_STREAM, r)
	layer.fail = errors.New("no more")
	on(t, l, func() { c.Write(make([]byte, 3*corkSize)) })
	wait(t, r.end, "Closed")
	if got, err := io.ReadAll(peer); len(got) > 0 || err != nil || r.err != layer.fail || len(layer.encoded) != 1 {
		t.Errorf("%d bytes came, %v, closed with %v", len(got), err, r.err)
	}
}

// A layer may be there from the beginning, and have something to say before anything comes.
func TestLayerOfAnAdopted(t *testing.T) {
	l := newTestLoop(t, Config{})
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		t.Fatal(err)
	}
	peer := os.NewFile(uintptr(fds[1]), "peer")
	defer peer.Close()
	r := newRecorder()
	r.onData = func(c *Conn, p []byte) { c.Write(p) }
	layer := &records{handler: r, in: record(nil, []byte("before"))}
	l.Adopt(fds[0], netip.AddrPort{}, nil, func(c *Conn, _ netip.AddrPort) Handler {
		c.SetLayer(layer)
		c.Write([]byte("hello"))
		return layer
	})
	if got := []string{readRecord(t, peer), readRecord(t, peer)}; !slices.Equal(got, []string{"hello", "before"}) {
		t.Errorf("the answers are %q", got)
	}
	peer.Close()
	wait(t, r.end, "Closed")
}
