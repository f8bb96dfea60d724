package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// builds is where the programs are.
type builds struct {
	roverd, raw, peers string
	car                string // the config of the car that roverd simulates
}

// build makes those that are not given.
func (b *builds) build(ctx context.Context) error {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}")
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("run this in bench/peers: %w", err)
	}
	home := strings.TrimSpace(string(out))
	b.car = filepath.Join(home, "compare", "car.toml")
	for _, c := range [][]string{
		{"cc", "-O2", "-o", b.raw, filepath.Join(home, "raw", "raw.c")},
		{"go", "build", "-o", b.peers, "roverd/bench/peers"},
	} {
		if out, err := exec.CommandContext(ctx, c[0], c[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(c, " "), err, out)
		}
	}
	return nil
}

// server is one of those compared.
type server struct {
	name string
	// command starts it at the port, for the scenario.
	command func(b *builds, port int, sc *scenario) []string
	raw     bool // it speaks no WebSocket
	echoes  bool // it does nothing else
	rover   bool // it has no /broadcast: commands are what makes it send to all
	most    int  // how many connections it can have; 0: as many as files may be open
}

var servers = []*server{
	{name: "raw", raw: true, command: func(b *builds, port int, sc *scenario) []string {
		mode := "echo"
		if sc.broadcast {
			mode = "broadcast"
		}
		return []string{b.raw, strconv.Itoa(port), mode}
	}},
	{name: "raw-websocket", echoes: true, command: func(b *builds, port int, _ *scenario) []string {
		return []string{b.raw, strconv.Itoa(port), "websocket"}
	}},
	{name: "roverd", rover: true, command: func(b *builds, port int, sc *scenario) []string {
		c := []string{b.roverd, "-sim", "-open", "-config", b.car, "-log-level", "error", "-addr", address(port)}
		if sc.path == "/echo" {
			c = append(c, "-echo")
		}
		return c
	}},
	peer("gnet", 0), peer("gws", 0), peer("nbio", 0), peer("gorilla", 0), peer("coder", 0), peer("gobwas", 0),
	peer("gobwas-easygo", 9000), // its HandleRead opens a second file for each, and 20,000 is a common limit
}

// peer is one of the program peers.
func peer(name string, most int) *server {
	return &server{name: name, most: most, command: func(b *builds, port int, _ *scenario) []string {
		return []string{b.peers, name, "-addr", address(port)}
	}}
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func serverNames() (names list) {
	for _, s := range servers {
		names = append(names, s.name)
	}
	return names
}
