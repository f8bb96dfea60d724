package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"roverd/web"
)

// Every file comes as it is or compressed, as the client wants it, and each form can be asked for again by its ETag.
func TestPage(t *testing.T) {
	addr, _ := start(t)
	c := dialHTTP(t, addr)
	for path, contentType := range map[string]string{
		"/": "text/html; charset=utf-8", "/app.js": "text/javascript; charset=utf-8",
		"/style.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml",
	} {
		name := path[1:]
		if name == "" {
			name = "index.html"
		}
		file, err := web.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tags := map[string]string{}
		for encoding, accept := range map[string]string{"": "", "gzip": "Accept-Encoding: gzip\r\n"} {
			r, body := c.ask("GET", path, accept)
			text := body
			if encoding == "gzip" {
				text = gunzip(t, body)
			}
			if r.StatusCode != 200 || text != string(file) || r.Header.Get("Content-Encoding") != encoding ||
				r.ContentLength != int64(len(body)) || r.Header.Get("Content-Type") != contentType ||
				r.Header.Get("Cache-Control") != "no-cache" || r.Header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s with %q: %d, %v, %.40q", path, accept, r.StatusCode, r.Header, body)
			}
			tags[encoding] = r.Header.Get("ETag")
			head, _ := c.ask("HEAD", path, accept+"Range: bytes=1-7\r\n") // which is for GET only
			for _, key := range []string{"Content-Type", "Content-Length", "Content-Encoding", "ETag", "Vary", "Cache-Control"} {
				if head.Header.Get(key) != r.Header.Get(key) {
					t.Errorf("%s of %s is %q for HEAD, %q for GET", key, path, head.Header.Get(key), r.Header.Get(key))
				}
			}
		}
		if len(tags[""]) < 10 || tags[""] == tags["gzip"] || strings.HasPrefix(tags[""], "W/") {
			t.Errorf("the ETags of %s are %q", path, tags)
		}
		plain, gzipped := tags[""], tags["gzip"]
		zip := "Accept-Encoding: gzip\r\n"
		for _, tt := range []struct {
			headers string
			status  int
			length  int // of the body
		}{
			{"If-None-Match: " + plain + "\r\n", 304, 0},
			{"If-None-Match: W/" + plain + "\r\n", 304, 0},
			{"If-None-Match: \"x\", " + plain + "\r\n", 304, 0},
			{"If-None-Match: *\r\n", 304, 0},
			{zip + "If-None-Match: " + gzipped + "\r\n", 304, 0},
			{"If-None-Match: \"x\"\r\n", 200, len(file)},
			{"If-None-Match: " + gzipped + "\r\n", 200, len(file)},
			{zip + "If-Match: " + gzipped + "\r\n", 200, -1},
			{zip + "If-Match: \"x\"\r\n", 412, 0},
			{"Range: bytes=1-7\r\n", 206, 7},
			{zip + "Range: bytes=1-7\r\n", 206, 7},
			{zip + "Range: bytes=1-7\r\nIf-Range: " + plain + "\r\n", 206, 7},
			{zip + "Range: bytes=1-7\r\nIf-Range: " + gzipped + "\r\n", 200, len(file)},
			{zip + "Range: bytes=1000000-\r\n", 416, -1},
			{"Range: BYTES=1-7\r\n", 206, 7}, // RFC 9110 section 14.1
			{"Range: lines=1-7\r\n", 200, len(file)},
			{"Range: bytes\r\n", 200, len(file)},
		} {
			r, body := c.ask("GET", path, tt.headers)
			if r.StatusCode != tt.status || tt.length >= 0 && len(body) != tt.length {
				t.Errorf("%s with %q: %d, %v, %d bytes", path, tt.headers, r.StatusCode, r.Header, len(body))
			}
			switch r.StatusCode {
			case 206:
				if body != string(file[1:8]) {
					t.Errorf("%s with %q: %q", path, tt.headers, body)
				}
			case 304: // has what a 200 would have (RFC 9110 section 15.4.5)
				if r.Header.Get("ETag") == "" || r.Header.Get("Vary") == "" || r.Header.Get("Cache-Control") == "" {
					t.Errorf("%s with %q: %v", path, tt.headers, r.Header)
				}
			}
		}
	}
}

func gunzip(t *testing.T, text string) string {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

func TestPageIsCompressedForWhoWantsIt(t *testing.T) {
	addr, _ := start(t)
	c := dialHTTP(t, addr)
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "GZip": true, "x-gzip": true, "br, gzip": true, "gzip, deflate, br, zstd": true, "deflate,gzip;q=1.0": true,
		"gzip;q=0.5": true, "gzip ; Q=0.001": true, "br\r\nAccept-Encoding: gzip": true,
		"gzip;q=0": false, "x-gzip;q=0": false, "gzip; q=0.000, br": false, "gzip;Q=0": false, "identity": false, "br": false, "*": false,
		"gzip;q=": false, "gzip;q=much": false, "gzipped": false, "identity, gzip;q=0, *": false,
	} {
		if r, _ := c.ask("GET", "/app.js", "Accept-Encoding: "+accept+"\r\n"); (r.Header.Get("Content-Encoding") == "gzip") != want {
			t.Errorf("for %q: %v", accept, r.Header)
		}
	}
}

// What gzip does not make smaller comes as it is, whoever asks.
func TestPageIsNotCompressedForNothing(t *testing.T) {
	p := newPage(fstest.MapFS{
		"photo.png": {Data: []byte("\x89PNG\r\n\x1a\n and what is compressed already")},
		"words":     {Data: bytes.Repeat([]byte("again and "), 50)},
	})
	for path, want := range map[string]struct{ contentType, encoding string }{
		"/photo.png": {"image/png", ""}, "/words": {"text/plain; charset=utf-8", "gzip"},
	} {
		request := httptest.NewRequest("GET", path, nil)
		request.Header.Set("Accept-Encoding", "gzip")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, request)
		if h := w.Header(); h.Get("Content-Type") != want.contentType || h.Get("Content-Encoding") != want.encoding ||
			h.Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
			t.Errorf("%s: %v, %d bytes", path, h, w.Body.Len())
		}
	}
}

// Go's client asks for gzip by itself, and keeps its connection.
func TestPageForGoClient(t *testing.T) {
	addr, _ := start(t)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	file, err := web.Files.ReadFile("app.js")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
		request, err := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/app.js", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || string(body) != string(file) || !response.Uncompressed || reused != (i > 0) {
			t.Errorf("request %d: %d bytes, %v; decompressed: %v, on a connection used before: %v", i, len(body), err, response.Uncompressed, reused)
		}
	}
}
