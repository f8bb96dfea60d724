package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// testCertificate writes a certificate for this computer, valid until then, and its key, and returns who trusts it.
func testCertificate(t testing.TB, until time.Time) (certFile, keyFile string, trust *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "rover"}, NotBefore: until.Add(-24 * time.Hour), NotAfter: until,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, text := range map[string][]byte{certFile: cert, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(cert)
	return certFile, keyFile, &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// startTLS is startServer with TLS.
func startTLS(t testing.TB, args ...string) (s *server, addr string, trust *tls.Config) {
	t.Helper()
	cert, key, trust := testCertificate(t, time.Now().Add(time.Hour))
	s, addr = startServer(t, append([]string{"-tls-cert", cert, "-tls-key", key}, args...)...)
	return s, addr, trust
}

// dialTLS is dialHTTP over TLS.
func dialTLS(t *testing.T, addr string, config *tls.Config) *httpClient {
	t.Helper()
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(&tap{Conn: raw}, config)
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(hangTime))
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return &httpClient{t, conn, bufio.NewReader(conn)}
}

// dialWSS is dialRaw over TLS; wrap stands between TLS and TCP.
func dialWSS(t *testing.T, addr, path string, config *tls.Config, wrap func(net.Conn) net.Conn) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hangTime)
	defer cancel()
	d := ws.Dialer{TLSConfig: config}
	if wrap != nil {
		d.NetDial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return wrap(conn), nil
		}
	}
	conn, early, _, err := d.Dial(ctx, "wss://"+addr+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return newClient(t, conn, early)
}

// tap remembers what is read.
type tap struct {
	net.Conn
	in []byte
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.in = append(t.in, p[:n]...)
	return n, err
}

// expectCloseNotify wants the last record to be an alert. (crypto/tls does without: it takes an end between two records as
// well.) In TLS 1.3 it looks like any other, but nothing else that the server says is so short: two bytes, their type and
// the tag of AES-GCM.
func (t *tap) expectCloseNotify(test *testing.T, version uint16) {
	test.Helper()
	const alert, short = 21, 2 + 1 + 16
	kind, length := byte(0), 0
	for p := t.in; len(p) >= 5; p = p[min(len(p), 5+length):] {
		kind, length = p[0], int(p[3])<<8|int(p[4])
	}
	if version == tls.VersionTLS12 && kind != alert || version == tls.VersionTLS13 && length != short {
		test.Errorf("%s ends with a record of type %d and %d bytes", tls.VersionName(version), kind, length)
	}
}

// only is a copy of the config for one version of TLS.
func only(config *tls.Config, version uint16) *tls.Config {
	config = config.Clone()
	config.MinVersion, config.MaxVersion = version, version
	return config
}

var tlsVersions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

// empty waits until nobody is in.
func (s *server) empty(t *testing.T) {
	t.Helper()
	until(t, "the gate is free", func() bool {
		s.gate.mu.Lock()
		defer s.gate.mu.Unlock()
		return s.gate.in == 0
	})
}

// Pages and WebSockets come over TLS as they do without, and the connection's end is announced by close_notify.
func TestTLS(t *testing.T) {
	s, addr, trust := startTLS(t, "-echo", "-loops", "2")
	for name, version := range tlsVersions {
		t.Run(name, func(t *testing.T) {
			trust := only(trust, version)
			c := dialTLS(t, addr, trust)
			for range 3 {
				if r, body := c.ask("GET", "/state", ""); r.StatusCode != 200 || !strings.Contains(body, `"op":"state"`) || r.Close {
					t.Errorf("the state is %d, %q", r.StatusCode, body)
				}
			}
			if r, body := c.ask("GET", "https://x/state", ""); r.StatusCode != 200 || r.Close {
				t.Errorf("net/http does not know that it is TLS: %d, %q", r.StatusCode, body)
			}
			if r, body := c.ask("GET", "/", ""); r.StatusCode != 200 || !strings.Contains(body, "<title>") {
				t.Errorf("the page is %d, %q", r.StatusCode, body)
			}
			if r, _ := c.ask("GET", "/", "Connection: close\r\n"); r.StatusCode != 200 {
				t.Errorf("the page is %d", r.StatusCode)
			}
			c.expectEnd()
			c.conn.(*tls.Conn).NetConn().(*tap).expectCloseNotify(t, version)
			if state := c.conn.(*tls.Conn).ConnectionState(); state.Version != version || state.NegotiatedProtocol != "" {
				t.Errorf("%s, protocol %q", tls.VersionName(state.Version), state.NegotiatedProtocol)
			}

			var wire *tap
			driver := dialWSS(t, addr, "/", trust, func(conn net.Conn) net.Conn {
				wire = &tap{Conn: conn}
				return wire
			})
			driver.expect("welcome", func(m message) bool { return m.Op == "welcome" && m.Role == "control" })
			driver.send("up")
			driver.expectState("driving", func(m message) bool { return m.Motion.Left == 1 })
			driver.expectState("stopped", func(m message) bool { return m.Cause == "ttl" })
			driver.sendFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
			driver.expectClose(ws.StatusNormalClosure)
			wire.expectCloseNotify(t, version)
		})
	}
	s.empty(t)
}

// The only protocol that is agreed on is HTTP/1.1, and no version of TLS before 1.2.
func TestTLSNegotiation(t *testing.T) {
	_, addr, trust := startTLS(t)
	for _, tt := range []struct {
		name    string
		version uint16
		offers  []string
		want    string // "" is a refusal
	}{
		{"browser", tls.VersionTLS13, []string{"h2", "http/1.1"}, "http/1.1"},
		{"old browser", tls.VersionTLS12, []string{"http/1.1"}, "http/1.1"},
		{"HTTP/2 only", tls.VersionTLS13, []string{"h2"}, ""},
		{"TLS 1.1", tls.VersionTLS11, nil, ""},
	} {
		config := only(trust, tt.version)
		config.NextProtos = tt.offers
		conn, err := tls.Dial("tcp", addr, config)
		if err != nil {
			var alert tls.AlertError
			if tt.want != "" || !strings.Contains(err.Error(), "remote error") && !errors.As(err, &alert) {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if got := conn.ConnectionState().NegotiatedProtocol; got != tt.want || tt.want == "" {
			t.Errorf("%s: agreed on %q, want %q", tt.name, got, tt.want)
		}
		conn.Close()
	}
}

// drip sends each byte by itself.
type drip struct{ net.Conn }

func (d drip) Write(p []byte) (n int, err error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// However TCP cuts the records, and however little the client takes at a time, all messages come back whole.
func TestTLSAnyPortions(t *testing.T) {
	s, addr, trust := startTLS(t, "-echo")
	for name, version := range tlsVersions {
		c := dialWSS(t, addr, "/echo", only(trust, version), func(conn net.Conn) net.Conn { return drip{conn} })
		for n := range 100 {
			c.sendFrame(ws.NewBinaryFrame(bytes.Repeat([]byte{byte(n)}, n)))
		}
		for n := range 100 {
			if f, err := c.frame(); err != nil || !bytes.Equal(f.Payload, bytes.Repeat([]byte{byte(n)}, n)) {
				t.Fatalf("%s: frame %d: %d bytes, %v", name, n, len(f.Payload), err)
			}
		}
		c.conn.Close()

		c = dialWSS(t, addr, "/echo", only(trust, version), func(conn net.Conn) net.Conn {
			conn.(*net.TCPConn).SetReadBuffer(64 << 10)
			return conn
		})
		const rounds = 2
		large := []byte(fill(ws.OpBinary, maxEcho))
		sent := make(chan error)
		go func() {
			for range rounds {
				if err := ws.WriteFrame(c.conn, ws.MaskFrame(ws.NewBinaryFrame(large))); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		for range rounds {
			f, err := c.frame()
			if err != nil || !bytes.Equal(f.Payload, large) {
				t.Fatalf("%s: %d bytes, %v", name, len(f.Payload), err)
			}
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		c.conn.Close()
	}
	s.empty(t)
}

// A connection that carried ordinary requests may ask for a WebSocket, with TLS as without, whether or not its client
// waits for the answers.
func TestKeptTLSConnectionBecomesWebSocket(t *testing.T) {
	s, addr, trust := startTLS(t, "-echo")
	echoed := string(ws.MustCompileFrame(ws.NewTextFrame([]byte("Hello"))))
	for name, version := range tlsVersions {
		for _, waits := range []bool{true, false} {
			for _, tt := range []struct {
				target string
				status int
			}{{"/echo", 101}, {"https://x/echo", 101}, {"wss://x/echo", 101}, {"/nowhere", 404}, {"http://x/echo", 421}} {
				c := dialTLS(t, addr, only(trust, version))
				request := strings.Replace(upgradeTo("/echo", ""), "/echo", tt.target, 1) + hello + hello
				if waits {
					for range 3 {
						c.ask("GET", "/state", "")
					}
					c.send(request)
				} else {
					c.send(getState + getState + getState + request)
					for range 3 {
						c.answer("GET")
					}
				}
				r, err := http.ReadResponse(c.in, nil)
				if err != nil || r.StatusCode != tt.status {
					t.Fatalf("%s, %s: %v, %v", name, tt.target, r, err)
				}
				if tt.status == 101 {
					got := make([]byte, 2*len(echoed))
					if _, err := io.ReadFull(c.in, got); err != nil || string(got) != echoed+echoed {
						t.Errorf("%s, %s: then %q, %v", name, tt.target, got, err)
					}
					c.send(hello)
					if _, err := io.ReadFull(c.in, got[:len(echoed)]); err != nil || string(got[:len(echoed)]) != echoed {
						t.Errorf("%s, %s: then %q, %v", name, tt.target, got, err)
					}
				} else if _, err := io.Copy(io.Discard, r.Body); err != nil {
					t.Error(err)
				}
				c.conn.Close()
			}
		}
	}
	s.empty(t)
	until(t, "all places are free", func() bool { return s.handover.live.Load() == 0 })
}

// Two who each send half a record don't get into each other's way, and what stands behind the first request, more than
// any buffer has held before, goes to net/http with it.
func TestTLSPartialRecords(t *testing.T) {
	s, addr, trust := startTLS(t, "-echo", "-loops", "1")
	gathering := func(path string) (*client, *gather) {
		g := &gather{}
		c := dialWSS(t, addr, path, trust, func(conn net.Conn) net.Conn {
			g.Conn = conn
			return g
		})
		g.gathering = true
		return c, g
	}
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	g := &gather{Conn: raw}
	conn := tls.Client(g, trust)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(hangTime))
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	g.gathering = true
	h := &httpClient{t, conn, bufio.NewReader(conn)}
	h.send(getState)
	h.send(strings.Repeat(getNowhere, 300))
	g.Conn.Write(g.all)
	h.answer("GET")
	for range 300 {
		h.answer("GET")
	}

	first, toFirst := gathering("/echo")
	second, toSecond := gathering("/echo")
	for i := range 20 {
		one, two := strings.Repeat("a", 100+i), strings.Repeat("b", 300-i)
		first.send(one)
		second.send(two)
		for _, step := range []struct {
			to   *gather
			from int
			end  int
		}{{toFirst, 0, 7 * i}, {toSecond, 0, 11 * i}, {toFirst, 7 * i, len(toFirst.all)}, {toSecond, 11 * i, len(toSecond.all)}} {
			step.to.Conn.Write(step.to.all[step.from:step.end])
			on(s.decks[0], func() {}) // a turn for it
			on(s.decks[0], func() {})
		}
		toFirst.all, toSecond.all = nil, nil
		for c, want := range map[*client]string{first: one, second: two} {
			if f, err := c.frame(); err != nil || string(f.Payload) != want {
				t.Fatalf("%q came back, %v", f.Payload, err)
			}
		}
	}
}

// Who says close_notify is answered with it, behind what it is owed, and is gone: a driver's car stops.
func TestCloseNotify(t *testing.T) {
	s, addr, trust := startTLS(t, "-echo")
	watcher := dialWSS(t, addr, "/", trust, nil)
	var wire *tap
	driver := dialWSS(t, addr, "/", only(trust, tls.VersionTLS12), func(conn net.Conn) net.Conn {
		wire = &tap{Conn: conn}
		return wire
	})
	driver.send("up")
	watcher.expectState("driving", func(m message) bool { return m.Motion.Left == 1 })
	driver.conn.(*tls.Conn).CloseWrite()
	watcher.expectState("stopped", func(m message) bool { return m.Cause == "disconnect" && m.Driver == "" })
	if _, err := io.Copy(io.Discard, driver.in); err != nil {
		t.Error(err)
	}
	wire.expectCloseNotify(t, tls.VersionTLS12)

	// In one segment with the last message.
	var gathered *gather
	c := dialWSS(t, addr, "/echo", trust, func(conn net.Conn) net.Conn {
		gathered = &gather{Conn: conn}
		return gathered
	})
	gathered.gathering = true
	c.send("last words")
	c.conn.(*tls.Conn).CloseWrite()
	gathered.Conn.SetWriteDeadline(time.Time{}) // which CloseWrite has let pass
	if _, err := gathered.Conn.Write(gathered.all); err != nil {
		t.Fatal(err)
	}
	if f, err := c.frame(); err != nil || string(f.Payload) != "last words" {
		t.Errorf("the echo is %q, %v", f.Payload, err)
	}
	if rest, err := io.ReadAll(c.in); len(rest) > 0 || err != nil {
		t.Errorf("then came %q, %v", rest, err)
	}
	watcher.conn.Close()
	s.empty(t)
}

// What a client has to say may come right behind the last of its handshake, however much it is.
func TestTLSUploadBehindHandshake(t *testing.T) {
	s, addr, trust := startTLS(t)
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	raw.SetDeadline(time.Now().Add(hangTime))
	g := &gather{Conn: raw}
	config := only(trust, tls.VersionTLS13)
	config.VerifyConnection = func(tls.ConnectionState) error { // the ClientHello has gone
		g.gathering = true
		return nil
	}
	conn := tls.Client(g, config)
	defer conn.Close()
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	const size = 3 << 20
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", size)
	conn.Write(make([]byte, size))
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		raw.Write(g.all) // the server need not take it all
	}()
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("the answer is %s", r.Status)
	}
	raw.Close()
	<-sent
	s.empty(t)
}

// gather keeps what is written.
type gather struct {
	net.Conn
	gathering bool
	all       []byte
}

func (g *gather) Write(p []byte) (int, error) {
	if !g.gathering {
		return g.Conn.Write(p)
	}
	g.all = append(g.all, p...)
	return len(p), nil
}
