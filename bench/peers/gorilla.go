package main

import (
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// gorillaConn is a connection with a lock, for it "supports one concurrent writer" (the package's documentation).
type gorillaConn struct {
	*websocket.Conn
	mu sync.Mutex
}

// serveGorilla has a goroutine for each connection, and sends prepared messages to all.
func serveGorilla(addr string) error {
	var upgrader websocket.Upgrader
	room := newRoom[*gorillaConn]()
	return serveHTTP(addr, func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			kind, p, err := conn.ReadMessage()
			if err != nil {
				return
			}
			if conn.WriteMessage(kind, p) != nil {
				return
			}
		}
	}, func(w http.ResponseWriter, r *http.Request) {
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		conn := &gorillaConn{Conn: ws}
		defer conn.Close()
		room.join(conn)
		defer room.leave(conn)
		for {
			kind, p, err := conn.ReadMessage()
			if err != nil {
				return
			}
			prepared, err := websocket.NewPreparedMessage(kind, p)
			if err != nil {
				return
			}
			room.each(func(c *gorillaConn) {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.WritePreparedMessage(prepared)
			})
		}
	})
}
