package main

import (
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestLuck(t *testing.T) {
	for _, test := range []struct {
		n, m int
		want float64
	}{{1, 1, 1}, {1, 2, 2. / 3}, {2, 2, 1. / 3}, {3, 3, 0.1}, {3, 2, 0.2}, {5, 5, 2. / 252}, {19, 1, 0.1}} {
		if got := luck(test.n, test.m); math.Abs(got-test.want) > 1e-12 {
			t.Errorf("luck(%d, %d) = %v; want %v", test.n, test.m, got, test.want)
		}
	}
}

func TestVerdict(t *testing.T) {
	for name, test := range map[string]struct {
		better string
		a, b   []float64
		want   string
	}{
		"one run each":       {"less", []float64{1}, []float64{9}, "can't tell"},
		"one and many":       {"less", []float64{1}, []float64{7, 8, 9}, "can't tell"},
		"two each":           {"less", []float64{1, 2}, []float64{8, 9}, "can't tell"},
		"one each, the same": {"less", []float64{1}, []float64{1}, "the same"},
		"lower is worse":     {"more", []float64{7, 8, 9}, []float64{1, 2, 3}, "worse"},
		"higher is better":   {"more", []float64{1, 2, 3}, []float64{7, 8, 9}, "better"},
		"higher is worse":    {"less", []float64{1, 2, 3}, []float64{7, 8, 9}, "worse"},
		"lower is better":    {"less", []float64{7, 8, 9}, []float64{1, 2, 3}, "better"},
		"neither, more":      {"", []float64{1, 2, 3}, []float64{7, 8, 9}, "more"},
		"neither, less":      {"", []float64{7, 8, 9}, []float64{1, 2, 3}, "less"},
		"they overlap":       {"less", []float64{1, 2, 5}, []float64{4, 8, 9}, "within the noise"},
		"they touch":         {"less", []float64{1, 2, 5}, []float64{5, 8, 9}, "within the noise"},
		"one within":         {"less", []float64{1, 9, 5}, []float64{4, 5, 6}, "within the noise"},
	} {
		r := func(values []float64) summary {
			r := &report{}
			for _, v := range values {
				r.Runs = append(r.Runs, &run{Figures: []figure{{"f", v, "", test.better}}})
			}
			r.summarize()
			return r.Summary[0]
		}
		if got := verdict(r(test.a), r(test.b)); got != test.want {
			t.Errorf("%s: %q; want %q", name, got, test.want)
		}
	}
}

// runCompare runs bench compare as the command line does.
func runCompare(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	code = program(t.Context(), append([]string{"compare"}, args...), &out, &errs)
	t.Logf("exit code %d\n%s%s", code, out.String(), errs.String())
	return code, out.String(), errs.String()
}

func TestCompare(t *testing.T) {
	slow := sample(5, 1.2)
	slow.Settings["size"], slow.Machine.Kernel = "128", "Linux 6.19"
	slow.Runs[2].Marks = []mark{{Code: "bench_cpu", Text: "bench used up its processor", Of: []string{"messages_per_s"}}}
	slow.Runs[0].Figures = append(slow.Runs[0].Figures, figure{"novelty", 1, "", ""})
	slow.summarize()
	for name, test := range map[string]struct {
		a, b *report
		want []string
	}{
		"slower": {sample(5, 1), slow, []string{
			"not the same: -size: A 64, B 128", "not the same: kernel: A Linux 6.18, B Linux 6.19",
			"doubtful: Run 3: bench used up its processor", "0.833", "1.200", "worse", "more is better", "less is better",
			"the same", "Only in B: novelty", "1 of 126 figures"}},
		"noise":        {sample(5, 1), sample(5, 1.02), []string{"within the noise"}},
		"one run each": {sample(1, 1), sample(1, 2), []string{"can't tell", "too few runs", "A has 1, B 1", "-repeat 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, _ := runCompare(t, save(t, test.a), save(t, test.b))
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			for _, text := range test.want {
				if !strings.Contains(out, text) {
					t.Errorf("it does not say %q", text)
				}
			}
		})
	}
	_, out, _ := runCompare(t, save(t, sample(5, 1)), save(t, slow))
	for _, line := range []string{`messages per s .* 0\.833  worse +more is better`, `latency p50 .* 1\.200  worse +less is better`} {
		if !regexp.MustCompile(line).MatchString(out) {
			t.Errorf("no line %s", line)
		}
	}
	if _, out, _ := runCompare(t, save(t, sample(5, 1)), save(t, sample(5, 1))); strings.Contains(out, "worse") || strings.Contains(out, "not the same") {
		t.Error("a report differs from itself")
	}
}

func TestCompareRefuses(t *testing.T) {
	good := save(t, sample(1, 1))
	other, newer := sample(1, 1), sample(1, 1)
	other.Scenario, newer.Schema = "drive", schema+1
	text := func(text string) string {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	notJSON, list, foreign, damaged := text("latency p50 3 ms"), text("[1]"), text(`{"machine":7}`), text(`{"schema":1,"scenario":"echo","runs":7}`)
	null := text(`{"schema":1,"scenario":"echo","runs":[null],"summary":[{"name":"f"}]}`)
	failed, newerFile, otherFile := save(t, &report{Schema: schema, Scenario: "echo", Error: "connection refused"}), save(t, newer), save(t, other)
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"one file":         {[]string{good}, []string{"bench compare A.json B.json"}},
		"three files":      {[]string{good, good, good}, []string{"bench compare A.json B.json"}},
		"no such file":     {[]string{good, "/nowhere/b.json"}, []string{"/nowhere/b.json", "-json FILE"}},
		"not JSON":         {[]string{notJSON, good}, []string{notJSON, "-json FILE"}},
		"a list":           {[]string{good, list}, []string{list, "-json FILE"}},
		"another's JSON":   {[]string{good, foreign}, []string{foreign, "-json FILE"}},
		"damaged":          {[]string{good, damaged}, []string{damaged, "damaged", "measure anew"}},
		"a run of nothing": {[]string{good, null}, []string{null, "a run is null", "measure anew"}},
		"newer":            {[]string{newerFile, good}, []string{newerFile, "schema 2, and this bench knows 1", "measure anew"}},
		"failed":           {[]string{good, failed}, []string{failed, "connection refused", "measure anew"}},
		"another scenario": {[]string{good, otherFile}, []string{good + " is of the scenario echo", otherFile, "drive", "of the same one"}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := runCompare(t, test.args...)
			if code != 2 || out != "" {
				t.Errorf("exit code %d, %q; want 2 and nothing", code, out)
			}
			for _, text := range test.want {
				if !strings.Contains(errs, text) {
					t.Errorf("it does not say %q", text)
				}
			}
		})
	}
}
