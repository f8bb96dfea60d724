package main

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/gobwas/ws"
	"github.com/panjf2000/gnet/v2"
	"github.com/panjf2000/gnet/v2/pkg/logging"
)

// serveGnet runs one event loop, gnet's default, and parses in its read buffer.
func serveGnet(addr string) error {
	return gnet.Run(&gnetServer{room: map[gnet.Conn]struct{}{}}, "tcp://"+addr, gnet.WithLogLevel(logging.ErrorLevel))
}

// gnetServer has no lock: all its events come from one loop.
type gnetServer struct {
	gnet.BuiltinEventEngine
	room map[gnet.Conn]struct{}
	out  []byte
}

// gnetConn is a connection's context once it is upgraded.
type gnetConn struct{ broadcast bool }

func (s *gnetServer) OnClose(c gnet.Conn, _ error) gnet.Action {
	delete(s.room, c)
	return gnet.None
}

func (s *gnetServer) OnTraffic(c gnet.Conn) gnet.Action {
	conn, ok := c.Context().(*gnetConn)
	if !ok {
		head, _ := c.Peek(-1)
		n := bytes.Index(head, []byte("\r\n\r\n")) + 4
		if n < 4 {
			return gnet.None
		}
		conn = &gnetConn{}
		u := ws.Upgrader{OnRequest: func(uri []byte) error {
			conn.broadcast = string(uri) == "/broadcast"
			return nil
		}}
		_, err := u.Upgrade(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(head[:n]), c})
		if err != nil {
			return gnet.Close
		}
		c.Discard(n)
		c.SetContext(conn)
		if conn.broadcast {
			s.room[c] = struct{}{}
		}
	}
	p, _ := c.Peek(-1)
	used := 0
	s.out = s.out[:0]
	for {
		h, size := header(p[used:])
		if size == 0 || len(p)-used < size+int(h.Length) {
			break
		}
		payload := p[used+size : used+size+int(h.Length)]
		used += size + len(payload)
		ws.Cipher(payload, h.Mask, 0)
		switch h.OpCode {
		case ws.OpText, ws.OpBinary:
		case ws.OpClose:
			return gnet.Close
		default:
			continue
		}
		if !conn.broadcast {
			s.out = appendFrame(s.out, h.OpCode, payload)
			continue
		}
		frame := appendFrame(nil, h.OpCode, payload)
		for other := range s.room {
			other.Write(frame)
		}
	}
	c.Discard(used)
	if len(s.out) > 0 {
		c.Write(s.out)
	}
	return gnet.None
}

// header parses a client's frame header; its size is 0 while it is incomplete.
func header(p []byte) (h ws.Header, size int) {
	if len(p) < 2 {
		return h, 0
	}
	size = 2
	switch p[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if size += 4; len(p) < size {
		return h, 0
	}
	switch size {
	case 6:
		h.Length = int64(p[1] & 0x7f)
	case 8:
		h.Length = int64(binary.BigEndian.Uint16(p[2:]))
	default:
		h.Length = int64(binary.BigEndian.Uint64(p[2:]) & (1<<62 - 1))
	}
	h.OpCode = ws.OpCode(p[0] & 0x0f)
	copy(h.Mask[:], p[size-4:])
	return h, size
}

// appendFrame appends a server's frame.
func appendFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	dst = append(dst, 0x80|byte(op))
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
	}
	return append(dst, payload...)
}
