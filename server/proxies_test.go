package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestTrustedProxies(t *testing.T) {
	for list, want := range map[string]string{ // "" is an error
		"127.0.0.1": "127.0.0.1/32", "::1": "::1/128", "10.0.0.0/8, 192.0.2.1": "10.0.0.0/8,192.0.2.1/32",
		"2001:db8::/32": "2001:db8::/32", "::ffff:192.0.2.1": "192.0.2.1/32",
		",": "", "localhost": "", "10.0.0.1/8": "", "10.0.0.0/33": "", "fe80::1%eth0": "", "::ffff:10.0.0.0/104": "", "127.0.0.1:80": "",
	} {
		cfg, err := loadConfig([]string{"-trusted-proxies", list}, noEnv)
		if got := ""; err == nil {
			if got = cfg.Proxies.String(); got != want {
				t.Errorf("%q is %q, want %q", list, got, want)
			}
		} else if want != "" || !strings.Contains(err.Error(), "trusted") {
			t.Errorf("%q: %v", list, err)
		}
	}
	cfg, err := loadConfig([]string{"-config", write(t, `trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]`)}, noEnv)
	if err != nil || cfg.Proxies.String() != "127.0.0.1/32,10.0.0.0/8" {
		t.Errorf("from the file: %q, %v", &cfg.Proxies, err)
	}
	if _, err := loadConfig([]string{"-config", write(t, `trusted_proxies = ["10.0.0.1/8"]`)}, noEnv); err == nil || !strings.Contains(err.Error(), ":1:") {
		t.Errorf("a bad one in the file: %v", err)
	}
}

func TestOrigin(t *testing.T) {
	var trusted proxies
	if err := trusted.Set("127.0.0.1,10.0.0.0/8,2001:db8:1::/48"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		peer   string
		tls    bool
		fields string
		want   string // address, host, secure
	}{
		// Nobody's word is taken but a proxy's.
		{"192.0.2.1", false, "", "192.0.2.1 x false"},
		{"192.0.2.1", true, "X-Forwarded-For: 198.51.100.1;X-Forwarded-Proto: http;X-Forwarded-Host: y", "192.0.2.1 x true"},
		{"127.0.0.2", false, "X-Forwarded-For: 198.51.100.1;X-Forwarded-Proto: https", "127.0.0.2 x false"},
		{"::1", false, "X-Forwarded-For: 198.51.100.1", "::1 x false"},
		{"127.0.0.1", false, "", "127.0.0.1 x false"},
		// The rightmost that is no proxy's, however it is written.
		{"127.0.0.1", false, "X-Forwarded-For: 192.0.2.1", "192.0.2.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For: 203.0.113.9, 192.0.2.1", "192.0.2.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For: 203.0.113.9;X-Forwarded-For: 192.0.2.1", "192.0.2.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.1.2.3,10.0.0.1", "192.0.2.1 x false"},
		{"10.9.9.9", false, "X-Forwarded-For: 192.0.2.1:4711", "192.0.2.1 x false"},
		{"10.9.9.9", false, "X-Forwarded-For: \t 192.0.2.1 ", "192.0.2.1 x false"},
		{"2001:db8:1::1", false, "X-Forwarded-For: 2001:db8:2::1", "2001:db8:2::1 x false"},
		{"2001:db8:1::1", false, "X-Forwarded-For: [2001:db8:2::1]", "2001:db8:2::1 x false"},
		{"2001:db8:1::1", false, "X-Forwarded-For: [2001:db8:2::1]:80, [2001:db8:1::2]:80", "2001:db8:2::1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For: ::ffff:192.0.2.1", "192.0.2.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For: fe80::1%eth0", "fe80::1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For: 10.0.0.7, 10.0.0.8", "10.0.0.7 x false"},
		// Garbage ends what is believed.
		{"127.0.0.1", false, "X-Forwarded-For: unknown", "127.0.0.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For: 192.0.2.1, unknown", "127.0.0.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For: 192.0.2.1, , 10.0.0.1", "10.0.0.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For: 192.0.2.1:x", "127.0.0.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For: [192.0.2.1", "127.0.0.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For: 192.0.2.1 192.0.2.2", "127.0.0.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-For:", "127.0.0.1 x false"},
		// How the client spoke to it, and to whom it meant to speak.
		{"127.0.0.1", false, "X-Forwarded-Proto: https", "127.0.0.1 x true"},
		{"127.0.0.1", false, "X-Forwarded-Proto: WSS", "127.0.0.1 x true"},
		{"127.0.0.1", true, "X-Forwarded-Proto: http", "127.0.0.1 x false"},
		{"127.0.0.1", true, "", "127.0.0.1 x true"},
		{"127.0.0.1", false, "X-Forwarded-Proto: https;X-Forwarded-Proto: http", "127.0.0.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-Host: rover.example:8443", "127.0.0.1 rover.example:8443 false"},
		{"127.0.0.1", false, "X-Forwarded-Host: a b", "127.0.0.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-Host: a;X-Forwarded-Host: b", "127.0.0.1 x false"},
		{"127.0.0.1", false, "X-Forwarded-Host:", "127.0.0.1 x false"},
	} {
		h := http.Header{}
		for field := range strings.SplitSeq(tt.fields, ";") {
			if name, value, ok := strings.Cut(field, ":"); ok {
				h.Add(name, strings.TrimSpace(value))
			}
		}
		o := trusted.origin(netip.MustParseAddr(tt.peer), tt.tls, "x", h.Values)
		if got := fmt.Sprint(o.addr, " ", o.host, " ", o.secure); got != tt.want {
			t.Errorf("from %s with %q: %s, want %s", tt.peer, tt.fields, got, tt.want)
		}
	}
}

// upgradeFrom asks for a WebSocket from one of this computer's addresses, and returns the answer's status.
func upgradeFrom(t *testing.T, from, to, path, fields string) (net.Conn, int) {
	t.Helper()
	conn := dialFrom(t, from, to, []byte(upgradeTo(path, fields)))
	conn.SetDeadline(time.Now().Add(hangTime))
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	return conn, r.StatusCode
}

// The limits hold for the clients and not for their proxy, and the log names them.
func TestBehindTrustedProxy(t *testing.T) {
	addr, log := start(t, "-trusted-proxies", "127.0.0.2", "-max-per-addr", "2", "-echo")
	var conns []net.Conn
	for _, tt := range []struct {
		from, client string
		want         int
	}{
		{"127.0.0.2", "192.0.2.1", 101}, {"127.0.0.2", "192.0.2.1", 101}, {"127.0.0.2", "192.0.2.1", 503},
		{"127.0.0.2", "192.0.2.7", 101}, {"127.0.0.2", "192.0.2.1, 192.0.2.7", 101}, {"127.0.0.2", "192.0.2.8, 192.0.2.7", 503},
		{"127.0.0.1", "192.0.2.1", 101}, // who is no proxy speaks for nobody
		{"127.0.0.2", "2001:db8::1", 101}, {"127.0.0.2", "2001:db8::2", 101}, {"127.0.0.2", "2001:db8::3", 503},
	} {
		conn, status := upgradeFrom(t, tt.from, addr, "/ws", "X-Forwarded-For: "+tt.client+"\r\n")
		if status != tt.want {
			t.Errorf("from %s for %s: %d, want %d", tt.from, tt.client, status, tt.want)
		}
		conns = append(conns, conn)
	}
	conns[0].Write([]byte("\xff\xff")) // no frame
	log.expect(t, `"for": "192.0.2.1"`)
	conns[0].Close()
	until(t, "the place is free", func() bool {
		conn, status := upgradeFrom(t, "127.0.0.2", addr, "/ws", "X-Forwarded-For: 192.0.2.1\r\n")
		if status != 101 {
			conn.Close()
		}
		return status == 101
	})
}

// Who comes through a proxy may connect from the page of the name by which they know it.
func TestOriginBehindTrustedProxy(t *testing.T) {
	addr, _ := start(t, "-trusted-proxies", "127.0.0.2")
	for _, tt := range []struct {
		from, fields string
		want         int
	}{
		{"127.0.0.2", "Origin: https://rover.example\r\nX-Forwarded-Host: rover.example\r\n", 101},
		{"127.0.0.2", "Origin: https://rover.example\r\n", 403},
		{"127.0.0.2", "Origin: https://elsewhere.example\r\nX-Forwarded-Host: rover.example\r\n", 403},
		{"127.0.0.1", "Origin: https://rover.example\r\nX-Forwarded-Host: rover.example\r\n", 403},
	} {
		if _, status := upgradeFrom(t, tt.from, addr, "/ws", tt.fields); status != tt.want {
			t.Errorf("from %s with %q: %d, want %d", tt.from, tt.fields, status, tt.want)
		}
	}
}

// A request of net/http's tells the same.
func TestOriginOfRequest(t *testing.T) {
	s := &server{cfg: &config{}}
	if err := s.cfg.Proxies.Set("192.0.2.0/24"); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "http://rover/", nil) // comes from 192.0.2.1
	r.Header.Set("X-Forwarded-For", "198.51.100.1")
	r.Header.Set("X-Forwarded-Proto", "https")
	if o := s.originOf(r); o.addr != netip.MustParseAddr("198.51.100.1") || !o.secure || o.host != "rover" {
		t.Errorf("%+v", o)
	}
	r = httptest.NewRequest("GET", "https://rover/", nil)
	r.RemoteAddr = "[::ffff:127.0.0.1]:80"
	if o := s.originOf(r); o.addr != netip.MustParseAddr("127.0.0.1") || !o.secure {
		t.Errorf("%+v", o)
	}
}

// Wrong tokens behind a proxy are held against who sends them and not against all of its clients, over HTTP as for
// WebSockets; and the cookie is for TLS only when the client speaks that.
func TestGuessesBehindTrustedProxy(t *testing.T) {
	const token = "0123456789abcdef"
	addr, log := start(t, "-trusted-proxies", "127.0.0.2", "-config", write(t, "[tokens]\ncontrol = \""+token+"\"\n"), "-open=false")
	get := func(client, token, fields string) *http.Response {
		t.Helper()
		request := "GET /?token=" + token + " HTTP/1.1\r\nHost: car.local\r\nConnection: close\r\nX-Forwarded-For: " + client + "\r\n" + fields + "\r\n"
		conn := dialFrom(t, "127.0.0.2", addr, []byte(request))
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(hangTime))
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	many := int(guesses.burst) + 20
	for range many {
		get("192.0.2.1", "wrong", "")
	}
	if r := get("192.0.2.1", token, ""); r.StatusCode != 429 {
		t.Errorf("who has guessed too often gets %d", r.StatusCode)
	}
	for fields, secure := range map[string]bool{"": false, "X-Forwarded-Proto: http\r\n": false, "X-Forwarded-Proto: https\r\n": true} {
		if r := get("192.0.2.2", token, fields); r.StatusCode != 303 || len(r.Cookies()) != 1 || r.Cookies()[0].Secure != secure {
			t.Errorf("with %q another gets %d, %v", fields, r.StatusCode, r.Cookies())
		}
	}
	for range many {
		conn, _ := upgradeFrom(t, "127.0.0.2", addr, "/ws", "X-Forwarded-For: 192.0.2.3\r\nAuthorization: Bearer wrong\r\n")
		conn.Close()
	}
	for client, want := range map[string]int{"192.0.2.3": 429, "192.0.2.4": 101} {
		if _, status := upgradeFrom(t, "127.0.0.2", addr, "/ws", "X-Forwarded-For: "+client+"\r\nAuthorization: Bearer "+token+"\r\n"); status != want {
			t.Errorf("%s gets %d, want %d", client, status, want)
		}
	}
	log.expect(t, `"addr": "192.0.2.3"`)
}

// A proxy on this computer that is not named is told of: its clients pass for one.
func TestUntrustedProxyIsToldOf(t *testing.T) {
	addr, log := start(t)
	upgradeFrom(t, "127.0.0.1", addr, "/ws", "X-Forwarded-For: 192.0.2.1\r\n")
	log.expect(t, "-trusted-proxies")
}
