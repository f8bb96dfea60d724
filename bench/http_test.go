package main

import (
	"math"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// delayed is an HTTP server that takes its time for each answer.
func delayed(t *testing.T, delay time.Duration) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(delay)
		w.Write([]byte("hello"))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestGetMeasuresTheDelay(t *testing.T) {
	got := runScenario(t, "echo", "-get", "-n", "4", "-d", "500ms", delayed(t, 5*time.Millisecond))
	if l, n := got.measured("latency"), got.value("messages"); l.Min < 5000 || n < 1 && got.believable() || n > 4*got.Seconds/0.005+4 {
		t.Errorf("%v answers in %+v; want at most 400, of 5 ms or more", n, l)
	}
}

func TestGetFails(t *testing.T) {
	for text, want := range map[string]string{
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n":           "the server answered 404 Not Found",
		"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n":                  "does not keep the connection",
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort":            "-get: ",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello":             "", // it closes all the same
		"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + pad(70000): "want up to 65536",
	} {
		r := runBench(t, t.Context(), "echo", "-get", "-n", "1", "-d", "100ms", "http://"+answer(t, text))
		if r.code != 1 || !strings.Contains(r.stderr, want) {
			t.Errorf("%.30q: exit code %d, %q; want 1 and %q", text, r.code, r.stderr, want)
		}
	}
}

func pad(n int) string { return strings.Repeat("x", n) }

// A tool that everybody knows must find the same: wrk, in a closed loop as well.
func TestAgainstWrk(t *testing.T) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		t.Skip("NOT TESTED here: it needs wrk, which `make deps` installs")
	}
	url := delayed(t, 10*time.Millisecond)
	const noise, tries, atMost = 0.2, 3, 10
	believed := 0
	for range atMost {
		// Both at the same time, so that what else the machine has to do concerns both.
		var out []byte
		var failed error
		var done sync.WaitGroup
		done.Go(func() {
			out, failed = exec.CommandContext(t.Context(), wrk, "-t", "1", "-c", "20", "-d", "2s", "--latency", url).CombinedOutput()
		})
		got := runScenario(t, "echo", "-get", "-n", "20", "-d", "2s", url)
		if done.Wait(); failed != nil {
			t.Fatalf("%v: %s", failed, out)
		}
		rate := regexp.MustCompile(`Requests/sec:\s+([\d.]+)`).FindSubmatch(out)
		half := regexp.MustCompile(`50%\s+([\d.]+)ms`).FindSubmatch(out)
		if rate == nil || half == nil {
			t.Fatalf("unexpected words of wrk:\n%s", out)
		}
		wrkRate, _ := strconv.ParseFloat(string(rate[1]), 64)
		wrkHalf, _ := strconv.ParseFloat(string(half[1]), 64)
		rates, halves := got.value("messages_per_s")/wrkRate, float64(got.measured("latency").P50)/1000/wrkHalf
		t.Logf("bench finds %.3f times the rate of wrk, and %.3f times its median", rates, halves)
		if math.Abs(rates-1) < noise && math.Abs(halves-1) < noise {
			return
		}
		if !got.believable() {
			continue
		}
		if believed++; believed == tries {
			t.Fatalf("%d times it did not agree with wrk", tries)
		}
	}
	t.Skip("NOT TESTED here: the machine is too busy")
}
