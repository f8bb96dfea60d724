package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// programs builds roverd and bench, as they are used (without -race), once, and starts the server. Its URL and process ID
// come back, and what runs bench.
func programs(t *testing.T) (url string, pid int, bench func(args ...string) *run) {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT TESTED with -short: it builds two programs")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("NOT TESTED here: it needs the go command")
	}
	if err := build(); err != nil {
		t.Fatal(err)
	}
	server := exec.Command(filepath.Join(folder, "server"), "-sim", "-open", "-addr", "127.0.0.1:0")
	stdout, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Process.Kill()
		server.Wait()
	})
	said := bufio.NewReader(stdout)
	line, err := said.ReadString('\n') // once it serves
	addr, ok := strings.CutSuffix(strings.TrimPrefix(line, "open http://"), "/ in a browser\n")
	if !ok {
		t.Fatalf("roverd says %q, %v", line, err)
	}
	go io.Copy(io.Discard, said)
	return "ws://" + addr + "/ws", server.Process.Pid, func(args ...string) *run {
		t.Helper()
		file := filepath.Join(t.TempDir(), "figures.json")
		out, err := exec.CommandContext(t.Context(), filepath.Join(folder, "bench"), append([]string{args[0], "-json", file}, args[1:]...)...).CombinedOutput()
		t.Logf("bench %s\n%s", strings.Join(args, " "), out)
		if bytes.Contains(out, []byte("the car stood (ttl) while it was driven")) {
			t.Skip("NOT TESTED here: the machine is too busy to drive the car")
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var r report
		if err := json.Unmarshal(text, &r); err != nil || len(r.Runs) != 1 {
			t.Fatalf("%d runs: %v", len(r.Runs), err)
		}
		return r.Runs[0]
	}
}

// folder is where the two programs are.
var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "bench"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// build builds them. (With -trimpath, as `make build` has it, what is compiled for the one serves the other.)
var build = sync.OnceValue(func() error {
	c := exec.Command("go", "build", "-trimpath", "-o", folder+string(filepath.Separator), "roverd/server", "roverd/bench")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})

// With ten thousand viewers, bench has less than 500 bytes of its own for each.
func TestMemoryPerConnection(t *testing.T) {
	url, pid, bench := programs(t)
	got := bench("idle", "-n", "10000", "-hold", "100ms", "-pid", fmt.Sprint(pid), url).Connections
	if got.Opened != 10_000 || got.BenchBytes > 500 || got.ServerBytes <= 0 {
		t.Errorf("%d viewers, bench has %v bytes for each, the server %v; want 10000, and 500 or less", got.Opened, got.BenchBytes, got.ServerBytes)
	}
}

func TestAgainstRoverd(t *testing.T) {
	url, pid, bench := programs(t)
	id := fmt.Sprint(pid)

	// On a busy machine the car has two commands before it at a time, and does the newer.
	done := func(r *run) int { return int(r.value("applied") + r.value("superseded")) }
	watch := bench("watch", "-n", "50", "-rate", "10", "-warmup", "200ms", "-d", "1s", "-pid", id, url)
	figures{"sent": 10, "undelivered": 0}.check(t, watch)
	if d := watch.measured("delivery"); done(watch) != 10 || d.Count == 0 || d.Min <= 0 || (d.Count != 500 || d.P50 > 1_000_000) && watch.believable() {
		t.Errorf("%d commands were done, delivery %+v; want 10, and 500 within a second", done(watch), d)
	}

	drive := bench("drive", "-controllers", "3", "-rate", "10", "-warmup", "0s", "-d", "1s", url)
	if n := drive.Refusals[notDriver]; done(drive) != 10 || n != 20 {
		t.Errorf("one of three has the helm; of 30 %d were done, %d refused; want 10 and 20", done(drive), n)
	}

	if p := drive.Process; p == nil || p.End.Resident < 1<<20 || p.End.CPU <= 0 || p.End.Goroutines == 0 {
		t.Errorf("without -pid the server's /metrics are asked; they say %+v", p)
	}

	slow := bench("slow", "-n", "10", "-slow", "100", "-warmup", "0s", "-d", "1s", "-pid", id, url)
	figures{"slow_readers": 100, "slow_dropped": 0}.check(t, slow)
	if done(slow) != 20 {
		t.Errorf("%d commands were done; want 20", done(slow))
	}

	storm := bench("storm", "-rate", "200", "-warmup", "0s", "-d", "500ms", "-pid", id, url)
	figures{"connects": 100, "failed": 0}.check(t, storm)

	failsafe := bench("failsafe", "-rounds", "1", url)
	figures{"rounds": 3, "silent_by_ttl": 1, "reset_by_disconnect": 1, "closed_by_disconnect": 1}.check(t, failsafe)
	if s := failsafe.measured("silent_to_stop"); s.Min < 500_000 || s.Max > 3_000_000 && failsafe.believable() {
		t.Errorf("silence stops the car after %+v; want half a second, which is how long a motion lives, and a little", s)
	}
}
