package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestUsage(t *testing.T) {
	const url = "ws://127.0.0.1:9/ws"
	for _, test := range []struct {
		args, want string
		code       int
	}{
		{"", "which scenario?", 2},
		{"rain", `unknown scenario "rain"`, 2},
		{"idle", "which server?", 2},
		{"idle " + url + " -n 3", `unexpected argument "-n" after the URL; flags come before the URL`, 2},
		{"idle -x " + url, "-x", 2},
		{"idle -n 0 " + url, "-n 0: want 1 to", 2},
		{"drive -n -1 " + url, "-n -1: want up to", 2},
		{"idle -churn -1 " + url, "-churn -1: want 0.1 to", 2},
		{"idle -rate NaN " + url, "-rate NaN", 2},
		{"drive -rate NaN " + url, "-rate NaN", 2},
		{"drive -rate 1e9 " + url, "-rate 1e+09", 2},
		{"drive -d 0s " + url, "-d 0s", 2},
		{"drive -rate 10000 -controllers 1000 -d 5m " + url, "more than 100000000 commands", 2},
		{"drive -controllers 0 " + url, "-controllers 0: want 1 to", 2},
		{"drive -repeat 0 " + url, "-repeat 0: want 1 to 100", 2},
		{"drive -repeat 100 " + url, "does not fit into -timeout 10m0s", 2},
		{"drive -token a\x7fb " + url, "-token, or ROVERD_TOKEN", 2},
		{"watch -rate -1 " + url, "-rate -1: want 0.1 to 1000", 2},
		{"watch -d 0s -rate 0 " + url, "-d 0s", 2},
		{"slow -slow -1 " + url, "-slow -1: want up to", 2},
		{"slow -trickle -1 " + url, "-trickle -1: want 0 to", 2},
		{"storm -rate 1000 -hold 2s " + url, "more than -n 1000 connections at a time", 2},
		{"failsafe -rounds 0 " + url, "-rounds 0: want 1 to", 2},
		{"failsafe -rate 0.5 " + url, "-rate 0.5: want 1 to", 2},
		{"soak -rate 0 " + url, "want somebody to drive", 2},
		{"soak -d 3h " + url, "does not fit into -timeout 2h0m0s", 2},
		{"idle -hold -1s " + url, "can't be negative", 2},
		{"idle -hold 1h " + url, "does not fit into -timeout 10m0s", 2},
		{"echo -n 0 " + url, "-n 0: want 1 to", 2},
		{"echo -rate NaN " + url, "-rate NaN", 2},
		{"echo -rate 10 -depth 2 " + url, "want one of them", 2},
		{"echo -depth 0 " + url, "-depth 0", 2},
		{"echo -n 1000 -depth 1001 " + url, "want 1 to 1000000 messages in flight", 2},
		{"echo -raw -get " + url, "want one of them", 2},
		{"echo -size 0 " + url, "-size 0: want 1 to 65536 bytes", 2},
		{"echo -d 0s " + url, "-d 0s", 2},
		{"echo -d 1h " + url, "does not fit into -timeout 10m0s", 2},
		{"echo -pid 99999999 " + url, "-pid 99999999: no such process", 2},
		{"broadcast -rate 0 " + url, "-rate 0: want 0.1 to 1000 broadcasts per second", 2},
		{"broadcast -size 70000 " + url, "-size 70000", 2},
		{"broadcast -words up,,stop " + url, "a word is empty", 2},
		{"broadcast -raw -words up " + url, "-words are for roverd", 2},
		{"broadcast -pid 99999999 " + url, "-pid 99999999: no such process", 2},
		{"idle -pid 99999999 " + url, "-pid 99999999: no such process", 2},
		{"idle 127.0.0.1:9", `URL "127.0.0.1:9": want ws://`, 2},
		{"idle ws:///ws", `URL "ws:///ws": want ws://`, 2},
		{"idle ws://127.0.0.1:0/ws", "port 0: want 1 to 65535", 2},
		{"idle ws://127.0.0.1:70000/ws", "70000", 2},
		{"idle ws://192.0.2.1:9900/ws", "192.0.2.1 is neither this machine nor in a private network", 2},
		{"drive ws://[2001:db8::1]/ws", "say -anywhere", 2},
		{"idle -json /nowhere/f " + url, "-json: open /nowhere/f", 2},
		{"idle wss://127.0.0.1:9/ws", `URL "wss://127.0.0.1:9/ws": bench speaks no TLS`, 2},
		{"idle https://127.0.0.1:9/?token=sesame", `URL "https://127.0.0.1:9/?token=...": bench speaks no TLS`, 2},
		{"idle -json /nowhere/f -html /nowhere/f " + url, "are the same file, /nowhere/f", 2},
		{"-compare a.json", "bench compare A.json B.json", 2}, // as other tools spell it
		{"--plot a.json", "bench plot FILE.json DIR", 2},
		{"help", "", 0},
		{"idle -h", "", 0},
	} {
		t.Run(test.args, func(t *testing.T) {
			var stdout, stderr strings.Builder
			code := program(t.Context(), strings.Fields(test.args), &stdout, &stderr)
			if code != test.code || !strings.Contains(stderr.String(), test.want) {
				t.Errorf("exit code %d, %q; want %d and %q", code, stderr.String(), test.code, test.want)
			}
			if code == 0 && !strings.Contains(stdout.String(), "-anywhere") {
				t.Errorf("the help is %q", stdout.String())
			}
		})
	}
}

func TestResolve(t *testing.T) {
	for raw, want := range map[string]string{
		"ws://127.0.0.1:9900/ws":     "127.0.0.1:9900 127.0.0.1:9900 /ws",
		"http://10.1.2.3":            "10.1.2.3:80 10.1.2.3 /ws",
		"http://127.0.0.1:9900/?a=b": "127.0.0.1:9900 127.0.0.1:9900 /?a=b",
		"ws://[::1]:9900":            "[::1]:9900 [::1]:9900 /ws",
	} {
		got, err := resolve(t.Context(), &options{url: raw})
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		target, _, _ := strings.Cut(strings.TrimPrefix(string(got.request), "GET "), " ")
		if s := fmt.Sprint(got.addr, " ", got.host, " ", target); s != want {
			t.Errorf("%s: got %s; want %s", raw, s, want)
		}
	}
	if _, err := resolve(t.Context(), &options{url: "ws://192.0.2.1", anywhere: true}); err != nil {
		t.Errorf("-anywhere: %v", err)
	}
	got, err := resolve(t.Context(), &options{url: "ws://127.0.0.1", token: "secret"})
	if err != nil || !strings.HasSuffix(string(got.request), "\r\nAuthorization: Bearer secret\r\n\r\n") {
		t.Errorf("with a token the request is %q (%v)", got.request, err)
	}
}

func TestHelpOfAScenario(t *testing.T) {
	var stdout, stderr strings.Builder
	program(t.Context(), []string{"idle", "-h"}, &stdout, &stderr)
	if out := stdout.String(); !strings.HasPrefix(out, "Flags of idle:") || strings.Contains(out, "Flags of soak:") {
		t.Errorf("it says %q", out)
	}
}

func TestWithoutSecrets(t *testing.T) {
	for raw, want := range map[string]string{
		"ws://127.0.0.1:9900/ws":              "ws://127.0.0.1:9900/ws",
		"ws://127.0.0.1/?b=1&a=2":             "ws://127.0.0.1/?b=1&a=2",
		"http://127.0.0.1:9900/?token=sesame": "http://127.0.0.1:9900/?token=...",
		"http://me:sesame@127.0.0.1/":         "http://me:xxxxx@127.0.0.1/",
		"%":                                   "%",
	} {
		if got := withoutSecrets(raw); got != want {
			t.Errorf("%s: %s; want %s", raw, got, want)
		}
	}
}

func TestSources(t *testing.T) {
	chosen := []netip.Addr{{}}
	for _, test := range []struct {
		addr string
		n    int
		want []netip.Addr
	}{
		{"127.0.0.1", portsPerSource, chosen},
		{"127.0.0.1", portsPerSource + 1, []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}},
		{"10.0.0.1", 100_000, chosen},
		{"::1", 100_000, chosen},
	} {
		to := target{addr: netip.AddrPortFrom(netip.MustParseAddr(test.addr), 9900)}
		if got := to.sources(test.n); !slices.Equal(got, test.want) {
			t.Errorf("%d to %s: from %v; want %v", test.n, test.addr, got, test.want)
		}
	}
}

func TestSleepUntil(t *testing.T) {
	for _, d := range []time.Duration{-time.Second, 0, 100 * time.Microsecond, 5 * time.Millisecond} {
		at := time.Now().Add(d)
		if !sleepUntil(t.Context(), at) || time.Now().Before(at) {
			t.Errorf("woke before %s had passed", d)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if sleepUntil(ctx, time.Now().Add(time.Hour)) {
		t.Error("slept on after the end of its context")
	}
}
