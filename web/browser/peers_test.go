package browser

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// relay is the network between a page and roverd.
type relay struct {
	t        *testing.T
	target   string
	addr     string
	gate     sync.RWMutex // held while nothing passes, as when Wi-Fi drops out: neither side hears that of the other
	mu       sync.Mutex
	listener net.Listener // nil while cut
	conns    []net.Conn
	page     net.Conn // to the newest page that has its WebSocket
}

func startRelay(t *testing.T, target string) *relay {
	r := &relay{t: t, target: target, addr: "127.0.0.1:0"}
	r.restore()
	t.Cleanup(r.close)
	return r
}

// restore opens the relay, as at first.
func (r *relay) restore() {
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addr, r.listener = listener.Addr().String(), listener
	go r.serve(listener)
}

// say tells the page a message as if it came from the car, which must stand meanwhile and say nothing.
func (r *relay) say(message string) {
	frame := []byte{0x81, byte(len(message))} // RFC 6455 section 5.2
	if len(message) > 125 {
		frame = []byte{0x81, 126, byte(len(message) >> 8), byte(len(message))}
	}
	frame = append(frame, message...)
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.page.Write(frame); err != nil {
		r.t.Fatal(err)
	}
}

func (r *relay) freeze() { r.gate.Lock() }

// cut ends a freeze: now both sides hear that it is over, and there are no new connections.
func (r *relay) cut() {
	r.close()
	r.gate.Unlock()
}

func (r *relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listener != nil {
		r.listener.Close()
	}
	for _, conn := range r.conns {
		conn.Close()
	}
	r.listener, r.conns = nil, nil
}

func (r *relay) serve(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", r.target)
		if err != nil {
			client.Close()
			continue
		}
		r.mu.Lock()
		if r.listener == listener {
			r.conns = append(r.conns, client, server)
			go r.pump(client, server)
			go r.pump(server, client)
		} else { // cut meanwhile
			client.Close()
			server.Close()
		}
		r.mu.Unlock()
	}
}

func (r *relay) pump(to, from net.Conn) {
	defer to.Close()
	for p := make([]byte, 4096); ; {
		n, err := from.Read(p)
		if bytes.HasPrefix(p[:n], []byte("HTTP/1.1 101 ")) {
			r.mu.Lock()
			r.page = to
			r.mu.Unlock()
		}
		r.gate.RLock()
		if err == nil {
			_, err = to.Write(p[:n])
		}
		r.gate.RUnlock()
		if err != nil {
			return
		}
	}
}

// startCamera starts what mjpg-streamer does, and returns its host.
func startCamera(t *testing.T) string {
	var frame bytes.Buffer
	if err := jpeg.Encode(&frame, view(), nil); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary=next")
		for tick := time.NewTicker(100 * time.Millisecond); ; {
			fmt.Fprintf(w, "--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n", frame.Len(), frame.Bytes())
			w.(http.Flusher).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				tick.Stop()
				return
			}
		}
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// view draws what a car's camera may see: the sky, a tiled floor, and a path that winds away.
func view() image.Image {
	const width, height, horizon = 640, 480, 200
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		depth := 60 / (math.Max(0, float64(y-horizon)) + 4) // how far away this row of the floor is
		for x := range width {
			across := (float64(x)/width - 0.5) * depth
			c := color.RGBA{uint8(150 - 8*depth), uint8(118 - 5*depth), uint8(84 - 2*depth), 255}
			switch {
			case y < horizon:
				c = color.RGBA{uint8(140 + y/4), uint8(180 + y/5), uint8(215 + y/8), 255}
			case math.Abs(across-math.Sin(depth)/10) < 0.035:
				c = color.RGBA{236, 232, 220, 255}
			case (int(math.Floor(across*24))+int(depth*8))%2 == 0:
				c.R, c.G, c.B = c.R+14, c.G+12, c.B+10
			}
			m.SetRGBA(x, y, c)
		}
	}
	return m
}
