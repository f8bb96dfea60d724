package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"roverd/netpoll"
	"roverd/server/websocket"
)

// proxies are those whose word is taken for whom they pass on: trusted_proxies.
type proxies []proxy

// proxy is an address, or a network of them.
type proxy netip.Prefix

func (p *proxy) UnmarshalText(text []byte) error {
	s := string(text)
	addr, err := netip.ParseAddr(s)
	if err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		*p = proxy(netip.PrefixFrom(addr, addr.BitLen()))
		return nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil || prefix.Masked() != prefix || prefix.Addr().Is4In6() {
		return fmt.Errorf("%q is no address and no network: want them as in 127.0.0.1 or 10.0.0.0/8", s)
	}
	*p = proxy(prefix)
	return nil
}

// Set reads the flag.
func (p *proxies) Set(list string) error {
	var all proxies
	if list == "" {
		*p = nil
		return nil
	}
	for s := range strings.SplitSeq(list, ",") {
		var one proxy
		if err := one.UnmarshalText([]byte(strings.TrimSpace(s))); err != nil {
			return err
		}
		all = append(all, one)
	}
	*p = all
	return nil
}

func (p *proxies) String() string {
	var all []string
	for _, one := range *p {
		all = append(all, netip.Prefix(one).String())
	}
	return strings.Join(all, ",")
}

func (p proxies) trust(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(one proxy) bool { return netip.Prefix(one).Contains(addr) })
}

// origin is where a request comes from, as far as can be told.
type origin struct {
	addr   netip.Addr // of the client
	host   string     // that it means, and perhaps a port
	secure bool       // it speaks TLS
}

// origin tells where a request comes from that peer sent, over TLS or not, to host; values returns those of a field.
func (p proxies) origin(peer netip.Addr, secure bool, host string, values func(string) []string) origin {
	o := origin{addr: peer, host: host, secure: secure}
	if !p.trust(peer) {
		return o
	}
	o.addr = p.client(peer, values("X-Forwarded-For"))
	if hosts := values("X-Forwarded-Host"); len(hosts) == 1 && websocket.IsHost(hosts[0]) {
		o.host = hosts[0]
	}
	if protos := values("X-Forwarded-Proto"); len(protos) == 1 {
		o.secure = strings.EqualFold(protos[0], "https") || strings.EqualFold(protos[0], "wss")
	}
	return o
}

// client returns the address nearest to us for which no trusted proxy stands: each proxy adds at the end from whom it got
// the request, and what stands before is hearsay. Where the words end to make sense the last proxy counts.
func (p proxies) client(peer netip.Addr, fields []string) netip.Addr {
	words := strings.Split(strings.Join(fields, ","), ",")
	for _, word := range slices.Backward(words) {
		addr, err := forwardedAddr(word)
		if err != nil {
			break
		}
		if peer = addr; !p.trust(peer) {
			break
		}
	}
	return peer
}

// forwardedAddr reads an address as proxies write it: with and without a port, IPv6 with and without brackets.
func forwardedAddr(s string) (netip.Addr, error) {
	s = strings.Trim(s, " \t")
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at.Addr().Unmap().WithZone(""), nil
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	addr, err := netip.ParseAddr(s)
	return addr.Unmap().WithZone(""), err
}

// enter lets a connection in. A trusted proxy's counts for nobody before a request tells for whom, see identify.
func (s *server) enter(from netip.Addr) (place uint32, err error) {
	if s.cfg.Proxies.trust(from) {
		from = netip.Addr{}
	}
	return s.gate.enter(from, time.Now())
}

var errUntrusted = errors.New("all its clients pass for one, with its tokens that are wrong: name it with -trusted-proxies")

// identify finds out from whom a guest's request comes, and counts it for them.
func (g *guest) identify(c *netpoll.Conn, head *websocket.Head) error {
	srv := g.deck.srv
	o := srv.cfg.Proxies.origin(g.from, c.Layer() != nil, head.Authority(), head.Values)
	if o.addr.IsLoopback() && len(head.Values("X-Forwarded-For")) > 0 && !srv.cfg.Proxies.trust(o.addr) {
		srv.complain("a proxy on this computer is not trusted", errUntrusted, c)
	}
	if o.host != head.Authority() {
		head.SetAuthority(o.host)
	}
	if o.addr == g.from || srv.cfg.Proxies.trust(o.addr) {
		return nil
	}
	place, err := srv.gate.move(g.place, o.addr, time.Now())
	if err != nil {
		return unavailable(err.Error())
	}
	g.place, g.from = place, o.addr
	srv.proxied.Store(c, o.addr)
	return nil
}

// originOf tells where a request of net/http's comes from.
func (s *server) originOf(r *http.Request) origin {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr) // else it is the zero Addr, which is nobody's
	return s.cfg.Proxies.origin(peer.Addr().Unmap(), r.TLS != nil, r.Host, r.Header.Values)
}

// clientOf returns the address of a WebSocket's client; the zero Addr when it has hung up.
func (s *server) clientOf(c *netpoll.Conn) netip.Addr {
	if client, ok := s.proxied.Load(c); ok {
		return client.(netip.Addr)
	}
	return c.Peer().Addr()
}
