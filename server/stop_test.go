package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"roverd/hardware"

	"github.com/gobwas/ws"
)

func TestStoppingSaysGoodbye(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	code := make(chan int, 1)
	log := newLogBuffer()
	go func() {
		code <- run(ctx, t.Context(), []string{"-open", "-addr", "127.0.0.1:0", "-loops", "3"}, noEnv, out, log)
	}()
	c, _ := dial(t, announced(t, in))
	c.send("up")
	c.expectState("driving", func(m message) bool { return m.Motion.Left == 1 })
	stop()
	c.expectState("the car stands before the connection goes", func(m message) bool { return m.Motion.Left == 0 })
	c.expectClose(ws.StatusGoingAway)
	if got := <-code; got != 0 {
		t.Errorf("exit code %d", got)
	}
	out.Close()
	for _, want := range []string{"started", "stopped"} {
		if strings.Count(log.String(), "\t"+want) != 1 {
			t.Errorf("the log should say %q once:\n%s", want, log)
		}
	}
}

// failingLines can be set once the test lets them, and not afterwards.
type failingLines struct{ broken atomic.Bool }

func (l *failingLines) Set([]float64) error {
	if l.broken.Load() {
		return errors.New("input/output error")
	}
	return nil
}

func (l *failingLines) Failed() <-chan error { return nil }
func (l *failingLines) Close() error         { return nil }

// serveOn serves a car on lines, and returns what to stop it with, and where its end is told.
func serveOn(t *testing.T, lines hardware.Lines, config string, log *logBuffer) (addr string, stop func(), ended chan error) {
	t.Helper()
	cfg, err := loadConfig([]string{"-open", "-addr", "127.0.0.1:0", "-config", write(t, config)}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	logger, closeLog := newLogger(cfg.LogLevel.Level, log)
	s, listeners, err := newServer(cfg, logger)
	if err != nil {
		t.Fatal(err)
	}
	s.car = hardware.New(cfg.car(), lines, nil, s.carChanged)
	s.bridge.car = s.car
	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	ended = make(chan error, 1)
	go func() {
		err := s.run(ctx, context.Background(), listeners, out)
		closeLog()
		out.Close()
		ended <- err
	}()
	return announced(t, in), stop, ended
}

// If the lines can't be set low at the end, the log does not say that the car stands, nor the exit code that all is well.
func TestStoppingTellsOfAFault(t *testing.T) {
	lines, log := &failingLines{}, newLogBuffer()
	addr, stop, ended := serveOn(t, lines, "", log)
	c, _ := dial(t, addr)
	c.send("up")
	c.expectState("driving", func(m message) bool { return m.Motion.Left == 1 })
	lines.broken.Store(true)
	stop()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("run returned %v", err)
	}
	if strings.Contains(log.String(), "the car stands") || !strings.Contains(log.String(), "the car may not stand") {
		t.Errorf("the log says\n%s", log)
	}
}

// When a line fails while the car is driven, everyone is told which and why, and the program ends, or stays without a car
// if it is told to.
func TestFaultWhileDriving(t *testing.T) {
	for _, stays := range []bool{false, true} {
		config := ""
		if stays {
			config = "[drive]\non_fault = \"stay\"\n"
		}
		lines, log := &failingLines{}, newLogBuffer()
		addr, stop, ended := serveOn(t, lines, config, log)
		c, _ := dial(t, addr)
		c.send("up")
		c.expectState("driving", func(m message) bool { return m.Motion.Left == 1 })
		lines.broken.Store(true)
		c.send("back")
		c.expectError("failed")
		c.expectState("the fault", func(m message) bool { return m.Cause == "fault" && strings.Contains(m.Fault, "input/output error") })
		if stays {
			c.send("up")
			c.expectError("off")
			stop()
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "input/output error") {
			t.Errorf("run returned %v", err)
		}
		stop()
	}
}

// `roverd 2>&1 | tee log`, and tee goes: by default the next line logged would end the process, with the wheels turning.
func TestClosedPipeIsSurvived(t *testing.T) {
	cmd := command(t, "-open", "-addr", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var addr string
	for lines := bufio.NewScanner(out); addr == "" && lines.Scan(); { // the log stands among them
		if m := announcement.FindStringSubmatch(lines.Text()); m != nil {
			addr = m[1]
		}
	}
	out.Close()
	driver, hello := dial(t, addr)
	driver.send("up") // is logged
	driver.expectState("driving", func(m message) bool { return m.Driver == hello.ID && m.Motion.Left == 1 })
	driver.conn.Close() // is logged
	watcher, _ := dial(t, addr)
	watcher.expectState("free", func(m message) bool { return m.Driver == "" })
	end := syscall.SIGHUP
	if signal.Ignored(end) { // by nohup, for all that run under it
		end = syscall.SIGTERM
	}
	cmd.Process.Signal(end)
	watcher.expectClose(ws.StatusGoingAway)
	if err := cmd.Wait(); err != nil {
		t.Errorf("after %v it ended with %v", end, err)
	}
}

// A WebSocket that begins when all others have been told goodbye is told, too, wherever it comes from.
func TestGoodbyeToTheLate(t *testing.T) {
	s, addr := startServer(t, "-loops", "1")
	kept := dialHTTP(t, addr)
	kept.ask("GET", "/state", "")
	fresh := dialHTTP(t, addr)
	on(s.decks[0], s.decks[0].dismiss)
	for _, c := range []*httpClient{kept, fresh} {
		c.send(upgradeTo("/", ""))
		if r, err := http.ReadResponse(c.in, nil); err != nil || r.StatusCode != 101 {
			t.Fatalf("the upgrade is answered with %v, %v", r, err)
		}
		(&client{t: t, conn: c.conn, in: c.in}).expectClose(ws.StatusGoingAway)
	}
}

// At the end everyone in a crowd, of several slices, hears that the car stands, and goodbye.
func TestGoodbyeToACrowd(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	in, out := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, t.Context(), []string{"-open", "-addr", "127.0.0.1:0"}, noEnv, out, io.Discard)
		out.Close()
	}()
	addr := announced(t, in)
	var crowd []*client
	for range 200 {
		c, _ := dial(t, addr)
		crowd = append(crowd, c)
	}
	crowd[0].send("up")
	for _, c := range crowd {
		c.expectState("driving", func(m message) bool { return m.Motion.Left == 1 })
	}
	stop()
	for _, c := range crowd {
		c.expectState("it stands", func(m message) bool { return m.Motion.Left == 0 })
		c.expectClose(ws.StatusGoingAway)
		c.conn.Close()
	}
	if got := <-code; got != 0 {
		t.Errorf("exit code %d", got)
	}
}
