package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"roverd/server/websocket"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// The attacks are a process of their own, so that what they cost it is not the server's or the driver's time: the test
// binary, with what to do in the environment.
const attackEnv = "ROVERD_TEST_ATTACK"

// attacks are by their names. Each lasts until ctx ends, and returns what came of it.
var attacks = map[string]func(ctx context.Context, addr string) string{
	"none":    func(ctx context.Context, _ string) string { <-ctx.Done(); return "" },
	"tokens":  func(ctx context.Context, addr string) string { return new(guessed).guess(ctx, addr, 10_000).String() },
	"greedy":  func(ctx context.Context, addr string) string { return flood(ctx, addr, 500) },
	"flood":   func(ctx context.Context, addr string) string { return flood(ctx, addr, 0) },
	"garbage": garble,
}

// attack is the child process.
func attack(what string) {
	name, addr, _ := strings.Cut(what, " ")
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin) // until the parent has enough, or is gone
		stop()
	}()
	fmt.Println(attacks[name](ctx, addr))
	os.Exit(0)
}

// guessed counts wrong tokens by what became of them.
type guessed struct {
	refused  atomic.Int64 // 401, 429, or the op's error
	let      atomic.Int64 // in
	failed   atomic.Int64 // no answer
	unsent   atomic.Int64 // there were too many under way
	duration time.Duration
}

func (g *guessed) String() string {
	tried := g.refused.Load() + g.let.Load() + g.failed.Load()
	return fmt.Sprintf("%.0f wrong tokens a second: %d refused, %d let in, %d without an answer; %d more were due",
		float64(tried)/g.duration.Seconds(), g.refused.Load(), g.let.Load(), g.failed.Load(), g.unsent.Load())
}

// guess tries wrong tokens by the clock, whether or not the earlier ones are answered: half of them as new connections,
// from some addresses of this computer, half as the op auth on connections that are kept, as fast as one may send there.
func (g *guessed) guess(ctx context.Context, addr string, rate int) *guessed {
	const tick, dialers, kept = time.Millisecond, 200, 20
	jobs := make(chan int, dialers)
	var all sync.WaitGroup
	for range dialers {
		all.Go(func() {
			for i := range jobs {
				g.upgrade(addr, i)
			}
		})
	}
	var conns []net.Conn
	for range kept {
		d := ws.Dialer{NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialer(0).DialContext(ctx, network, addr)
		}}
		conn, early, _, err := d.Dial(context.Background(), "ws://"+addr+"/")
		if err != nil {
			g.failed.Add(1)
			continue
		}
		conns = append(conns, conn)
		var in io.Reader = conn
		if early != nil {
			in = early
		}
		all.Go(func() { g.answers(in) })
	}
	start := time.Now()
	clock := time.NewTicker(tick)
	defer clock.Stop()
	for sent := 0; ctx.Err() == nil; {
		<-clock.C
		for due := int(time.Since(start).Seconds() * float64(rate)); sent < due; sent++ {
			if sent%2 == 0 {
				conn := conns[sent/2%len(conns)]
				conn.Write(websocket.AppendMasked(nil, ws.OpText, fmt.Appendf(nil, `{"op":"auth","token":"wrong-%d"}`, sent), [4]byte{1, 2, 3, 4}))
				continue
			}
			select {
			case jobs <- sent:
			default:
				g.unsent.Add(1)
			}
		}
	}
	g.duration = time.Since(start)
	close(jobs)
	for _, c := range conns {
		c.Close()
	}
	all.Wait()
	return g
}

// dialer connects from one of a few addresses that the driver does not have.
func dialer(i int) *net.Dialer {
	return &net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%200))}}
}

// upgrade asks for a WebSocket with a wrong token.
func (g *guessed) upgrade(addr string, i int) {
	conn, err := dialer(i).Dial("tcp", addr)
	if err != nil {
		g.failed.Add(1)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	request := websocket.AppendRequest(nil, addr, "/")
	conn.Write(fmt.Appendf(request[:len(request)-2], "Authorization: Bearer wrong-%d\r\n\r\n", i))
	answer, _ := io.ReadAll(conn)
	switch {
	case strings.HasPrefix(string(answer), "HTTP/1.1 401 "), strings.HasPrefix(string(answer), "HTTP/1.1 429 "):
		g.refused.Add(1)
	case strings.HasPrefix(string(answer), "HTTP/1.1 101 "):
		g.let.Add(1)
	default:
		g.failed.Add(1)
	}
}

// answers counts what the op auth is answered with.
func (g *guessed) answers(in io.Reader) {
	for {
		p, err := wsutil.ReadServerText(readOnly{in})
		if err != nil {
			return
		}
		var m message
		switch json.Unmarshal(p, &m); {
		case m.Op == "ack":
			g.let.Add(1)
		case m.Op == "error":
			g.refused.Add(1)
		}
	}
}

// readOnly is a client that answers no pings.
type readOnly struct{ io.Reader }

func (readOnly) Write(p []byte) (int, error) { return len(p), nil }

// flood takes the helm and sends drive commands: so many a second, or as fast as the server reads, and comes back when it
// is let go.
func flood(ctx context.Context, addr string, rate int) string {
	sent, times := 0, 0
	frame := websocket.AppendMasked(nil, ws.OpText, []byte(`{"op":"drive","left":0.5,"right":-0.5}`), [4]byte{1, 2, 3, 4})
	chunk, pause := 200, time.Duration(0)
	if rate > 0 {
		chunk, pause = rate/100, 10*time.Millisecond
	}
	many := slices.Repeat(frame, chunk)
	for ; ctx.Err() == nil; times++ {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err.Error()
		}
		conn.Write(websocket.AppendRequest(nil, addr, "/"))
		go func() {
			io.Copy(io.Discard, conn) // until it is let go
			conn.Close()
		}()
		for ctx.Err() == nil {
			if _, err := conn.Write(many); err != nil {
				break
			}
			sent += chunk
			time.Sleep(pause)
		}
		conn.Close()
	}
	return fmt.Sprintf("%d commands on %d connections", sent, times)
}

// garble sends garbage on 1,000 connections, ten times a second on each, and opens again what is closed on it: bytes that
// are no HTTP, bytes that are no frames, and frames whose text is no command.
func garble(ctx context.Context, addr string) string {
	const conns = 1000
	var opened, sent atomic.Int64
	var all sync.WaitGroup
	for i := range conns {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			junk := make([]byte, 200)
			time.Sleep(time.Duration(random.Int64N(int64(100 * time.Millisecond)))) // each has a time of its own
			clock := time.NewTicker(100 * time.Millisecond)
			defer clock.Stop()
			for ctx.Err() == nil {
				<-clock.C
				conn, err := dialer(0).Dial("tcp", addr)
				if err != nil {
					continue
				}
				opened.Add(1)
				if i%3 > 0 {
					conn.Write(websocket.AppendRequest(nil, addr, "/"))
				}
				go func() {
					io.Copy(io.Discard, conn) // until it is let go
					conn.Close()
				}()
				for ; err == nil && ctx.Err() == nil; <-clock.C {
					for j := range junk {
						junk[j] = byte(random.Uint32())
					}
					p := junk
					if i%3 == 2 {
						p = websocket.AppendMasked(nil, ws.OpText, fmt.Appendf(nil, "%x", junk), [4]byte{1, 2, 3, 4})
					}
					_, err = conn.Write(p)
					sent.Add(1)
				}
				conn.Close()
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("%d times garbage on %d connections", sent.Load(), opened.Load())
}

// under runs f while a process attacks addr, and returns what that says came of it.
func under(t testing.TB, what, addr string, f func()) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), attackEnv+"="+what+" "+addr)
	cmd.Stderr = os.Stderr
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f()
	hold.Close()
	said, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the attack: %v", err)
	}
	return strings.TrimSpace(string(said))
}

// paced sends a message by the clock, rate a second for so long, whether or not the earlier ones are answered, and returns
// how long each took from when it was to be sent to its ack.
func paced(t testing.TB, addr, token, text string, rate int, length time.Duration) (took []time.Duration) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(websocket.AppendRequest(nil, addr, "/?token="+token))
	in := bufio.NewReader(conn)
	for line := ""; line != "\r\n"; {
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	total := int(length.Seconds() * float64(rate))
	due := make([]time.Time, total)
	start := time.Now().Add(100 * time.Millisecond)
	for i := range due {
		due[i] = start.Add(time.Duration(i) * time.Second / time.Duration(rate))
	}
	go func() {
		for i, at := range due {
			time.Sleep(time.Until(at))
			conn.Write(websocket.AppendMasked(nil, ws.OpText, fmt.Appendf(nil, text, i), [4]byte{1, 2, 3, 4}))
		}
	}()
	conn.SetDeadline(due[total-1].Add(hangTime))
	for len(took) < total {
		h, err := ws.ReadHeader(in)
		if err != nil {
			t.Fatalf("after %d of %d acks: %v", len(took), total, err)
		}
		p := make([]byte, h.Length)
		if _, err := io.ReadFull(in, p); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		var m message
		if h.OpCode != ws.OpText || json.Unmarshal(p, &m) != nil || m.Op == "welcome" || m.Op == "state" {
			continue
		}
		if m.Op != "ack" { // one that a newer one has overtaken is answered, too
			t.Fatalf("a command is answered with %s", p)
		}
		i, _ := strconv.Atoi(m.ID)
		took = append(took, now.Sub(due[i]))
	}
	return took
}

// besieged measures a client's messages by turns in peace and under each attack, and reports the 99th percentiles, the
// median of the rounds', so that one stall of the machine does not decide; and how much of a processor the server took.
func besieged(b *testing.B, text string, names []string, args ...string) {
	const rate, length, rounds = 100, 4 * time.Second, 5
	cmd := command(b, append([]string{"-addr", "127.0.0.1:0", "-loops", "1", "-log-level", "error"}, args...)...)
	cmd.Env = append(cmd.Env, "ROVERD_CONTROL_TOKEN="+os.Getenv("ROVERD_CONTROL_TOKEN"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(os.Interrupt)
	addr := announced(b, out)
	p99s, spent := map[string][]float64{}, map[string]time.Duration{}
	for range rounds {
		for _, name := range names {
			before := processorTime(b, cmd.Process.Pid)
			said := under(b, name, addr, func() {
				took := paced(b, addr, os.Getenv("ROVERD_CONTROL_TOKEN"), text, rate, length)
				slices.Sort(took)
				p99s[name] = append(p99s[name], float64(took[len(took)*99/100].Microseconds()))
			})
			spent[name] += processorTime(b, cmd.Process.Pid) - before
			b.Logf("%s: p99 %.0f µs; %s", name, p99s[name][len(p99s[name])-1], said)
		}
	}
	p99 := func(name string) float64 {
		slices.Sort(p99s[name])
		return p99s[name][rounds/2]
	}
	b.ReportMetric(0, "ns/op") // of no use here
	for _, name := range names {
		b.ReportMetric(p99(name), name+"-p99-µs")
		b.ReportMetric(100*spent[name].Seconds()/(rounds*length).Seconds(), name+"-cpu-%")
		if name != "none" {
			b.ReportMetric(p99(name)/p99("none"), name+"-ratio")
		}
	}
}

// processorTime is what a process has used so far (proc_pid_stat(5), utime and stime, in hundredths of a second).
func processorTime(b *testing.B, pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, behind, _ := strings.Cut(string(stat), ") ")
	var ticks int
	for _, field := range strings.Fields(behind)[11:13] {
		n, _ := strconv.Atoi(field)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// BenchmarkWrongTokens measures a driver's commands to their acks while 10,000 wrong tokens a second come in:
//
//	go test -run '^$' -bench WrongTokens -benchtime 1x ./server
func BenchmarkWrongTokens(b *testing.B) {
	b.Setenv("ROVERD_CONTROL_TOKEN", driveToken)
	besieged(b, `{"op":"drive","left":0.3,"right":-0.3,"id":%d}`, []string{"none", "tokens"})
}

// BenchmarkGarbage measures a driver's commands to their acks while somebody sends garbage on 1,000 connections:
//
//	go test -run '^$' -bench Garbage -benchtime 1x ./server
func BenchmarkGarbage(b *testing.B) {
	b.Setenv("ROVERD_CONTROL_TOKEN", driveToken)
	besieged(b, `{"op":"drive","left":0.3,"right":-0.3,"id":%d}`, []string{"none", "garbage"})
}

// BenchmarkGreedyController measures the stops of one controller while another, who drives, sends as many commands as it
// may, and while it sends as fast as it can, and comes back whenever it is let go:
//
//	go test -run '^$' -bench GreedyController -benchtime 1x ./server
func BenchmarkGreedyController(b *testing.B) {
	besieged(b, `{"op":"stop","id":%d}`, []string{"none", "greedy", "flood"}, "-open")
}

// Whoever tries wrong tokens gets nowhere, and the driver does not feel it: nor does the log of who drove lose anything.
func TestWrongTokens(t *testing.T) {
	addr, _ := start(t, "-open=false", "-max-messages", "0", "-config", write(t, "tokens.control = \""+driveToken+"\"\n"))
	driver, hello := dial(t, addr)
	driver.send("auth " + driveToken)
	driver.expect("ack", isAck)
	ctx, stop := context.WithCancel(t.Context())
	g, done := &guessed{}, make(chan *guessed)
	go func() { done <- g.guess(ctx, addr, 2000) }()
	for i := 0; g.refused.Load() < 4*maxEvents; i++ {
		driver.send(fmt.Sprintf(`{"op":"drive","left":0.3,"right":-0.3,"id":%d}`, i))
		if m := driver.expect("an answer", func(m message) bool { return m.Op != "state" }); m.Op != "ack" || m.ID != fmt.Sprint(i) {
			t.Fatalf("command %d is answered with %+v", i, m)
		}
	}
	stop()
	if <-done; g.let.Load() > 0 || g.failed.Load() > 0 {
		t.Errorf("the attack: %s", g)
	}
	var drove, refused int
	for _, e := range drivelog(t, addr) {
		if e.What == "driver" && e.Who == hello.ID {
			drove++
		}
		if e.What == "login_refused" {
			refused++
		}
	}
	if drove != 1 || refused == 0 || refused > maxEvents {
		t.Errorf("the log has the driver %d times, and %d refused", drove, refused)
	}
}

// One controller who sends commands without end does not keep another from stopping the car.
func TestGreedyController(t *testing.T) {
	for _, limit := range []string{"500", "0"} {
		addr, _ := start(t, "-loops", "1", "-max-messages", limit)
		watcher, _ := dial(t, addr)
		ctx, end := context.WithCancel(t.Context())
		done := make(chan string)
		go func() { done <- flood(ctx, addr, 0) }()
		watcher.expectState("it drives", func(m message) bool { return m.Motion.Left == 0.5 })
		for i := range 50 {
			watcher.send(fmt.Sprintf(`{"op":"stop","id":%d}`, i))
			m := watcher.expect("an answer", func(m message) bool { return m.ID == fmt.Sprint(i) })
			if m.Op != "ack" {
				t.Fatalf("stop is answered with %+v", m)
			}
		}
		watcher.send("estop")
		watcher.expect("ack", isAck)
		watcher.send(`{"op":"state","id":1000}`)
		if m := watcher.expect("the state", func(m message) bool { return m.ID == "1000" }); !m.Estop || m.Motion.Left != 0 || m.lines() != [4]float64{} {
			t.Errorf("after the emergency stop the state is %+v", m)
		}
		end()
		<-done
	}
}
