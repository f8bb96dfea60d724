package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is one that was started here, pinned to a CPU.
type process struct {
	cmd    *exec.Cmd
	output bytes.Buffer
	ended  chan struct{} // closed when it has
	err    error         // how; valid then
}

// start starts a program of one processor. taskset executes it in its own place, so it keeps the process ID.
func start(ctx context.Context, cpu string, args []string) (*process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command("taskset", append([]string{"-c", cpu}, args...)...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	p.cmd.Stderr = &p.output
	// A group of its own, to be ended whole; and if this program dies, the child must not go on alone.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// wait returns when the process has ended, and ends it when ctx does.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.ended:
		return p.err
	case <-ctx.Done():
		p.stop()
		return context.Cause(ctx)
	}
}

// stop ends the process.
func (p *process) stop() {
	select {
	case <-p.ended:
		return
	default:
	}
	syscall.Kill(-p.pid(), syscall.SIGKILL) // politeness would cost a server with 18,000 connections seconds
	<-p.ended
}

// awaitPort returns when the process listens.
func (p *process) awaitPort(ctx context.Context, port int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for {
		if conn, err := net.Dial("tcp", address(port)); err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended at once: %v: %s", p.cmd.Args[3], p.err, strings.TrimSpace(p.output.String()))
		case <-late:
			return fmt.Errorf("%s does not listen", p.cmd.Args[3])
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// freePort finds a port that nobody has, until somebody takes it.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}
