package main

import (
	"context"
	"net/http"

	"github.com/coder/websocket"
)

// serveCoder has a goroutine for each connection.
func serveCoder(addr string) error {
	ctx := context.Background()
	room := newRoom[*websocket.Conn]()
	return serveHTTP(addr, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			kind, p, err := conn.Read(ctx)
			if err != nil {
				return
			}
			if conn.Write(ctx, kind, p) != nil {
				return
			}
		}
	}, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		room.join(conn)
		defer room.leave(conn)
		for {
			kind, p, err := conn.Read(ctx)
			if err != nil {
				return
			}
			room.each(func(c *websocket.Conn) { c.Write(ctx, kind, p) })
		}
	})
}
