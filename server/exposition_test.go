package main

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What Prometheus reads: each metric is described once and before its samples, and they tell what was done.
func TestMetrics(t *testing.T) {
	_, addr := startServer(t)
	driver, _ := dial(t, addr)
	driver.send("up")
	driver.expectState("it stands again", func(m message) bool { return m.Cause == "ttl" })
	driver.send("estop")
	driver.send("up")
	driver.expectError(isEStop)
	driver.send("reset")
	driver.expectState("it may drive", func(m message) bool { return m.Cause == "estop" && !m.Estop })
	driver.send("estop") // though it stands by the first one
	driver.expectState("it may not", func(m message) bool { return m.Estop })
	got, described := map[string]float64{}, map[string]bool{}
	line := regexp.MustCompile(`^([a-z_]+)({[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*})? (-?[0-9.e+]+)$`)
	text := scrape(t, addr)
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		if kind, is := strings.CutPrefix(l, "# TYPE "); is {
			name, _, _ := strings.Cut(kind, " ")
			if described[name] {
				t.Errorf("%s is described twice", name)
			}
			described[name] = true
			continue
		}
		if strings.HasPrefix(l, "# HELP ") {
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil || !described[m[1]] {
			t.Errorf("what is %q?", l)
			continue
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Error(err)
		}
		got[m[1]+m[2]] = value
	}
	for name, want := range map[string]float64{
		"roverd_viewers": 1, "roverd_http_connections": 1, "roverd_helm_taken": 1, "roverd_moving": 0,
		"roverd_estop": 1, "roverd_fault": 0,
		`roverd_stops_total{cause="ttl"}`: 1, `roverd_stops_total{cause="estop"}`: 2, `roverd_stops_total{cause="sensor"}`: 0,
		`roverd_commands_total{outcome="applied"}`: 4, `roverd_commands_total{outcome="refused"}`: 1,
	} {
		if value, there := got[name]; !there || value != want {
			t.Errorf("%s is %v; want %v", name, value, want)
		}
	}
	for name, least := range map[string]float64{
		"process_cpu_seconds_total": 1e-6, "process_resident_memory_bytes": 1 << 20, "process_max_fds": 20, "go_goroutines": 5, "go_threads": 2, "roverd_connections": 1,
		"process_start_time_seconds": 1.7e9,
	} {
		if got[name] < least {
			t.Errorf("%s is %v; want %v at least", name, got[name], least)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// Whatever a chip calls itself, its name is one value.
func TestLabel(t *testing.T) {
	if got, want := label("car", "a\\b\"c\nd\xff"), `car="a\\b\"c\nd�"`; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
}

// A Raspberry Pi has no clock that goes on while it is off: it hears the time over the network, when roverd has begun.
func TestGPIOClockIsSet(t *testing.T) {
	if os.Getenv("ROVERD_GUEST") == "" {
		t.Skip("NOT TESTED here: it sets the clock; `make guest` runs it in a virtual machine")
	}
	advance := func(by time.Duration) {
		now := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Error(err)
		}
	}
	start := func() time.Time {
		var e exposition
		e.process()
		_, text, _ := strings.Cut(string(e), "\nprocess_start_time_seconds ")
		text, _, _ = strings.Cut(text, "\n")
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Error(err)
		}
		return time.Unix(0, int64(seconds*1e9))
	}
	const off = 24 * time.Hour
	before := start()
	advance(off)
	defer advance(-off)
	if got := start().Sub(before).Round(time.Minute); got != off {
		t.Errorf("a day was lost, and the process is told to have begun %s later", got)
	}
}

func scrape(t *testing.T, addr string) string {
	t.Helper()
	r, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != expositionType {
		t.Fatalf("%s, %v, %v", r.Status, r.Header, err)
	}
	return string(text)
}
