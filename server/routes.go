package main

import (
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
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
		upgradeRequired(w, "this path speaks WebSocket: connect with a WebSocket client, or open / in a browser")
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
		if s.handover.crowded() {
			h.Set("Connection", "close")
		}
		// What comes first on a connection is looked at by the reactor. Later it has let go of the connection.
		if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header.Get("Sec-WebSocket-Key") != "" {
			upgradeRequired(w, "open a new connection for a WebSocket: its first request must ask for it, with Upgrade: websocket")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// upgradeRequired answers with 426 and ends the connection.
func upgradeRequired(w http.ResponseWriter, reason string) {
	w.Header()["Connection"] = []string{"close", "Upgrade"} // net/http looks for "close" in the first only
	w.Header().Set("Upgrade", "websocket")
	http.Error(w, reason, http.StatusUpgradeRequired)
}

// newHTTPServer serves s.routes.
func (s *server) newHTTPServer() *http.Server {
	return &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: headTime,
		ReadTimeout:       headTime,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    websocket.MaxHead,
		ErrorLog:          s.httpLog,
	}
}
