package main

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
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
	if l, n := got.measured("latency"), got.value("messages"); l.Min < 5000 || n < 20 || n > 400 {
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
	out, err := exec.CommandContext(t.Context(), wrk, "-t", "1", "-c", "20", "-d", "2s", "--latency", url).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	find := func(pattern string) string {
		m := regexp.MustCompile(pattern).FindSubmatch(out)
		if m == nil {
			t.Fatalf("wrk says nothing like %s:\n%s", pattern, out)
		}
		return string(m[1])
	}
	theirs, err := strconv.ParseFloat(find(`Requests/sec:\s+([\d.]+)`), 64)
	if err != nil {
		t.Fatal(err)
	}
	half, err := time.ParseDuration(find(`50%\s+([\d.]+\w+)`))
	if err != nil {
		t.Fatal(err)
	}
	got := runScenario(t, "echo", "-get", "-n", "20", "-d", "2s", url)
	ours, p50 := got.value("messages_per_s"), float64(got.measured("latency").P50)
	t.Logf("wrk: %v answers a second, half within %s; bench: %v, %v us", theirs, half, ours, p50)
	const noise = 0.2
	if ours < theirs*(1-noise) || ours > theirs*(1+noise) {
		t.Errorf("%v answers a second; wrk finds %v", ours, theirs)
	}
	if w := float64(half.Microseconds()); p50 < w*(1-noise) || p50 > w*(1+noise) {
		t.Errorf("half of the answers take %v us; wrk finds %v", p50, w)
	}
}
