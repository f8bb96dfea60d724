package main

import (
	"encoding/json"
	"net/http"
	"runtime"
	"time"

	"roverd/server/websocket"
	"roverd/web"
)

// routes is what net/http serves.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /", newPage(web.Files))
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
	speaksWebSocket := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this path speaks WebSocket: connect with a WebSocket client, or open / in a browser", http.StatusUpgradeRequired)
	}
	mux.HandleFunc("GET /ws", speaksWebSocket)
	if s.cfg.Echo {
		mux.HandleFunc("GET /echo", speaksWebSocket)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		// The picture may come from another server; all else is ours.
		h.Set("Content-Security-Policy", "default-src 'self'; img-src http: https:; connect-src 'self' ws: wss:; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		// Of HTTP/1.0, net/http has dropped a Transfer-Encoding: who knows where the request ends (RFC 9112 section 6.1)?
		if s.handover.crowded() || !r.ProtoAtLeast(1, 1) {
			h.Set("Connection", "close")
		}
		if head := websocket.AppendHead(nil, r); isReactors(head) {
			if err := giveBack(w, head); err != nil {
				s.httpLog.Printf("give a kept connection back: %v", err)
			}
			return
		}
		if r.URL.Path == "" {
			r.URL.Path = "/" // of http://host (RFC 9110 section 4.2.3)
		}
		mux.ServeHTTP(w, r)
	})
}

// newHTTPServer serves s.routes.
func (s *server) newHTTPServer() *http.Server {
	return &http.Server{
		Handler:                      s.routes(),
		DisableGeneralOptionsHandler: true, // it would answer OPTIONS * by itself
		ReadHeaderTimeout:            headTime,
		ReadTimeout:                  headTime,
		WriteTimeout:                 30 * time.Second,
		IdleTimeout:                  idleTime,
		MaxHeaderBytes:               websocket.MaxHead - 4<<10, // net/http adds as much
		ErrorLog:                     s.httpLog,
	}
}
