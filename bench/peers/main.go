// Command peers has the other WebSocket servers that roverd is compared with, each as its authors advise:
//
//	peers NAME -addr 127.0.0.1:9901
//
// All of them send back what comes over /echo, and send on what comes over /broadcast to all who are connected there,
// the sender included. raw/raw.c is the same without a protocol, compare measures them all. (uWebSockets is not among
// them: it is C++ and not in a package that could be named here by its version.)
package main

import (
	"flag"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
)

// A peer serves addr and returns only with an error.
var peers = map[string]func(addr string) error{
	"gobwas-easygo": serveEasygo,
	"gobwas":        serveGobwas,
	"gws":           serveGWS,
	"gnet":          serveGnet,
	"nbio":          serveNbio,
	"gorilla":       serveGorilla,
	"coder":         serveCoder,
}

func main() {
	if len(os.Args) < 2 || peers[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: peers NAME -addr HOST:PORT, where NAME is one of:",
			strings.Join(slices.Sorted(maps.Keys(peers)), ", "))
		os.Exit(2)
	}
	flags := flag.NewFlagSet("peers "+os.Args[1], flag.ExitOnError)
	addr := flags.String("addr", "127.0.0.1:9901", "listen on this `host:port`")
	flags.Parse(os.Args[2:])
	err := peers[os.Args[1]](*addr)
	fmt.Fprintf(os.Stderr, "peers %s: %v\n", os.Args[1], err)
	os.Exit(1)
}

// serveHTTP serves the two paths with net/http.
func serveHTTP(addr string, echo, broadcast http.HandlerFunc) error {
	http.HandleFunc("/echo", echo)
	http.HandleFunc("/broadcast", broadcast)
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return http.Serve(ln, nil)
}

// room is who is connected to /broadcast.
type room[C comparable] struct {
	mu    sync.Mutex
	conns map[C]struct{}
}

func newRoom[C comparable]() *room[C] { return &room[C]{conns: map[C]struct{}{}} }

func (r *room[C]) join(c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = struct{}{}
}

func (r *room[C]) leave(c C) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

// each calls f for all who are there. One broadcast is under way at a time, so that all get them in the same order.
func (r *room[C]) each(f func(C)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		f(c)
	}
}
