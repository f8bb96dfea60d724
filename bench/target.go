package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"

	"roverd/server/websocket"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// portsPerSource is how many connections to one server leave from one source address. Linux has about 28,000 ports for
// them (ip(7), ip_local_port_range), but connect(2) looks for a free one among the even half first: once those 14,000
// are taken, every connect walks over all of them, and 2000 connects a second keep a core busy.
const portsPerSource = 10_000

// target is the server, its name already resolved.
type target struct {
	addr    netip.AddrPort
	host    string // as in the URL: what the Host header says
	token   string // "" is none
	request []byte // the opening handshake; nil with raw
	raw     int    // size of a message over plain TCP; 0 is a WebSocket
	ask     []byte // what is sent over plain TCP, where it is not such a message: see get
}

// resolve reads the server's URL.
func resolve(ctx context.Context, o *options) (*target, error) {
	raw := o.url
	u, err := url.Parse(raw)
	if err == nil && (u.Scheme == "wss" || u.Scheme == "https") {
		return nil, usage("URL %q: bench speaks no TLS: have roverd serve without (leave out -tls-cert), and give ws://", withoutSecrets(raw))
	}
	if err != nil || u.Scheme != "ws" && u.Scheme != "http" || u.Hostname() == "" {
		return nil, usage("URL %q: want ws://host:port/path (or http://, which means the same)", raw)
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "80"), 10, 16)
	if err != nil || port == 0 {
		return nil, usage("URL %q: port %s: want 1 to 65535", raw, u.Port())
	}
	if u.Path == "" {
		u.Path = "/ws"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return nil, fmt.Errorf("URL %q: %w", raw, err)
	}
	addr := addrs[0].Unmap()
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() { // a server on all addresses has it, and its loopback has many source addresses
			addr = a
			break
		}
	}
	if near := addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast(); !near && !o.anywhere {
		return nil, usage("URL %q: %s is neither this machine nor in a private network, and a load test of somebody else's "+
			"server is an attack; if it is yours, say -anywhere", raw, addr)
	}
	t := &target{addr: netip.AddrPortFrom(addr, uint16(port)), host: u.Host, token: o.token}
	if o.raw {
		t.raw = o.size
		return t, nil
	}
	if o.get {
		return t, t.get(ctx, u.RequestURI())
	}
	t.request = websocket.AppendRequest(nil, u.Host, u.RequestURI())
	if o.token != "" { // one more field before the blank line
		t.request = append(t.request[:len(t.request)-len("\r\n")], authorization+": "+bearer+o.token+"\r\n\r\n"...)
	}
	return t, nil
}

// withoutSecrets is a URL as others may read it in a report: whoever has the token of one that roverd prints may drive.
func withoutSecrets(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	if q := u.Query(); q.Has("token") {
		q.Set("token", "...")
		u.RawQuery = q.Encode()
	}
	return u.Redacted()
}

// How a token is told (RFC 6750 section 2.1).
const (
	authorization = "Authorization"
	bearer        = "Bearer "
)

// frame returns what a client sends for a text. The mask is always the same: what it is for, to keep a script in a
// browser from choosing the bytes on the wire, does not concern a load tool.
func (t *target) frame(text []byte) []byte {
	switch {
	case t.ask != nil:
		return t.ask
	case t.raw > 0:
		return text
	}
	return websocket.AppendMasked(nil, ws.OpText, text, [4]byte{0x37, 0xfa, 0x21, 0x3d})
}

// filler returns a text of size bytes.
func filler(size int) []byte { return bytes.Repeat([]byte{'x'}, size) }

// sources returns the addresses from which n connections leave in turn; the zero Addr lets the kernel choose.
func (t *target) sources(n int) []netip.Addr {
	if n <= portsPerSource || !t.addr.Addr().Is4() || !t.addr.Addr().IsLoopback() {
		return []netip.Addr{{}}
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1}) // all of 127.0.0.0/8 is this machine
	var all []netip.Addr
	for ; n > 0; n -= portsPerSource {
		all = append(all, addr)
		addr = addr.Next()
	}
	return all
}

// explain says in a person's words why a connection ended.
func (t *target) explain(err error) error {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("connection refused: is roverd running at %s?", t.addr)
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, io.EOF):
		return fmt.Errorf("the server at %s closed the connection without a word", t.addr)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("no port is left for another connection to %s: open fewer, or widen net.ipv4.ip_local_port_range", t.addr)
	}
	return err
}
