package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"roverd/server/websocket"
	"roverd/web"
)

// maxHTTP is how many ordinary HTTP requests are served at a time; each has a goroutine, unlike the viewers.
const maxHTTP = 64

// checkUpgrade refuses WebSockets on other paths than / and /ws, and those that a page of another site opens: browsers
// let any page connect to any host, and without this any page could drive the car of whoever looks at it
// (RFC 6455 section 10.2). Clients that are not browsers send no Origin.
func checkUpgrade(r websocket.Request) error {
	path, _, _ := strings.Cut(r.Target, "?")
	if path != "/" && path != "/ws" {
		return &websocket.Refusal{Status: http.StatusNotFound, Reason: "no WebSocket at " + path + ": it is at / and /ws"}
	}
	if r.Origin != "" {
		origin, err := url.Parse(r.Origin)
		if err != nil || !strings.EqualFold(origin.Host, r.Host) {
			return &websocket.Refusal{Status: http.StatusForbidden,
				Reason: "a page from " + r.Origin + " may not connect to " + r.Host}
		}
	}
	return nil
}

// routes is what net/http serves.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(web.Files))
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(append(s.publisher.snapshot(), '\n'))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"status": "ok", "car": s.where, "version": version(), "goroutines": runtime.NumGoroutine(),
		})
	})
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade, close")
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this path speaks WebSocket: connect with a WebSocket client, or open / in a browser", http.StatusUpgradeRequired)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		// The picture may come from another server; all else is ours.
		h.Set("Content-Security-Policy", "default-src 'self'; img-src http: https:; connect-src 'self' ws: wss:; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		mux.ServeHTTP(w, r)
	})
}

// newHTTPServer serves s.routes. Connections carry one request each: a later one might be an upgrade, which belongs on
// the reactor.
func (s *server) newHTTPServer() *http.Server {
	h := &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: headTime,
		ReadTimeout:       headTime,
		WriteTimeout:      30 * time.Second,
		MaxHeaderBytes:    websocket.MaxHead,
		ErrorLog:          s.httpLog,
	}
	h.SetKeepAlivesEnabled(false)
	return h
}

// handover is a net.Listener whose connections come from the reactor.
type handover struct {
	addr  net.Addr
	conns chan net.Conn // has room for all that are reserved, so that giving never blocks
	done  chan struct{}
	once  sync.Once
	live  atomic.Int32
}

func newHandover(addr net.Addr) *handover {
	return &handover{addr: addr, conns: make(chan net.Conn, maxHTTP), done: make(chan struct{})}
}

// reserve takes one of the maxHTTP places; release gives it back.
func (h *handover) reserve() bool {
	if h.live.Add(1) > maxHTTP {
		h.live.Add(-1)
		return false
	}
	return true
}

func (h *handover) release() { h.live.Add(-1) }

// give passes a reserved connection on, with what has been read from it.
func (h *handover) give(fd int, read []byte) {
	f := os.NewFile(uintptr(fd), "http")
	conn, err := net.FileConn(f) // its own duplicate, in Go's poller
	f.Close()
	if err != nil {
		h.release()
		return
	}
	h.conns <- &handedConn{Conn: conn, from: h, read: read}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.addr }

// handedConn replays what the reactor had read.
type handedConn struct {
	net.Conn
	from *handover
	read []byte
	once sync.Once
}

func (c *handedConn) Read(p []byte) (int, error) {
	if len(c.read) > 0 {
		n := copy(p, c.read)
		c.read = c.read[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func (c *handedConn) Close() error {
	c.once.Do(c.from.release)
	return c.Conn.Close()
}

// serveHTTP runs h until stopHTTP.
func serveHTTP(h *http.Server, ln net.Listener) error {
	if err := h.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
