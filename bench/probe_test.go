package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const metricsText = `# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
process_cpu_seconds_total 12.5
process_open_fds 42
process_resident_memory_bytes 1.2345678e+07
go_threads 7
other{label="a b"} 3
`

func TestProbeReadsMetrics(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			http.Error(w, "who?", http.StatusUnauthorized)
		case r.URL.Path == "/metrics":
			io.WriteString(w, metricsText)
		case r.URL.Path == "/healthz":
			io.WriteString(w, `{"version":"1.2","car":"simulated","goroutines":9}`)
		}
	}))
	defer s.Close()
	look := func(token string) (*probe, server) {
		to, err := resolve(t.Context(), &options{url: s.URL, token: token})
		if err != nil {
			t.Fatal(err)
		}
		var who server
		p, err := newProbe(t.Context(), 0, to, &who)
		if err != nil {
			t.Fatal(err)
		}
		return p, who
	}
	p, who := look("secret")
	if want := (server{Car: "simulated", Version: "1.2", Source: "metrics"}); who != want {
		t.Errorf("the server is %+v; want %+v", who, want)
	}
	want := process{Resident: 12345678, Files: 42, CPU: 12.5, Threads: 7}
	if now, at := p.glance(); at.IsZero() || now != want {
		t.Errorf("a glance shows %+v, %v; want %+v", now, at, want)
	}
	if want.Goroutines = 9; p.Before != want {
		t.Errorf("the first look shows %+v; want %+v", p.Before, want)
	}
	if p, who := look(""); who != (server{}) || p.Before != (process{}) {
		t.Errorf("of a server that does not say, %+v, %+v", who, p.Before)
	}
}

// Metrics are asked for less often than the recorder looks: what the server used in a second is not that of one look.
func TestSeriesOfMetrics(t *testing.T) {
	var cpu atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "process_cpu_seconds_total %d\nprocess_resident_memory_bytes 1\n", cpu.Load())
	}))
	defer s.Close()
	to, err := resolve(t.Context(), &options{url: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newProbe(t.Context(), 0, to, &server{})
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{began: time.Now(), probe: p, bar: &progress{}, columns: map[string]int{}}
	r.look()
	const ago = 10 * time.Second
	p.asked, r.seen = p.asked.Add(-ago), r.seen.Add(-ago)
	cpu.Store(5)
	r.look()
	r.look()
	if got := r.series.column("server_cores").Values; len(got) != 3 || got[0] != 0 || got[1] <= 0 || got[1] > 0.5 || got[2] != got[1] {
		t.Errorf("5 s of CPU time in 10 s and a little more are %v cores", got)
	}
}

// A process that does not listen where the server does is perhaps another's.
func TestListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(ln.Addr().(*net.TCPAddr).Port)
	if !listens(os.Getpid(), port) || listens(os.Getppid(), port) {
		t.Errorf("of port %d: we listen: %v, and who started us: %v", port, listens(os.Getpid(), port), listens(os.Getppid(), port))
	}
	ln.Close()
	if listens(os.Getpid(), port) {
		t.Errorf("port %d is closed", port)
	}
	f := &fake{}
	r := runBench(t, t.Context(), "idle", "-n", "1", "-hold", "1ms", "-pid", fmt.Sprint(os.Getppid()), f.serve(t))
	if !strings.Contains(r.stdout, "does not listen at 127.0.0.1:") || r.code != 0 || !r.marked("server_process") {
		t.Errorf("exit code %d, marks %+v; want 0 and a doubt", r.code, r.Marks)
	}
}

func TestProgress(t *testing.T) {
	var file strings.Builder
	p := newProgress(&file, "echo", 0, 1)
	p.begin(time.Minute)
	p.show(1, 2, "messages")
	p.clear()
	if file.Len() > 0 {
		t.Errorf("not on a terminal, it says %q", &file)
	}

	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("NOT TESTED here: ", err)
	}
	defer ptmx.Close()
	fd := int(ptmx.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil { // pts(4), unlockpt(3)
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	if got := newProgress(terminal, "echo", 1, 3).columns(); got != 80 {
		t.Errorf("a terminal that does not say how wide it is has %d columns", got)
	}
	const columns = 60
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns}); err != nil {
		t.Fatal(err)
	}
	p = newProgress(terminal, "echo", 1, 3)
	p.begin(time.Minute)
	p.began = p.began.Add(-30 * time.Second)
	p.show(1000, 123, "messages")
	p.show(2000, 456, "messages")
	p.clear()
	text := make([]byte, 1024)
	n, err = ptmx.Read(text)
	want := "echo 2/3 [" + strings.Repeat("#", 15) + strings.Repeat("-", 15) + "] 50 %  1000 open, 123 messages/s, 30s left"
	want = "\r\x1b[K" + want[:columns-1] // the second comes too soon
	if err != nil || strings.TrimSuffix(string(text[:n]), "\r\x1b[K") != want {
		t.Errorf("it says %q, %v; want %q", text[:n], err, want)
	}
}
