package main

import (
	"net"
	"sync"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/mailru/easygo/netpoll"
)

// easygoConn is a connection that a poller watches, read and written under a lock by whichever goroutine of the pool
// comes to it.
type easygoConn struct {
	net.Conn
	mu        sync.Mutex
	desc      *netpoll.Desc
	broadcast bool
}

// serveEasygo is the arrangement of the well-known article ("A Million WebSockets and Go") and of the chat in
// gobwas/ws-examples: a poller's callback hands each edge to a pool of goroutines, which reads one message.
func serveEasygo(addr string) error {
	poller, err := netpoll.New(nil)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	pool := newPool(128)
	room := newRoom[*easygoConn]()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		pool.schedule(func() {
			if err := easygoOpen(poller, pool, room, conn); err != nil {
				conn.Close()
			}
		})
	}
}

func easygoOpen(poller netpoll.Poller, pool pool, room *room[*easygoConn], conn net.Conn) error {
	c := &easygoConn{Conn: conn}
	u := ws.Upgrader{OnRequest: func(uri []byte) error {
		c.broadcast = string(uri) == "/broadcast"
		return nil
	}}
	if _, err := u.Upgrade(conn); err != nil {
		return err
	}
	desc, err := netpoll.HandleRead(conn)
	if err != nil {
		return err
	}
	c.desc = desc
	if c.broadcast {
		room.join(c)
	}
	end := func() {
		poller.Stop(desc)
		desc.Close()
		room.leave(c)
		conn.Close()
	}
	return poller.Start(desc, func(ev netpoll.Event) {
		if ev&(netpoll.EventReadHup|netpoll.EventHup) != 0 {
			end()
			return
		}
		pool.schedule(func() {
			if c.receive(pool, room) != nil {
				end()
			}
		})
	})
}

func (c *easygoConn) receive(pool pool, room *room[*easygoConn]) error {
	c.mu.Lock()
	p, op, err := wsutil.ReadClientData(c.Conn)
	if err == nil && !c.broadcast {
		err = wsutil.WriteServerMessage(c.Conn, op, p)
	}
	c.mu.Unlock()
	if err != nil || !c.broadcast {
		return err
	}
	frame := ws.MustCompileFrame(ws.NewFrame(op, true, p))
	room.each(func(c *easygoConn) {
		pool.schedule(func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.Conn.Write(frame)
		})
	})
	return nil
}

// pool is the example's: goroutines that are started when they are first needed, and a queue of one.
type pool struct {
	work    chan func()
	workers chan struct{}
}

func newPool(size int) pool { return pool{make(chan func(), 1), make(chan struct{}, size)} }

func (p pool) schedule(task func()) {
	select {
	case p.work <- task:
	case p.workers <- struct{}{}:
		go func() {
			for task(); ; {
				(<-p.work)()
			}
		}()
	}
}
