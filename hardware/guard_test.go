package hardware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The guard without lines, so that all of it but the last ioctl is tested anywhere. With lines it is tested in
// server/guard_test.go.

// vigil is a guardian in this process, with a pipe and a page that the test has the other ends of.
func vigil(t *testing.T) (g *guardian, end func()) {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pipe[0]); unix.Close(wake) })
	return &guardian{until: &atomic.Uint32{}, pipe: pipe[0], wake: wake}, func() { unix.Close(pipe[1]) }
}

func in(d time.Duration) uint32 { return uint32(instantNow() + instant(d.Microseconds())) }

func TestGuardWaits(t *testing.T) {
	const lease, long = 20 * time.Millisecond, 200 * time.Millisecond
	for _, tt := range []struct {
		name   string
		during func(g *guardian, end func()) // while the guard waits
		hung   bool
		least  time.Duration
	}{
		{"the end of the other process", func(_ *guardian, end func()) { end() }, false, 0},
		{"the end in motion", func(g *guardian, end func()) { g.until.Store(in(time.Minute)); kick(g.wake); end() }, false, 0},
		{"a lease that is left to pass", func(g *guardian, _ func()) { g.until.Store(in(lease)); kick(g.wake) }, true, lease + grace + lateTime},
		{"an actor that is late", func(g *guardian, end func()) {
			g.until.Store(in(lease))
			kick(g.wake)
			for g.until.Load() != taken {
				runtime.Gosched()
			}
			for g.until.Store(returned); g.until.Load() != standing; runtime.Gosched() {
			}
			time.Sleep(2 * lateTime) // nothing is held against it
			end()
		}, false, lease + grace + 2*lateTime},
		{"a lease that is renewed, and given up", func(g *guardian, end func()) {
			g.until.Store(in(long))
			kick(g.wake)
			for begin := instantNow(); instantNow().sub(begin) < 2*(long+grace); runtime.Gosched() {
				g.until.Store(in(long))
			}
			g.until.Store(0)
			end()
		}, false, 2 * (long + grace)},
		{"a lease that had passed long ago, as after a standstill of the machine", func(g *guardian, _ func()) {
			g.until.Store(in(-time.Second))
			kick(g.wake)
		}, true, grace + lateTime},
		{"after a short standstill", func(g *guardian, _ func()) { g.until.Store(in(-grace * 3 / 2)); kick(g.wake) }, true, grace + lateTime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, end := vigil(t)
			hung := make(chan bool)
			begin := instantNow()
			go func() { hung <- g.wait() }()
			tt.during(g, end)
			if got := <-hung; got != tt.hung {
				t.Errorf("hung is %v", got)
			}
			if took := instantNow().sub(begin); took < tt.least || took > tt.least+5*time.Second {
				t.Errorf("it waited for %s, want at least %s", took, tt.least)
			}
		})
	}
}

// An instant goes round, and no lease notices.
func TestInstantGoesRound(t *testing.T) {
	if got := instant(5).sub(instant(1<<32 - 5)); got != 10*time.Microsecond {
		t.Errorf("10 us later is %s later", got)
	}
	if got := instant(1<<32 - 5).sub(instant(5)); got != -10*time.Microsecond {
		t.Errorf("10 us before is %s later", got)
	}
	g := &Guard{until: &atomic.Uint32{}, start: time.Now(), wake: -1}
	g.began = -instant(time.Second.Microseconds())
	if g.Until(g.start.Add(time.Second)); g.until.Load() != firstInstant {
		t.Errorf("instant 0, which would mean that the motors stand, is %d", g.until.Load())
	}
	if g.Until(g.start.Add(3 * time.Second)); g.until.Load() != 2_000_000 {
		t.Errorf("2 s after the turn is %d", g.until.Load())
	}
}

// What the guard has taken it alone gives back, and only to an actor that has said that the motors stand.
func TestGuardGivesBack(t *testing.T) {
	g := &Guard{until: &atomic.Uint32{}, start: time.Now(), began: instantNow(), wake: -1}
	lease := g.start.Add(time.Minute)
	for _, tt := range []struct {
		word  uint32
		until time.Time
		may   bool
		then  uint32 // firstInstant for an instant
	}{
		{standing, lease, true, firstInstant},
		{in(time.Second), lease, true, firstInstant},
		{in(time.Second), time.Time{}, true, standing},
		{taken, lease, false, taken},
		{taken, time.Time{}, false, returned},
		{returned, lease, false, returned},
		{returned, time.Time{}, true, returned},
		{standing, time.Time{}, true, standing},
	} {
		g.until.Store(tt.word)
		if may := g.Until(tt.until); may != tt.may || min(g.until.Load(), firstInstant) != tt.then {
			t.Errorf("%d, until %s: %v, and the word is %d", tt.word, tt.until, may, g.until.Load())
		}
	}
}

// guarded is a process that has a guard, drives for a while, and hangs. See TestMain.
func guarded() {
	g, err := StartGuard(&board{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	lease, _ := time.ParseDuration(os.Getenv("ROVERD_TEST_LEASE"))
	g.Until(time.Now().Add(lease))
	fmt.Println("driving")
	if os.Getenv("ROVERD_TEST_GIVES_UP") != "" {
		g.Close(false)
		time.Sleep(2 * (lease + grace))
		os.Exit(3)
	}
	select {}
}

// blocked is a process with a car on real lines whose actor stands still in the midst of driving, while the thread that
// makes the pulses goes on. See TestMain.
func blocked() {
	cfg := l298n
	cfg.Motors.Frequency = 100
	lines, _, err := OpenLines(cfg.Outputs())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	g, err := StartGuard(lines)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	car := New(cfg, lines, g, func(s State) {
		if s.Left != 0 {
			select {}
		}
	})
	car.Do(Command{Kind: Drive, Left: 0.5, Right: 0.5, At: time.Now()})
	car.Run(context.Background())
}

func TestGPIOGuardOfABlockedActor(t *testing.T) {
	chips := simulate(t, pi("pinctrl-bcm2711", true))
	persist(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "ROVERD_TEST_BLOCKED=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for seen := [2]bool{}; seen != [2]bool{true, true}; { // both levels of a pulse, after the direction
		if levels := outside(t, &chips[0]); levels[0] == 1 {
			seen[levels[2]] = true
		}
		if time.Since(begin) > 20*time.Second {
			t.Fatal("it does not drive at half speed")
		}
	}
	cmd.Wait()
	if !strings.Contains(stderr.String(), "hung and was killed") {
		t.Errorf("the log is %q", stderr.String())
	}
	if got := outside(t, &chips[0]); slices.Contains(got, 1) {
		t.Errorf("in the end the levels are %v", got)
	}
}

// Lines that the guard has taken are off, whoever sets them, until it has given them back.
func TestGPIOLinesThatTheGuardHas(t *testing.T) {
	chips := simulate(t, pi("pinctrl-bcm2711", true))
	lines, _, err := OpenLines(l298n.Outputs())
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	g, err := StartGuard(lines)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close(true)
	for _, tt := range []struct {
		word   uint32
		values []float64
		want   []int
	}{
		{standing, []float64{1, 0, 1, 1, 0, 1}, []int{1, 0, 1, 1, 0, 1}},
		{taken, []float64{0, 1, 1, 0, 1, 1}, []int{0, 0, 0, 0, 0, 0}},
		{returned, []float64{1, 0, 1, 1, 0, 1}, []int{1, 0, 1, 1, 0, 1}},
	} {
		g.until.Store(tt.word) // of which the guard, which sleeps, does not hear
		if err := lines.Set(tt.values); err != nil {
			t.Fatal(err)
		}
		if got := outside(t, &chips[0]); !slices.Equal(got, tt.want) {
			t.Errorf("with the word %d the levels are %v, want %v", tt.word, got, tt.want)
		}
	}
}

// Lines that can't be switched off are tried again, though the other process is dead and roverd's own attempts over.
func TestGPIOGuardTriesAgain(t *testing.T) {
	chips := simulate(t, pi("pinctrl-bcm2711", true))
	lines, _, err := OpenLines(l298n.Outputs())
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	if err := lines.Set([]float64{1, 0, 1, 1, 0, 1}); err != nil {
		t.Fatal(err)
	}
	dead := exec.Command("/proc/self/exe", "guard")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	other, err := unix.PidfdOpen(dead.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	dead.Wait()
	broken, err := unix.Eventfd(0, unix.EFD_CLOEXEC) // no line
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(broken)
	g := &guardian{other: other, lines: &request{fd: broken, lines: 6}}
	ended := make(chan error, 1)
	go func() { _, _, err := g.end(); ended <- err }()
	select {
	case err := <-ended:
		t.Fatalf("it gave up: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := unix.Dup3(lines.(*board).request.fd, broken, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := outside(t, &chips[0]); slices.Contains(got, 1) {
		t.Errorf("the levels are %v", got)
	}
}

func TestGuardOfAProcess(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lease time.Duration
		env   string
		kill  bool
		ends  string
		says  string
	}{
		{"that hangs", 50 * time.Millisecond, "", false, "signal: killed", "hung and was killed"},
		{"that is killed", time.Minute, "", true, "signal: killed", "ended in the midst of its work"},
		// It lives on, though nobody renews the lease.
		{"that gives up its lines", 50 * time.Millisecond, "ROVERD_TEST_GIVES_UP=1", false, "exit status 3", "ended in the midst of its work"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), "ROVERD_TEST_LEASE="+tt.lease.String(), tt.env)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said := make([]byte, 8)
			if _, err := out.Read(said); err != nil || string(said) != "driving\n" {
				t.Errorf("it says %q, %v", said, err)
			}
			begin := time.Now()
			if tt.kill {
				cmd.Process.Kill()
			}
			cmd.Wait() // also for the guard, which has the same standard error
			if took := time.Since(begin); took > 8*time.Second {
				t.Errorf("that took %s", took)
			}
			if got := cmd.ProcessState.String(); got != tt.ends {
				t.Errorf("it ended with %s, want %s", got, tt.ends)
			}
			if !strings.Contains(stderr.String(), tt.says) || strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("the log is %q, want one line that says %q", stderr.String(), tt.says)
			}
		})
	}
}

// descriptors lists what files a process has open, as /proc shows them.
func descriptors(t *testing.T, pid int) map[int]string {
	t.Helper()
	return readLinks(t, fmt.Sprintf("/proc/%d/fd", pid))
}

// tasks lists the same of every thread of this process that has a table of its own.
func tasks(t *testing.T) (all []map[int]string) {
	t.Helper()
	dirs, err := filepath.Glob("/proc/self/task/*/fd")
	if err != nil {
		t.Fatal(err)
	}
	ours := len(descriptors(t, os.Getpid()))
	for _, dir := range dirs {
		if fds := readLinks(t, dir); len(fds) != ours {
			all = append(all, fds)
		}
	}
	return append(all, descriptors(t, os.Getpid()))
}

func readLinks(t *testing.T, dir string) map[int]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]string{}
	for _, e := range entries {
		n, _ := strconv.Atoi(e.Name())
		if to, err := os.Readlink(dir + "/" + e.Name()); err == nil { // else it was that of ReadDir
			all[n] = to
		}
	}
	return all
}

// The guard has what it needs of this process and nothing else, takes no signal, and leaves nothing behind.
func TestGuardKeepsToItself(t *testing.T) {
	before := descriptors(t, os.Getpid())
	g, err := StartGuard(&board{})
	if err != nil {
		t.Fatal(err)
	}
	pid := g.cmd.Process.Pid
	has := descriptors(t, pid)
	// Go's runtime looks there by itself.
	maps.DeleteFunc(has, func(_ int, to string) bool { return strings.HasPrefix(to, "/sys/fs/cgroup/") })
	if got := slices.Sorted(maps.Keys(has)); !slices.Equal(got, []int{0, 1, 2, guardPage, guardWake, guardOther}) {
		t.Errorf("the guard has the descriptors %v", has)
	}
	// Its pipe's other end is in the table of one thread, where nothing but the way to end that is.
	var tables []int
	for _, fds := range tasks(t) {
		for _, to := range fds {
			if to == has[guardPipe] {
				tables = append(tables, len(fds))
			}
		}
	}
	if !slices.Equal(tables, []int{2}) {
		t.Errorf("the pipe's other end is in tables of %v descriptors, want one of 2", tables)
	}
	if sid, err := unix.Getsid(pid); sid != pid {
		t.Errorf("its session is %d, %v, want its own", sid, err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, mask, _ := strings.Cut(string(status), "SigIgn:\t")
	ignored, err := strconv.ParseUint(mask[:16], 16, 64)
	if err != nil {
		t.Error(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE} {
		if ignored&(1<<(sig-1)) == 0 {
			t.Errorf("it heeds signal %d (%s)", sig, sig)
		}
	}
	g.Close(true)
	if got := g.cmd.ProcessState.String(); got != "signal: killed" {
		t.Errorf("before it was told to end it did: %s", got)
	}
	if len(g.Failed()) > 0 {
		t.Error("its end counts as a failure")
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("its process is still there, or was not waited for: %v", err)
	}
	if after := descriptors(t, os.Getpid()); !maps.Equal(before, after) {
		t.Errorf("the descriptors are %v, and were %v", after, before)
	}
}

func TestGuardIsMissed(t *testing.T) {
	g, err := StartGuard(&board{})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close(true)
	g.cmd.Process.Kill()
	if err := <-g.Failed(); !strings.Contains(err.Error(), "without it the car does not drive") {
		t.Error(err)
	}
}

// `roverd guard` by hand says what it is.
func TestGuardByHand(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "guard")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "roverd starts by itself") {
		t.Errorf("%v, %q", err, out)
	}
}
