package main

import (
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"roverd/server/websocket"

	"github.com/gobwas/ws"
)

// A message costs no garbage, on any path: neither one that is echoed, nor a driver's command with its way to the lines
// and its acknowledgement back, nor one that is shown to a viewer.
func TestMessagesMakeNoGarbage(t *testing.T) {
	// The car has no sensors: what they read is shown in states, which are not what is counted here.
	addr, _ := start(t, "-echo", "-loops", "1", "-max-messages", "0", "-sim", "-config", write(t, "[motors]\npreset = \"camjam3\"\n"))
	for _, tt := range []struct {
		path, text string
		reply      int     // bytes of the answer; 0 for any
		most       float64 // allocations: the runtime itself allocates now and then
	}{
		{"/echo", "hello", 2 + 5, 0.05},
		{"/", "up", 0, 0.05},
		{"/", `{"op":"drive","left":0.5,"right":0.5,"seq":41,"id":7,"t_ms":1000,"ttl_ms":5000}`, 0, 0.9}, // encoding/json's pool loses some with -race, on purpose
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(websocket.AppendRequest(nil, addr, tt.path))
		conn.SetDeadline(time.Now().Add(60 * time.Second))
		frame := websocket.AppendMasked(nil, ws.OpText, []byte(tt.text), [4]byte{1, 2, 3, 4})
		buf := make([]byte, 4096)
		exchange := func() {
			if _, err := conn.Write(frame); err != nil {
				t.Fatal(err)
			}
			n := max(tt.reply, 1)
			if _, err := io.ReadAtLeast(conn, buf, n); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.ReadAtLeast(conn, buf, 100); err != nil { // the response
			t.Fatal(err)
		}
		const warm, messages = 500, 5000
		for range warm {
			exchange()
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range messages {
			exchange()
		}
		runtime.ReadMemStats(&after)
		if per := float64(after.Mallocs-before.Mallocs) / messages; per > tt.most {
			t.Errorf("%s: %.3f allocations per message", tt.path, per)
		}
		conn.Close()
	}
}
