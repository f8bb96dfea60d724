package main

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// spareFiles are descriptors beside the connections': the drivers', the loops', the files.
const spareFiles = 32

// checkLimits makes room for the connections that are asked for, or says which limit is in the way, and the remedy: a run
// that fails half-way would tell less.
func checkLimits(o *options, t *target) error {
	n := o.n + o.slow + o.controllers
	if sources := len(t.sources(n)); sources == 1 {
		if ports := localPorts(); ports > 0 && n > ports {
			return fmt.Errorf("-n %d: from one address only %d connections to %s can leave: widen the range (as root: sysctl "+
				"net.ipv4.ip_local_port_range=\"1024 65535\"), or open fewer", o.n, ports, t.addr)
		}
	}
	if err := raiseFiles(uint64(n + spareFiles)); err != nil {
		return fmt.Errorf("-n %d: %w", o.n, err)
	}
	if t.addr.Addr().IsLoopback() {
		if free, ok := filesLeft(); ok && 2*n > free { // both ends are on this machine
			return fmt.Errorf("-n %d: this machine can open %d more files, and both ends of the connections need %d: "+
				"raise it (as root: sysctl fs.file-max=...), or open fewer", o.n, free, 2*n)
		}
	}
	return nil
}

// raiseFiles raises the limit of open files if it must. Go has raised the soft limit to the hard one already.
func raiseFiles(need uint64) error {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE: %w", err)
	}
	if need <= files.Cur {
		return nil
	}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: need, Max: max(need, files.Max)}) == nil {
		return nil
	}
	err := fmt.Errorf("needs %d open files, and RLIMIT_NOFILE allows this process %d: raise the hard limit "+
		"(as root: prlimit --nofile=%d --pid $$, in the shell that starts bench), or open fewer", need, files.Max, need)
	if most, _ := strconv.ParseUint(sysctl("fs.nr_open"), 10, 64); most > 0 && need > most {
		err = fmt.Errorf("%w; before that, as root: sysctl fs.nr_open=%d", err, need)
	}
	return err
}

// filesLeft returns how many more files the machine can have open (proc_sys_fs(5), file-nr).
func filesLeft() (n int, ok bool) {
	fields := strings.Fields(sysctl("fs.file-nr"))
	if len(fields) != 3 {
		return 0, false
	}
	open, err1 := strconv.ParseUint(fields[0], 10, 64)
	most, err2 := strconv.ParseUint(fields[2], 10, 64)
	if err1 != nil || err2 != nil || most <= open {
		return 0, err1 == nil && err2 == nil
	}
	return int(min(most-open, 1<<31-1)), true
}

// localPorts returns how many ports connect(2) chooses from; 0 when that can't be read.
func localPorts() int {
	var from, to int
	if n, _ := fmt.Sscan(sysctl("net.ipv4.ip_local_port_range"), &from, &to); n != 2 {
		return 0
	}
	return to - from + 1
}
