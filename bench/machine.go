package main

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctls that bound or shape a run: how many connections wait to be accepted, files and ports there are, packets wait
// on loopback; how TCP shares out memory, and what it sends by.
var sysctls = []string{
	"fs.file-max", "fs.nr_open", "net.core.netdev_max_backlog", "net.core.rmem_max", "net.core.somaxconn", "net.core.wmem_max",
	"net.ipv4.ip_local_port_range", "net.ipv4.tcp_congestion_control", "net.ipv4.tcp_max_syn_backlog", "net.ipv4.tcp_mem",
	"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}

func thisMachine() machine {
	var name unix.Utsname
	unix.Uname(&name) // can only fail with a bad address
	var files unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &files) // likewise
	m := machine{
		Model:      processorModel(),
		CPUs:       runtime.NumCPU(),
		GOMAXPROCS: runtime.GOMAXPROCS(0),
		Governor:   firstLine("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
		Hypervisor: strings.Contains(keyed("/proc/cpuinfo", "flags")+" ", " hypervisor "),
		Memory:     kilobytes(keyed("/proc/meminfo", "MemTotal")),
		Kernel:     unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:]),
		Go:         runtime.Version(),
		Files:      [2]uint64{files.Cur, files.Max},
		Sysctls:    map[string]string{},
	}
	for _, name := range sysctls {
		if value := sysctl(name); value != "" {
			m.Sysctls[name] = value
		}
	}
	return m
}

// processorModel is what /proc/cpuinfo calls it: "model name" on x86 and 32-bit ARM, "Model", the board's, on others.
func processorModel() string {
	for _, key := range []string{"model name", "Model"} {
		if model := keyed("/proc/cpuinfo", key); model != "" {
			return model
		}
	}
	return firstLine("/proc/device-tree/model")
}

// sysctl reads a setting of the kernel; "" when there is none of that name.
func sysctl(name string) string {
	return strings.Join(strings.Fields(firstLine("/proc/sys/"+strings.ReplaceAll(name, ".", "/"))), " ")
}

// firstLine reads a file of one line; what can't be read is empty.
func firstLine(file string) string {
	text, _ := os.ReadFile(file)
	return strings.TrimRight(string(text), "\n\x00")
}

// keyed finds the first value of a key in a file of "key: value" lines; "" when it is not there.
func keyed(file, key string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// kilobytes reads what the kernel writes as "12 kB" and means as 1024 bytes each.
func kilobytes(value string) int64 {
	number, _, _ := strings.Cut(value, " ")
	n, _ := strconv.ParseInt(number, 10, 64)
	return n << 10
}
