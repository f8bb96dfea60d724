package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sent runs `roverd send` and returns its exit code and what it prints.
func sent(t *testing.T, token, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	getenv := func(name string) string {
		if name == "ROVERD_TOKEN" {
			return token
		}
		return ""
	}
	var out, log bytes.Buffer
	err := runSend(t.Context(), args, getenv, strings.NewReader(stdin), &out, &log)
	code = exitCode(err, io.Discard, &log)
	return code, out.String(), log.String()
}

func TestSend(t *testing.T) {
	s, addr := startServer(t, "-line", "127.0.0.1:0", "-open=false", "-config", write(t, "[drive]\nttl = \"60ms\"\n[tokens]\ncontrol = \""+driveToken+"\"\nview = \""+watchToken+"\"\n"))
	lines := "tcp://" + s.lines[0].Addr().String()
	dir := t.TempDir()
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte(driveToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{addr, "ws://" + addr, "http://" + addr + "/", lines, lines + "/"} {
		for _, tt := range []struct {
			name   string
			token  string
			args   []string
			code   int
			stdout string
			stderr string
		}{
			{"a stop", driveToken, []string{"stop"}, 0, `{"op":"ack",`, ""},
			{"driving", driveToken, []string{"up", "60"}, 0, `"applied":true`, ""},
			{"JSON", driveToken, []string{`{"op":"look","pan":5,"tilt":5,"id":7}`}, 0, `"id":7`, ""},
			{"ping", watchToken, []string{"ping"}, 0, `{"op":"pong"}` + "\n", ""},
			{"state", watchToken, []string{"state"}, 0, `{"op":"state",`, ""},
			{"a token in a file", watchToken, []string{"-token-file", tokenFile, "stop"}, 0, `{"op":"ack",`, ""},
			{"a watcher", watchToken, []string{"up"}, 1, `"not_allowed"`, ""},
			{"a mistake", driveToken, []string{"fly"}, 1, `"unknown_command"`, ""},
			{"a wrong token", "wrong-0123456", []string{"up"}, 1, "", "the token is wrong"},
		} {
			code, stdout, stderr := sent(t, tt.token, "", append([]string{"-addr", where}, tt.args...)...)
			if code != tt.code || !strings.Contains(stdout, tt.stdout) || strings.Count(stdout, "\n") > 1 || !strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
				t.Errorf("%s, %s: exit code %d, %q, %q", where, tt.name, code, stdout, stderr)
			}
		}
		code, stdout, stderr := sent(t, "", "", "-addr", where, "up")
		if code != 1 || !strings.Contains(stdout+stderr, "token") {
			t.Errorf("%s, without a token: exit code %d, %q, %q", where, code, stdout, stderr)
		}
	}
}

// While a driving command lives, send stays: with its driver gone, the car would stop.
func TestSendDrives(t *testing.T) {
	s, addr := startServer(t, "-line", "127.0.0.1:0", "-config", write(t, "drive.ttl = \"300ms\"\n"))
	for _, where := range []string{addr, "tcp://" + s.lines[0].Addr().String()} {
		watcher, _ := dial(t, addr)
		start := time.Now()
		code, _, stderr := sent(t, "", "", "-addr", where, "up", "70")
		if took := time.Since(start); code != 0 || took < 300*time.Millisecond {
			t.Errorf("%s: exit code %d after %s, %q", where, code, took, stderr)
		}
		watcher.expectState("it drives", func(m message) bool { return m.Motion.Left == 0.7 })
		watcher.expectState("it stands", func(m message) bool { return m.Motion.Left == 0 && m.Driver == "" })

		ctx, interrupt := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- runSend(ctx, []string{"-addr", where, `{"op":"drive","throttle":0.5,"ttl_ms":5000}`}, noEnv, nil, io.Discard, io.Discard)
		}()
		watcher.expectState("it drives", func(m message) bool { return m.Motion.Left == 0.5 })
		interrupt()
		watcher.expectState("it stands", func(m message) bool { return m.Motion.Left == 0 && m.Driver == "" && m.Cause == "disconnect" })
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// The prompt sends each line when the last has been answered, prints what comes, and states only when asked.
func TestPrompt(t *testing.T) {
	s, addr := startServer(t, "-line", "127.0.0.1:0", "-config", write(t, "drive.ttl = \"5s\"\n"))
	for _, where := range []string{addr, "tcp://" + s.lines[0].Addr().String()} {
		code, stdout, stderr := sent(t, "", "up\n\nstate\nfly\n\x01\nping\nstop\n", "-addr", where, "-i")
		var ops []string
		for line := range strings.Lines(stdout) {
			op, _, _ := strings.Cut(strings.TrimPrefix(line, `{"op":"`), `"`)
			ops = append(ops, op)
		}
		if got := strings.Join(ops, " "); code != 0 || got != "ack state error pong ack" || !strings.Contains(stderr, `"\x01"`) {
			t.Errorf("%s: exit code %d, %s, %q", where, code, got, stderr)
		}

		in, typing := io.Pipe()
		out, ended := newLogBuffer(), make(chan error, 1)
		go func() {
			ended <- runSend(t.Context(), []string{"-addr", where, "-i"}, noEnv, in, out, io.Discard)
		}()
		watcher, hello := dial(t, addr)
		io.WriteString(typing, "up\n")
		watcher.expectState("it drives", func(m message) bool { return m.Motion.Left == 1 })
		watcher.send("claim")
		out.expect(t, `{"op":"claim","from":"`+hello.ID+`"`) // though nobody typed
		typing.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		watcher.expectState("the helm is the claimant's", func(m message) bool { return m.Driver == hello.ID && m.Motion.Left == 0 })
		watcher.send("release")
		watcher.expectState("the helm is free", func(m message) bool { return m.Driver == "" })
		watcher.conn.Close()
	}
}

// A prompt at which nobody types stays connected, and is told when the connection ends.
func TestPromptStays(t *testing.T) {
	t.Parallel()
	s, addr := startServer(t, "-line", "127.0.0.1:0", "-loops", "1")
	in, typing := io.Pipe()
	defer typing.Close()
	out, ended := newLogBuffer(), make(chan error, 1)
	go func() {
		ended <- runSend(t.Context(), []string{"-addr", "tcp://" + s.lines[0].Addr().String(), "-i"}, noEnv, in, out, io.Discard)
	}()
	silent, _ := dialLine(t, s.lines[0].Addr().String())
	silent.expectClosed("10s")
	watcher, _ := dial(t, addr)
	io.WriteString(typing, "up\n")
	watcher.expectState("it drives", func(m message) bool { return m.Motion.Left == 1 })
	on(s.decks[0], s.decks[0].dismiss)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "closed the connection") {
		t.Errorf("it ended with %v", err)
	}
	if strings.Contains(out.String(), "pong") {
		t.Errorf("it shows what nobody asked for: %s", out)
	}
}

// wss goes through TLS, with the certificates of a file.
func TestSendTLS(t *testing.T) {
	_, addr := startServer(t)
	proxy := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr}))
	proxy.Config.ErrorLog = log.New(io.Discard, "", 0)
	proxy.StartTLS()
	defer proxy.Close()
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := sent(t, "", "", "-addr", proxy.URL, "-cacert", roots, "stop"); code != 0 || !strings.Contains(stdout, "ack") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := sent(t, "", "", "-addr", proxy.URL, "stop"); code != 1 || !strings.Contains(stderr, "-cacert") {
		t.Errorf("without the certificate: exit code %d, %q", code, stderr)
	}
	if code, _, stderr := sent(t, "", "", "-addr", "wss://"+addr, "stop"); code != 1 || !strings.Contains(stderr, "it speaks no TLS") {
		t.Errorf("without TLS: exit code %d, %q", code, stderr)
	}
}

// What goes wrong is named, with the address and what may help.
func TestSendErrors(t *testing.T) {
	t.Parallel()                                  // two of them take five seconds
	mute, err := net.Listen("tcp", "127.0.0.1:0") // never accepts
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	loose := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(loose, []byte(driveToken), 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, lines := startLines(t, "-max-conns", "1")
	dialLine(t, lines)
	for _, tt := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"-addr", "tcp://" + mute.Addr().String(), "stop"}, 1, []string{"tcp://" + mute.Addr().String(), "no answer within 5s"}},
		{[]string{"-addr", mute.Addr().String(), "stop"}, 1, []string{"ws://" + mute.Addr().String(), "within 5s"}},
		{[]string{"-addr", gone.Addr().String(), "stop"}, 1, []string{"ws://" + gone.Addr().String(), "refused", "-addr"}},
		{[]string{"-addr", "tcp://" + gone.Addr().String(), "stop"}, 1, []string{"refused", "-addr"}},
		{[]string{"-addr", "tcp://" + lines, "stop"}, 1, []string{lines, "1 connections are open"}},
		{[]string{"-addr", "ftp://car", "stop"}, 2, []string{"ftp://car", "ws://localhost:9900/"}},
		{[]string{"-addr", "tcp://car", "stop"}, 2, []string{"tcp://localhost:9901"}},
		{[]string{"-addr", "http://car:9900/?token=hidden", "stop"}, 2, []string{"ROVERD_TOKEN"}},
		{[]string{"auth", "hidden-012"}, 2, []string{"ROVERD_TOKEN"}},
		{[]string{`{"op":"auth","token":"hidden-012"}`}, 2, []string{"ROVERD_TOKEN"}},
		{[]string{"-token-file", loose, "stop"}, 2, []string{loose, "chmod o-r"}},
		{[]string{"-token-file", "/nowhere", "stop"}, 2, []string{"/nowhere"}},
		{[]string{"-cacert", loose, "stop"}, 2, []string{loose, "certificate"}},
		{nil, 2, []string{"roverd send stop"}},
		{[]string{"-i", "stop"}, 2, []string{`"stop"`}},
		{[]string{"up\nback"}, 2, []string{"control characters"}},
		{[]string{strings.Repeat("x", 5000)}, 2, []string{"4096"}},
		{[]string{"-speed", "5"}, 2, []string{"-speed"}},
		{[]string{"up", "50", "-addr", "car:9900"}, 2, []string{"-addr stands behind the command"}},
	} {
		code, _, stderr := sent(t, "", "", tt.args...)
		if code != tt.code || strings.Contains(stderr, "hidden") {
			t.Errorf("%.80q: exit code %d, %q", tt.args, code, stderr)
		}
		for _, say := range tt.says {
			if !strings.Contains(stderr, say) {
				t.Errorf("%.80q: %q does not say %q", tt.args, stderr, say)
			}
		}
	}
}
