package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// peersJSON is what peers/compare writes, as far as it matters.
const peersJSON = `{"rounds":2,"machine":{"cpus":2},"measurements":[],"summary":[
	{"scenario":"echo","server":"raw","cpu_over_raw":{"median":1,"min":1,"max":1,"count":2}},
	{"scenario":"echo","server":"gws","cpu_over_raw":{"median":14.97,"min":14.95,"max":14.98,"count":2}},
	{"scenario":"echo","server":"roverd","cpu_over_raw":{"median":1.05,"min":1.03,"max":1.07,"count":2}},
	{"scenario":"echo","server":"lost","cpu_over_raw":{"median":0,"min":0,"max":0,"count":0},"failed_rounds":2},
	{"scenario":"idle","server":"raw","resident_bytes_per_connection":{"median":0,"min":-4,"max":4,"count":2}},
	{"scenario":"idle","server":"roverd","resident_bytes_per_connection":{"median":212,"min":210,"max":214,"count":2}}]}`

func TestPlotFiles(t *testing.T) {
	peers := filepath.Join(t.TempDir(), "peers.json")
	if err := os.WriteFile(peers, []byte(peersJSON), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file string
		want []string // names of files
	}{
		"a report":      {save(t, sample(3, 1)), []string{"echo-bytes", "echo-cpu", "echo-latency", "echo-memory", "echo-rate", "echo-worst"}},
		"peers/compare": {peers, []string{"peers-echo", "peers-idle"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "new")
			var out, errs strings.Builder
			if code := program(t.Context(), []string{"plot", test.file, dir}, &out, &errs); code != 0 {
				t.Fatalf("exit code %d, %s", code, errs.String())
			}
			var names []string
			for file := range strings.Lines(out.String()) {
				text, err := os.ReadFile(strings.TrimSpace(file))
				if err != nil {
					t.Fatal(err)
				}
				checkPlot(t, string(text))
				names = append(names, strings.TrimSuffix(filepath.Base(strings.TrimSpace(file)), ".svg"))
			}
			slices.Sort(names)
			if !slices.Equal(names, test.want) {
				t.Errorf("files %q; want %q", names, test.want)
			}
		})
	}
	little := save(t, &report{Schema: schema, Scenario: "echo", Summary: []summary{{Name: "f", Values: []float64{1}}}})
	var out, errs strings.Builder
	if code := program(t.Context(), []string{"plot", little, t.TempDir()}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "too little for a plot") {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
	if code := program(t.Context(), []string{"plot", "/nowhere/f.json", t.TempDir()}, &out, &errs); code != 2 || !strings.Contains(errs.String(), "/nowhere/f.json") {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}

func TestRankings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "peers.json")
	if err := os.WriteFile(file, []byte(peersJSON), 0o644); err != nil {
		t.Fatal(err)
	}
	pictures, err := drawFile(file)
	if err != nil {
		t.Fatal(err)
	}
	echo := pictures[0].svg
	at := func(text string) int { return strings.Index(echo, ">"+text+"<") }
	if !(at("raw") > 0 && at("raw") < at("roverd") && at("roverd") < at("gws")) {
		t.Errorf("not the best first: %s", echo)
	}
	if !strings.Contains(echo, "1.05 (1.03–1.07)") || strings.Contains(echo, "lost") {
		t.Errorf("figures: %s", echo)
	}
}
