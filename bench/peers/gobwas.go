package main

import (
	"net"
	"net/http"
	"sync"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// gobwasConn is a connection with a lock for writing.
type gobwasConn struct {
	net.Conn
	mu sync.Mutex
}

// serveGobwas has a goroutine for each connection, as the first example of the library's README.
func serveGobwas(addr string) error {
	room := newRoom[*gobwasConn]()
	return serveHTTP(addr, func(w http.ResponseWriter, r *http.Request) {
		conn, _, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for {
				p, op, err := wsutil.ReadClientData(conn)
				if err != nil {
					return
				}
				if wsutil.WriteServerMessage(conn, op, p) != nil {
					return
				}
			}
		}()
	}, func(w http.ResponseWriter, r *http.Request) {
		raw, _, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			return
		}
		conn := &gobwasConn{Conn: raw}
		room.join(conn)
		go func() {
			defer conn.Close()
			defer room.leave(conn)
			for {
				p, op, err := wsutil.ReadClientData(conn)
				if err != nil {
					return
				}
				frame := ws.MustCompileFrame(ws.NewFrame(op, true, p)) // "compiled" once for all, as in its chat example
				room.each(func(c *gobwasConn) {
					c.mu.Lock()
					defer c.mu.Unlock()
					c.Write(frame)
				})
			}
		}()
	})
}
