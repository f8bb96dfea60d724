package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

const ack = `{"op":"ack","seq":1,"applied":true,"us":42}`

// fake is a WebSocket server whose delays are known. Its fields are fixed before serve.
type fake struct {
	delay   time.Duration      // before each reply
	stall   time.Duration      // once, before the reply to command number stallAt
	stallAt int                //
	reply   func(i int) string // to command number i; "" closes the connection. An ack when nil
	// serveEach makes the reply of each connection that sends something; nil is like reply.
	serveEach func() func(i int) string
	upgraded  func(n int, conn net.Conn) // is told of connection number n, from 1
	announce  func(i int) string         // sent to all connections before the reply to command number i; "" is nothing
	heard     func(command string)       // is told each command
	left      func(commands int)         // is told that a connection has ended, and how many commands came from it
	echo      bool                       // the reply is the command
	relay     bool                       // the command goes to all connections, and there is no reply
	deaf      int                        // number of a connection that gets neither this nor what is announced

	mu    sync.Mutex
	conns []net.Conn // that were upgraded, in order
	done  sync.WaitGroup
}

// serve starts the server and returns its URL.
func (f *fake) serve(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.done.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			f.done.Go(func() { f.connection(conn) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		f.mu.Lock()
		for _, conn := range f.conns {
			conn.Close()
		}
		f.mu.Unlock()
		f.done.Wait()
	})
	return "ws://" + ln.Addr().String()
}

func (f *fake) connection(conn net.Conn) {
	defer conn.Close()
	// The client may have the answer, and send, before Upgrade returns: nothing is relayed until it is among the conns.
	locked := false
	upgrader := ws.Upgrader{OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
		f.mu.Lock()
		locked = true
		return nil, nil
	}}
	_, err := upgrader.Upgrade(conn)
	if err == nil {
		f.conns = append(f.conns, conn)
		if f.upgraded != nil {
			f.upgraded(len(f.conns), conn)
		}
	}
	if locked {
		f.mu.Unlock()
	}
	if err != nil {
		return // GET /healthz gets its refusal from Upgrade
	}
	i, reply := 0, f.reply
	defer func() {
		if f.left != nil {
			f.left(i)
		}
	}()
	for ; ; i++ {
		h, err := ws.ReadHeader(conn)
		if err != nil {
			return
		}
		command := make([]byte, h.Length)
		if _, err := io.ReadFull(conn, command); err != nil {
			return
		}
		if h.OpCode == ws.OpClose {
			return
		}
		ws.Cipher(command, h.Mask, 0)
		if f.heard != nil {
			f.heard(string(command))
		}
		time.Sleep(f.delay)
		if f.stall > 0 && i == f.stallAt {
			time.Sleep(f.stall)
		}
		if i == 0 && f.serveEach != nil {
			reply = f.serveEach()
		}
		text := ack
		if reply != nil {
			text = reply(i)
		}
		if f.echo {
			text = string(command)
		}
		if f.relay {
			f.mu.Lock()
			for n, c := range f.conns {
				if n+1 != f.deaf {
					ws.WriteFrame(c, ws.NewTextFrame(command))
				}
			}
			f.mu.Unlock()
			continue
		}
		if text == "" {
			return
		}
		if f.announce != nil {
			f.say(f.announce(i))
		}
		if ws.WriteFrame(conn, ws.NewTextFrame([]byte(text))) != nil {
			return
		}
	}
}

// say sends all connections a text.
func (f *fake) say(text string) {
	if text == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, c := range f.conns {
		if n+1 != f.deaf {
			ws.WriteFrame(c, ws.NewTextFrame([]byte(text)))
		}
	}
}

// plain serves each connection of a server without WebSocket, and returns its URL.
func plain(t *testing.T, serve func(n int, conn net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for n := 1; ; n++ {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				defer conn.Close()
				serve(n, conn)
			})
		}
	})
	t.Cleanup(func() { // bench has closed all connections by now
		ln.Close()
		done.Wait()
	})
	return "ws://" + ln.Addr().String()
}

// result is what one run of bench left behind.
type result struct {
	code           int
	stdout, stderr string
	report         report
	*run           // the last one; never nil
}

// runBench runs bench as the command line does and reads its JSON file, if it got to write one.
func runBench(t *testing.T, ctx context.Context, args ...string) result {
	t.Helper()
	file := filepath.Join(t.TempDir(), "figures.json")
	var stdout, stderr strings.Builder
	args = append([]string{args[0], "-json", file}, args[1:]...)
	r := result{code: program(ctx, args, &stdout, &stderr), run: &run{}}
	r.stdout, r.stderr = stdout.String(), stderr.String()
	t.Logf("bench %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return r
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &r.report); err != nil {
		t.Fatalf("the JSON file is not valid: %v\n%s", err, text)
	}
	if n := len(r.report.Runs); n > 0 {
		r.run = r.report.Runs[n-1]
	}
	return r
}
