package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// programs builds roverd and bench, as they are used (without -race), and starts the server. Its URL and process ID come
// back, and what runs bench.
func programs(t *testing.T) (url string, pid int, bench func(args ...string) *run) {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT TESTED with -short: it builds two programs")
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("NOT TESTED here: it needs the go command")
	}
	dir := t.TempDir()
	build := exec.Command(goTool, "build", "-o", dir+string(filepath.Separator), "roverd/server", "roverd/bench")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server := exec.Command(filepath.Join(dir, "server"), "-sim", "-open", "-addr", "127.0.0.1:0")
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
		file := filepath.Join(dir, "figures.json")
		out, err := exec.CommandContext(t.Context(), filepath.Join(dir, "bench"), append([]string{args[0], "-json", file}, args[1:]...)...).CombinedOutput()
		t.Logf("bench %s\n%s", strings.Join(args, " "), out)
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

// With ten thousand viewers, bench has less than 500 bytes of its own for each.
func TestMemoryPerConnection(t *testing.T) {
	url, pid, bench := programs(t)
	got := bench("idle", "-n", "10000", "-hold", "100ms", "-pid", fmt.Sprint(pid), url).Connections
	if got.Opened != 10_000 || got.BenchBytes < 64 || got.BenchBytes > 500 || got.ServerBytes < 50 {
		t.Errorf("%d viewers, bench has %v bytes for each, the server %v; want 10000, and 500 or less", got.Opened, got.BenchBytes, got.ServerBytes)
	}
}

func TestAgainstRoverd(t *testing.T) {
	url, pid, bench := programs(t)
	id := fmt.Sprint(pid)

	watch := bench("watch", "-n", "50", "-rate", "10", "-warmup", "200ms", "-d", "1s", "-pid", id, url)
	figures{"sent": 10, "applied": 10, "undelivered": 0}.check(t, watch)
	if d := watch.measured("delivery"); d.Count != 500 || d.Min <= 0 || d.P50 > 1_000_000 {
		t.Errorf("delivery %+v; want 500 within a second", d)
	}

	drive := bench("drive", "-controllers", "3", "-rate", "10", "-warmup", "0s", "-d", "1s", url)
	figures{"sent": 30, "applied": 10}.check(t, drive)
	if drive.Refusals[notDriver] != 20 {
		t.Errorf("one of three has the helm; %v were refused of 30", drive.Refusals)
	}

	slow := bench("slow", "-n", "10", "-slow", "100", "-warmup", "0s", "-d", "1s", "-pid", id, url)
	figures{"slow_readers": 100, "slow_dropped": 0, "applied": 20}.check(t, slow)

	storm := bench("storm", "-rate", "200", "-warmup", "0s", "-d", "500ms", "-pid", id, url)
	figures{"connects": 100, "failed": 0}.check(t, storm)

	failsafe := bench("failsafe", "-rounds", "1", url)
	figures{"rounds": 3, "silent_by_ttl": 1, "reset_by_disconnect": 1, "closed_by_disconnect": 1}.check(t, failsafe)
	if s := failsafe.measured("silent_to_stop"); s.Min < 500_000 || s.Max > 3_000_000 {
		t.Errorf("silence stops the car after %+v; want half a second, which is how long a motion lives, and a little", s)
	}
}
