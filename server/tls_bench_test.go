package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkDelivery is the processor time of the loop's thread for one state to one viewer, from the frame to the return
// of the write.
func BenchmarkDelivery(b *testing.B) {
	for _, version := range []uint16{0, tls.VersionTLS12, tls.VersionTLS13} {
		name := "plain"
		if version != 0 {
			name = tls.VersionName(version)
		}
		b.Run(strings.ReplaceAll(name, " ", ""), func(b *testing.B) {
			const crowd = 50
			s, addr, trust := startTLS(b, "-loops", "1", "-log-level", "error")
			if version == 0 {
				s, addr = startServer(b, "-loops", "1", "-log-level", "error")
			}
			for range crowd {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				var to io.ReadWriter = conn
				if version != 0 {
					to = tls.Client(conn, only(trust, version))
				}
				if _, err := io.WriteString(to, upgradeTo("/", "")); err != nil {
					b.Fatal(err)
				}
				if _, err := to.Read(make([]byte, 1)); err != nil {
					b.Fatal(err)
				}
				go io.Copy(io.Discard, conn) // not deciphered
			}
			d := s.decks[0]
			until(b, "all are here", func() (all bool) {
				on(d, func() { all = len(d.viewers) == crowd })
				return all
			})
			var spent time.Duration
			blocked := 0
			for sent := 0; sent < b.N; sent += crowd {
				on(d, func() {
					runtime.LockOSThread()
					defer runtime.UnlockOSThread()
					frame := d.topic.Load().bytes
					before := threadTime(b)
					for _, v := range d.viewers {
						if v.conn.Blocked() {
							blocked++
						}
						v.conn.Write(frame)
					}
					spent += threadTime(b) - before
				})
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(spent.Nanoseconds())/float64((b.N+crowd-1)/crowd*crowd), "cpu-ns/delivery")
			if blocked > b.N/10 {
				b.Errorf("%d of %d deliveries found the viewer busy", blocked, b.N)
			}
		})
	}
}

func threadTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// BenchmarkIdleViewer is the resident memory of a server for each viewer at rest. `go test -run '^$' -bench IdleViewer
// -benchtime 1x ./server`
func BenchmarkIdleViewer(b *testing.B) {
	for _, version := range []uint16{0, tls.VersionTLS12, tls.VersionTLS13} {
		name := "plain"
		if version != 0 {
			name = tls.VersionName(version)
		}
		b.Run(strings.ReplaceAll(name, " ", ""), func(b *testing.B) {
			const crowd = 5000
			args := []string{"-addr", "127.0.0.1:0", "-log-level", "error"}
			var trust *tls.Config
			if version != 0 {
				cert, key, config := testCertificate(b, time.Now().Add(time.Hour))
				args, trust = append(args, "-tls-cert", cert, "-tls-key", key), only(config, version)
			}
			cmd := command(b, args...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			defer func() {
				cmd.Process.Signal(syscall.SIGTERM)
				cmd.Wait()
			}()
			addr := announced(b, out)
			var conns []net.Conn
			defer func() {
				for _, conn := range conns {
					conn.Close()
				}
			}()
			join := func(n int) int {
				var dialling sync.WaitGroup
				var mu sync.Mutex
				for range 8 {
					dialling.Go(func() {
						for range n / 8 {
							conn, err := joinIdly(addr, trust)
							if err != nil {
								b.Error(err)
								return
							}
							mu.Lock()
							conns = append(conns, conn)
							mu.Unlock()
						}
					})
				}
				dialling.Wait()
				time.Sleep(settleTime + 3*time.Second) // until the server has given back what they took on their way in
				return resident(b, cmd.Process.Pid)
			}
			before := join(800) // what the first need is there for all
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(join(crowd)-before)/crowd, "bytes/viewer")
		})
	}
}

// joinIdly opens a viewer, with TLS unless trust is nil, and leaves it alone.
func joinIdly(addr string, trust *tls.Config) (net.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if trust != nil {
		conn = tls.Client(conn, trust)
	}
	if _, err := io.WriteString(conn, upgradeTo("/", "")); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(conn, make([]byte, len("HTTP/1.1 101")))
	return conn, err
}

// resident returns a process's memory.
func resident(b *testing.B, pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, line, _ := bytes.Cut(text, []byte("VmRSS:"))
	n, err := strconv.Atoi(string(bytes.Fields(line)[0]))
	if err != nil {
		b.Fatal(err)
	}
	return n << 10
}
