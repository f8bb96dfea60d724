package websocket

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// FuzzDecoder checks, on any input, that portions of any sizes make no difference, that every message is one the RFC
// allows, and that no more is kept than a frame and a message within the limit.
func FuzzDecoder(f *testing.F) {
	for i, c := range decodeCases() {
		if side, limit := c.settings(); len(c.in) < 1000 {
			f.Add([]byte(c.in), uint64(i), side == Client, uint16(min(limit, 1000)))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64, client bool, limit uint16) {
		side := Server
		if client {
			side = Client
		}
		want, wantErr := decode(new(Decoder), side, int(limit), bytes.Clone(in))
		for _, m := range want {
			if most := int(limit); m.Op.IsData() && len(m.Payload) > most || m.Op.IsControl() && len(m.Payload) > 125 {
				t.Errorf("%d bytes in a message of opcode %d, limit %d", len(m.Payload), m.Op, limit)
			}
			if (m.Op == ws.OpText || m.Op == ws.OpClose) && !utf8.Valid(m.Payload) {
				t.Errorf("%q is not UTF-8", m.Payload)
			}
		}

		var (
			d    Decoder
			got  []Message
			err  error
			rest = bytes.Clone(in)
			rnd  = rand.New(rand.NewPCG(seed, 0))
		)
		for len(rest) > 0 && err == nil {
			n := 1 + rnd.IntN(min(len(rest), 1+rnd.IntN(40))) // sometimes small, sometimes large
			var all []Message
			all, err = decode(&d, side, int(limit), rest[:n:n])
			got, rest = append(got, all...), rest[n:]
			if d.part != nil {
				kept := d.part.headLen + len(d.part.message) + len(d.part.control)
				if most := ws.MaxHeaderSize + int(limit) + ws.MaxControlFramePayloadSize; kept > most {
					t.Fatalf("%d bytes are kept, limit %d", kept, limit)
				}
				if err == nil && d.part.headLen == 0 && !d.part.inPayload && d.part.op == 0 {
					t.Fatalf("an idle decoder keeps %+v", d.part)
				}
			}
		}
		if !slices.EqualFunc(got, want, equal) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("in portions: %s, as a whole: %s", outcome(got, err), outcome(want, wantErr))
		}
	})
}

// FuzzHead compares with net/http: what is taken here must be taken there, and mean the same, or a request could end
// where somebody else takes it to go on. Whatever is refused gets a whole response.
func FuzzHead(f *testing.F) {
	for _, head := range []string{
		example, example + "\x81\x85", example[:60], "", "\n", "\r\n\r\n", " \r\n", "  \r\n", ":\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\n:\n\n", "GET / HTTP/99999999999999999999.1\r\n\r\n",
		"GET http://a/b?c HTTP/1.1\r\nHost: d\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: d\r\n\r\n", "GET //a/b HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET http://[::1]:80?b HTTP/1.1\r\nHost:\r\n\r\n", "HEAD wS://a%20b%c3:/%63 HTTP/1.1\r\nHost: [fe80::1%1]:80\r\nExpect: 100-continue\r\n\r\n",
		"GET /?\"<>\\^`{|}%zz HTTP/1.1\r\nHost: %41:80:80\r\n\r\n", "GET / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\nA:b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nHello", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		f.Add([]byte(head), uint16(0))
		f.Add([]byte(head), uint16(http.StatusForbidden))
	}
	f.Add(AppendRequest(nil, "rover", "/ws"), uint16(0))
	f.Fuzz(func(t *testing.T, p []byte, status uint16) {
		before := bytes.Clone(p)
		n, err := HeadLength(p)
		if err == nil && n == 0 {
			return
		}
		if err == nil && (n > MaxHead || !bytes.HasSuffix(p[:n], []byte("\r\n\r\n"))) {
			t.Fatalf("the head has %d bytes", n)
		}
		var h Head
		if err == nil {
			if h, err = ParseHead(p[:n], false); err == nil {
				compare(t, &h, p[:n])
			}
		}
		asked := false
		var response []byte
		if err == nil {
			_, response, err = NewUpgrader(func(Request) error {
				asked = true
				if status >= 400 && status <= 599 {
					return &Refusal{Status: int(status), Reason: "no"}
				}
				return nil
			}).Upgrade(&h)
		}
		if err != nil {
			response = AsRefusal(err).AppendTo(nil, p, now)
		}
		if !bytes.Equal(p, before) {
			t.Error("the head was changed")
		}
		response, continues := bytes.CutPrefix(response, []byte("HTTP/1.1 100 Continue\r\n\r\n"))
		if continues != (err == nil && h.expects) {
			t.Errorf("100 (Continue) is expected %v, sent %v", h.expects, continues)
		}
		r, _ := parse(t, p, response)
		switch {
		case err == nil && (!asked || r.StatusCode != http.StatusSwitchingProtocols || !h.IsUpgrade()):
			t.Errorf("asked is %v, no error, but %q", asked, response)
		case err != nil && (r.StatusCode < 400 || r.StatusCode == 500):
			t.Errorf("error %v, but %q", err, response)
		}
		if CheckResponse(p) == nil && !bytes.Contains(p, []byte(clientAccept)) {
			t.Error("a response without the accept is right")
		}
	})
}

// compare checks that net/http agrees on an accepted head.
func compare(t *testing.T, h *Head, p []byte) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p)))
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", p, err)
	}
	path := r.URL.Path
	if path == "" {
		path = "/"
	}
	if r.Method != string(h.Method) || r.RequestURI != string(h.Target) || r.Host != h.Authority() || path != h.URL.Path {
		t.Errorf("%q: %s %s of %s here, %s %s of %s there", p, h.Method, h.Target, h.Authority(), r.Method, r.RequestURI, r.Host)
	}
	if r.ContentLength != 0 {
		t.Errorf("%q: there it has a body", p)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		t.Errorf("%q: the method is taken", p)
	}
	for name, got := range map[string]struct {
		last  []byte
		times uint16
	}{"Sec-Websocket-Key": {h.key, h.keys}, "Sec-Websocket-Version": {h.version, h.versions}, "Origin": {h.origin, h.origins}} {
		there := r.Header[name]
		if len(there) != int(got.times) || got.times > 0 && there[len(there)-1] != string(got.last) {
			t.Errorf("%q: %s is %q, %d times, here, and %q there", p, name, got.last, got.times, there)
		}
	}
}
