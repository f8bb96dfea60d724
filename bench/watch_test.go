package main

import (
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// fakeCar is a server whose state is sent to all, delay after each command, and then acknowledged; of the states for
// which skip says so, nobody hears.
func fakeCar(delay time.Duration, skip func(i int) bool) *fake {
	f := &fake{delay: delay}
	f.upgraded = func(_ int, conn net.Conn) {
		ws.WriteFrame(conn, ws.NewTextFrame([]byte(`{"op":"state","seq":1,"driver":""}`)))
	}
	f.announce = func(i int) string {
		if skip != nil && skip(i) {
			return ""
		}
		return fmt.Sprintf(`{"op":"state","seq":%d,"driver":"v1"}`, i+2)
	}
	f.reply = func(i int) string { return fmt.Sprintf(`{"op":"ack","seq":%d,"applied":true,"us":42}`, i+2) }
	return f
}

func TestWatchMeasuresDelivery(t *testing.T) {
	got := runScenario(t, "watch", "-n", "10", "-rate", "50", "-d", "1s", fakeCar(5*time.Millisecond, nil).serve(t))
	// The driver is not among the viewers, whose last states arrive before the end.
	figures{"sent": 50, "applied": 50, "missed_states": 0, "undelivered": 0}.check(t, got)
	for _, name := range []string{"delivery", "age"} {
		if l := got.measured(name); l.Count != 500 || l.Min < 5000 {
			t.Errorf("%s %+v: want 500 of 5 ms or more", name, l)
		}
	}
	if n := got.value("states"); n < 490 || n > 500 {
		t.Errorf("%v states; want 500", n)
	}
	// No time is lost between two looks of the series.
	worst, most := slices.Max(got.Series.column("worst_us").Values), float64(got.measured("delivery").Max)
	if worst < 0.99*most || worst > 1.01*most {
		t.Errorf("the worst was %v us; want the delivery's maximum, %v", worst, most)
	}
}

// What one viewer was sent, and another was not, that one has missed. What the car counted, and nobody was sent, is
// no state that there was: a sensor changes faster than states are sent.
func TestMissedStates(t *testing.T) {
	w := &watcher{rig: &rig{o: &options{rate: 1}, recorder: &recorder{}}, counting: true}
	one, other, third := &watching{watcher: w}, &watching{watcher: w}, &watching{watcher: w}
	for _, got := range []struct {
		by  *watching
		seq int
	}{{one, 1}, {other, 1}, {one, 2}, {one, 3}, {one, 4}, {third, 4}, {other, 4}, {one, 10}, {other, 10}, {one, 11}, {third, 12}, {other, 13}} {
		got.by.message(nil, fmt.Appendf(nil, `{"op":"state","seq":%d}`, got.seq), time.Now())
	}
	if w.missed != 2+2+2 { // the other 2 and 3, the third 10 and 11, then the other 11 and 12
		t.Errorf("%d were missed; want 6", w.missed)
	}
}

// Of three states two are not sent: what they tell comes with the third, later. A tool that looked at what arrives alone
// would not notice.
func TestWatchFeelsSkips(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := fakeCar(time.Millisecond, func(i int) bool { return i%3 != 2 })
	got := runScenario(t, "watch", "-n", "4", "-rate", "20", "-d", "1500ms", f.serve(t))
	d, age := got.measured("delivery"), got.measured("age")
	if d.Count != 4*30 || age.Count != 4*10 {
		t.Errorf("%d deliveries, %d ages; want 120, 40", d.Count, age.Count)
	}
	// A third of the commands is shown at once, a third after 50 ms, a third after 100 ms.
	if d.Max < 100_000 || d.P90 < 100_000 || d.P50 < 50_000 || age.P50 >= 50_000 && got.believable() {
		t.Errorf("delivery %+v, age %+v; want p50 and p90 of 50 and 100 ms, and ages below", d, age)
	}
}

func TestWatchFeelsAStall(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := fakeCar(time.Millisecond, nil)
	f.stallAt, f.stall = 50, 300*time.Millisecond
	got := runScenario(t, "watch", "-n", "3", "-rate", "100", "-d", "2s", f.serve(t))
	if d := got.measured("delivery"); d.Count != 600 || d.Max < 300_000 || d.P99 < 279_000 || d.P90 < 99_900 {
		t.Errorf("delivery %+v: want 600, and p90, p99 and maximum of 100, 280 and 300 ms or more", d)
	}
}

func TestWatchWhereSomebodyElseDrives(t *testing.T) {
	f := fakeCar(0, nil)
	url := f.serve(t)
	stop, said := make(chan struct{}), atomic.Int64{}
	t.Cleanup(func() { close(stop) })
	f.done.Go(func() {
		for seq := 2; ; seq++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				said.Add(1)
				f.say(fmt.Sprintf(`{"op":"state","seq":%d}`, seq))
			}
		}
	})
	got := runScenario(t, "watch", "-n", "5", "-rate", "0", "-d", "500ms", url)
	if n, d := got.value("states"), got.measured("delivery"); n < 5 || n > 5*float64(said.Load()) || d.Count == 0 ||
		d.P50 > 100_000 && got.believable() {
		t.Errorf("%v states, delivery %+v; want about 5 of each of %d, within a moment of each other", n, d, said.Load())
	}
}

// A server that gives up who does not read.
func TestSlowReaders(t *testing.T) {
	f := fakeCar(0, nil)
	greet := f.upgraded
	f.upgraded = func(n int, conn net.Conn) {
		greet(n, conn)
		if n > 11 { // a driver and ten viewers come first
			time.AfterFunc(100*time.Millisecond, func() { conn.(*net.TCPConn).CloseWrite() })
		}
	}
	var left atomic.Int64
	dropped := make(chan struct{})
	f.left = func(int) {
		if left.Add(1) == 5 { // the others go when it is over
			close(dropped)
		}
	}
	reply := f.reply
	f.reply = func(i int) string {
		if i == 49 { // the last
			<-dropped
		}
		return reply(i)
	}
	got := runScenario(t, "slow", "-n", "10", "-slow", "5", "-rate", "50", "-d", "1s", f.serve(t))
	figures{"slow_readers": 5, "slow_dropped": 5, "applied": 50}.check(t, got)
	if held := got.measured("slow_dropped_after"); held.Count != 5 || held.Max > 900_000 && got.believable() {
		t.Errorf("held for %+v; want 5 times about 100 ms", held)
	}
	if got.Connections.Opened != 10 || got.Connections.Lost != 0 {
		t.Errorf("the viewers are %+v", got.Connections)
	}
}

func TestSlowReadersTrickle(t *testing.T) {
	taken := make(chan int, 1)
	f := fakeCar(0, nil)
	f.deaf = 3 // what would wait for it would hold up the others
	greet := f.upgraded
	f.upgraded = func(n int, conn net.Conn) {
		greet(n, conn)
		if n != 3 {
			return
		}
		conn.(*net.TCPConn).SetWriteBuffer(4096) // what is left is the client's
		f.done.Go(func() {
			sent := 0
			for conn.SetWriteDeadline(time.Now().Add(2*time.Second)) == nil {
				n, err := conn.Write(make([]byte, 1000))
				if sent += n; err != nil {
					break
				}
			}
			taken <- sent
		})
	}
	r := runScenario(t, "slow", "-n", "1", "-slow", "1", "-trickle", "10000", "-rate", "10", "-d", "1s", f.serve(t))
	figures{"slow_readers": 1, "slow_dropped": 0}.check(t, r)
	if n := <-taken; n < 10_000 || n > 150_000 { // 65,000; 187,000 with the usual buffer
		t.Errorf("the server could send %d bytes; want those read, and what small buffers hold", n)
	}
}

func TestStateSeq(t *testing.T) {
	for text, want := range map[string]uint64{
		`{"op":"state","seq":812,"driver":""}`: 812,
		`{"op":"state","seq":0}`:               0,
		`{"op":"state","seq":18446744073709}`:  18446744073709,
	} {
		if seq, ok := stateSeq([]byte(text)); !ok || seq != want {
			t.Errorf("%s: %d, %v", text, seq, ok)
		}
	}
	for _, text := range []string{`{"op":"ack","seq":5}`, `{"op":"state"}`, `{"op":"state","seq":"x"}`, ``} {
		if seq, ok := stateSeq([]byte(text)); ok {
			t.Errorf("%s: %d", text, seq)
		}
	}
}

func TestFit(t *testing.T) {
	var x, y, noisy []float64
	for i := range 100 {
		x = append(x, float64(i))
		y = append(y, 3+2*float64(i))
		noisy = append(noisy, 3+2*float64(i)+10*float64(i%2*2-1))
	}
	if slope, deviation, ok := fit(x, y); !ok || slope < 1.999 || slope > 2.001 || deviation > 1e-6 {
		t.Errorf("a line of slope 2: %v, %v, %v", slope, deviation, ok)
	}
	// Residuals of 10 and a spread of x of 28.9: 10 / (28.9 * sqrt(100)).
	if slope, deviation, ok := fit(x, noisy); !ok || slope < 1.9 || slope > 2.1 || deviation < 0.03 || deviation > 0.04 {
		t.Errorf("with noise: %v, %v, %v", slope, deviation, ok)
	}
	if _, _, ok := fit(x[:2], y[:2]); ok {
		t.Error("two points have no error")
	}
}

func TestSoak(t *testing.T) {
	got := runScenario(t, "soak", "-n", "10", "-slow", "2", "-churn", "50", "-rate", "20", "-d", "2s", "-timeout", "1m",
		"-pid", fmt.Sprint(os.Getpid()), fakeCar(0, nil).serve(t))
	figures{"applied": 40, "slow_readers": 2}.check(t, got)
	if got.Connections.Opened != 10 || got.Connections.Lost != 0 || got.value("states") < 300 {
		t.Errorf("%+v got %v states; want 10 viewers, at a time, and about 400", got.Connections, got.value("states"))
	}
	// There are as many files at the end as at the beginning; the error of so short a measurement may be large.
	drift, deviation := got.value("server_files_drift_per_h"), got.value("server_files_drift_per_h_error")
	if math.Abs(drift) > 10*deviation && got.believable() {
		t.Errorf("files drift by %v an hour, +- %v", drift, deviation)
	}
	if got.value("server_memory_drift_per_h_error") <= 0 {
		t.Error("no drift of the memory")
	}
}
