package main

import (
	"net/http"

	"github.com/lxzan/gws"
)

// serveGWS has a goroutine for each connection, and the library's broadcaster. What its documentation advises beyond
// that is off: compression, because nobody else has it here, and parallel messages, which would come back out of order.
func serveGWS(addr string) error {
	echo := gws.NewUpgrader(&gwsEcho{}, nil)
	broadcast := gws.NewUpgrader(&gwsBroadcast{room: newRoom[*gws.Conn]()}, nil)
	upgrade := func(u *gws.Upgrader) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if conn, err := u.Upgrade(w, r); err == nil {
				go conn.ReadLoop() // "blocking prevents the context from being GC" (its README)
			}
		}
	}
	return serveHTTP(addr, upgrade(echo), upgrade(broadcast))
}

type gwsEcho struct{ gws.BuiltinEventHandler }

func (*gwsEcho) OnMessage(conn *gws.Conn, m *gws.Message) {
	defer m.Close()
	conn.WriteMessage(m.Opcode, m.Bytes())
}

type gwsBroadcast struct {
	gws.BuiltinEventHandler
	room *room[*gws.Conn]
}

func (h *gwsBroadcast) OnOpen(conn *gws.Conn) { h.room.join(conn) }

func (h *gwsBroadcast) OnClose(conn *gws.Conn, _ error) { h.room.leave(conn) }

func (h *gwsBroadcast) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	b := gws.NewBroadcaster(m.Opcode, append([]byte(nil), m.Bytes()...)) // it sends later
	defer b.Close()
	h.room.each(func(c *gws.Conn) { b.Broadcast(c) })
}
