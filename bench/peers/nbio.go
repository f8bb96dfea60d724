package main

import (
	"net/http"

	"github.com/lesismal/nbio/logging"
	"github.com/lesismal/nbio/nbhttp"
	"github.com/lesismal/nbio/nbhttp/websocket"
)

// serveNbio serves all connections from the poller, as its README advises for many of them, with messages handled on
// the poller's goroutine instead of a pool's: what is done with them does not block.
func serveNbio(addr string) error {
	logging.SetLevel(logging.LevelError)
	room := newRoom[*websocket.Conn]()
	echo, broadcast := websocket.NewUpgrader(), websocket.NewUpgrader()
	echo.OnMessage(func(c *websocket.Conn, kind websocket.MessageType, p []byte) { c.WriteMessage(kind, p) })
	broadcast.OnOpen(room.join)
	broadcast.OnClose(func(c *websocket.Conn, _ error) { room.leave(c) })
	broadcast.OnMessage(func(_ *websocket.Conn, kind websocket.MessageType, p []byte) {
		room.each(func(c *websocket.Conn) { c.WriteMessage(kind, p) })
	})
	mux := &http.ServeMux{}
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { echo.Upgrade(w, r, nil) })
	mux.HandleFunc("/broadcast", func(w http.ResponseWriter, r *http.Request) { broadcast.Upgrade(w, r, nil) })
	engine := nbhttp.NewEngine(nbhttp.Config{
		Network: "tcp", Addrs: []string{addr}, Handler: mux, MaxLoad: 1_000_000, NPoller: 1,
		IOMod: nbhttp.IOModNonBlocking, ReleaseWebsocketPayload: true, ServerExecutor: func(f func()) { f() },
	})
	if err := engine.Start(); err != nil {
		return err
	}
	select {}
}
