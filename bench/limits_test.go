package main

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRaiseFiles(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if err := raiseFiles(files.Cur); err != nil {
		t.Errorf("what is allowed already: %v", err)
	}
	most, err := strconv.ParseUint(sysctl("fs.nr_open"), 10, 64)
	if err != nil {
		t.Skip("NOT TESTED here: ", err)
	}
	// The hard limit can't be above fs.nr_open (proc_sys_fs(5)), whoever asks.
	err = raiseFiles(most + 1)
	if err == nil || !strings.Contains(err.Error(), "RLIMIT_NOFILE allows this process ") || !strings.Contains(err.Error(), "sysctl fs.nr_open=") {
		t.Errorf("more than fs.nr_open: %v", err)
	}
}

func TestLimits(t *testing.T) {
	local := &target{addr: netip.MustParseAddrPort("127.0.0.1:9900")}
	far := &target{addr: netip.MustParseAddrPort("10.0.0.1:9900")}
	if err := checkLimits(&options{n: 100, controllers: 1}, local); err != nil {
		t.Errorf("100 connections: %v", err)
	}
	ports := localPorts()
	if ports < 1000 || ports > 65536 {
		t.Fatalf("there are %d ports", ports)
	}
	if err := checkLimits(&options{n: ports + 1}, far); err == nil || !strings.Contains(err.Error(), "net.ipv4.ip_local_port_range") {
		t.Errorf("more connections than ports from one address: %v", err)
	}
	if err := checkLimits(&options{n: ports + 1}, local); err != nil && strings.Contains(err.Error(), "ip_local_port_range") {
		t.Errorf("as many on loopback, which has many addresses: %v", err)
	}
}
