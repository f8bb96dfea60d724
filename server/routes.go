package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"

	"roverd/web"
)

// routes is what net/http serves.
func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	files := newPage(web.Files)
	mux.Handle("GET /", files)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Has("token"):
			s.logIn(w, r)
		case s.admits(w, r, view):
			files.ServeHTTP(w, r)
		}
	})
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) {
		if s.admits(w, r, view) {
			writeJSON(w, s.publisher.snapshot())
		}
	})
	mux.HandleFunc("GET /drivelog", func(w http.ResponseWriter, r *http.Request) {
		if s.admits(w, r, control) {
			writeJSON(w, encode(s.audit.list()))
		}
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if s.admits(w, r, view) {
			writeFresh(w, expositionType, s.expose())
		}
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
		if r.Method == recall {
			if err := giveBack(w); err != nil {
				s.httpLog.Printf("give a kept connection back: %v", err)
			}
			return
		}
		h := w.Header()
		// The picture may come from another server; all else is ours.
		h.Set("Content-Security-Policy", "default-src 'self'; img-src http: https:; connect-src 'self' ws: wss:; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		// An old proxy may have passed on a keep-alive that it does not understand (RFC 9112 appendix C.2.2).
		if s.handover.crowded() || !r.ProtoAtLeast(1, 1) {
			h.Set("Connection", "close")
		}
		if host := s.originOf(r).host; !s.cfg.isOurs(host) {
			refusal := misdirected(host)
			http.Error(w, refusal.Reason, refusal.Status)
			return
		}
		if r.URL.Path == "" {
			r.URL.Path = "/" // of http://host (RFC 9110 section 4.2.3)
		}
		mux.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, p []byte) { writeFresh(w, "application/json", append(p, '\n')) }

// writeFresh answers with what is so at the moment.
func writeFresh(w http.ResponseWriter, contentType string, p []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Write(p)
}

// admits tells whether who sent a request has a role; else it answers it.
func (s *server) admits(w http.ResponseWriter, r *http.Request, least role) bool {
	from := s.originOf(r).addr
	got, err := s.access.role(credentialsOf(r, from), time.Now())
	if err == nil && got < least {
		err = errNoToken
	}
	if err != nil {
		s.refusePage(w, r, err)
	}
	return err == nil
}

// logIn has a browser keep the token of the address it was given, and forget the address: it would stay in its history,
// and in pictures of its window.
func (s *server) logIn(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if !s.cfg.Open {
		token, from := queryToken(r.URL), s.originOf(r)
		if _, err := s.access.check(token, from.addr, time.Now()); err != nil {
			s.refusePage(w, r, err)
			return
		}
		s.access.setCookie(w, token, from.secure)
	}
	query.Del("token")
	w.Header().Set("Cache-Control", "no-store")
	clean := url.URL{Path: "/", RawQuery: query.Encode()}
	http.Redirect(w, r, clean.String(), http.StatusSeeOther)
}

// refusePage answers who was not let in: a browser with a page that asks for the token.
func (s *server) refusePage(w http.ResponseWriter, r *http.Request, err error) {
	refusal := s.refuseLogin(err, s.originOf(r).addr)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	name, value, _ := strings.Cut(strings.TrimSpace(refusal.Fields), ": ")
	h.Set(name, value)
	if r.URL.Path != "/" {
		http.Error(w, refusal.Reason, refusal.Status)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(refusal.Status)
	if err == errNoToken {
		refusal.Reason = "" // the page itself says so
	}
	web.Login.Execute(w, refusal.Reason)
}

// newHTTPServer serves s.routes.
func (s *server) newHTTPServer() *http.Server {
	return &http.Server{
		Handler:      s.routes(),
		WriteTimeout: 30 * time.Second,
		IdleTimeout:  idleTime, // which the next head must have arrived within
		ErrorLog:     s.httpLog,
	}
}
