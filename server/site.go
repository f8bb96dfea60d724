package main

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Which pages and names are ours. A browser tells by which name it has reached a server (Host) and which page made it do
// so (Origin); what is not a browser may say anything, but has nobody's cookies either.

// isFriend tells whether a page of an origin (RFC 6454 section 7; empty if it is no browser's) may connect to this
// server under the name host.
func (c *config) isFriend(origin, host string) bool {
	scheme, from, _ := strings.Cut(origin, "://")
	same := (scheme == "http" || scheme == "https") && strings.EqualFold(from, host) // nothing may follow the host
	return origin == "" || same || slices.ContainsFunc(c.Origins, func(o string) bool { return strings.EqualFold(o, origin) })
}

// isOurs tells whether the operator lets this server be called so. Without a list of names it may be called anything.
func (c *config) isOurs(host string) bool {
	name := hostName(host)
	return len(c.Hosts) == 0 || isLocalName(name) || slices.ContainsFunc(c.Hosts, func(h string) bool { return strings.EqualFold(h, name) })
}

// isOwnName tells whether a host can only be a name for this computer or one in its network. Any other may be that of a
// site which had it lead here after its page was loaded (DNS rebinding): browsers take the car for a part of that site
// then, and have its page drive in the name of whoever looks at it.
func isOwnName(host string) bool {
	name := hostName(host)
	for _, suffix := range [...]string{".local", ".lan", ".internal", ".home.arpa"} { // RFC 6762, RFC 8375
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	own, _ := os.Hostname()
	return isLocalName(name) || name != "" && !strings.Contains(name, ".") || strings.EqualFold(name, own)
}

// isLocalName tells whether a name is an IP address or localhost (RFC 6761 section 6.3): no site can have these.
func isLocalName(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil || name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// hostName returns a Host without its port.
func hostName(host string) string {
	name := strings.ToLower(host)
	if h, _, err := net.SplitHostPort(name); err == nil {
		return h
	}
	return strings.Trim(name, "[]")
}
