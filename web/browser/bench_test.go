package browser

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// benchReport is what is read of the JSON file of bench.
type benchReport struct {
	Summary []struct {
		Name   string
		Median float64
	}
	Runs []struct {
		Times []struct {
			Count int64
			P50   float64 `json:"p50_us"`
			P99   float64 `json:"p99_us"`
			Max   float64 `json:"max_us"`
		}
	}
}

// TestBenchPage looks at the page that bench -html writes, opened as a file.
func TestBenchPage(t *testing.T) {
	dir := t.TempDir()
	bench, figures, page := filepath.Join(dir, "bench"), filepath.Join(dir, "figures.json"), filepath.Join(dir, "page.html")
	build := exec.Command("go", "build", "-o", bench, "./bench")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building bench: %v\n%s", err, out)
	}
	c := startWired(t, "", "")
	drive := exec.Command(bench, "drive", "-n", "1000", "-rate", "100", "-d", "2s", "-pid", strconv.Itoa(c.cmd.Process.Pid),
		"-json", figures, "-html", page, "ws://"+c.host()+"/")
	if out, err := drive.CombinedOutput(); err != nil {
		t.Fatalf("bench: %v\n%s", err, out)
	}
	text, err := os.ReadFile(figures)
	if err != nil {
		t.Fatal(err)
	}
	var report benchReport
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}

	for _, view := range []string{"desktop", "phone"} {
		for _, colours := range []string{"light", "dark"} {
			t.Run(view+"-"+colours, func(t *testing.T) {
				p := blank(t, chrome, chromedp.WithNewBrowserContext())
				call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
					Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: colours}}})
				p.do(viewports[view], chromedp.Navigate("file://"+page))
				p.checkPlots()
				p.checkFigures(&report)
				if to := os.Getenv("ROVERD_SCREENSHOTS"); to != "" {
					p.whole(filepath.Join(to, "bench-"+view+"-"+colours+".png"))
				}
				p.mu.Lock()
				defer p.mu.Unlock()
				if len(p.troubles) > 0 {
					t.Errorf("console: %q", p.troubles)
				}
				if !slices.Equal(p.requests, []string{"file://" + page}) {
					t.Errorf("the page asked for %q", p.requests)
				}
			})
		}
	}
}

// checkPlots looks for plots that are not there, can't be read, or have a text on another.
func (p *tab) checkPlots() {
	p.t.Helper()
	type plot struct {
		Title    string
		Scale    float64 // pixels for each unit
		Curves   int
		Overlaps []string // texts
	}
	all := eval[[]plot](p, `[...document.querySelectorAll('svg.plot')].map((svg) => {
		const box = (element) => element.getBoundingClientRect();
		const texts = [...svg.querySelectorAll('text')];
		const outer = box(svg);
		const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 4 && b.top < a.bottom - 4;
		return {
			title: document.getElementById(svg.getAttribute('aria-labelledby')).textContent,
			scale: outer.width / svg.viewBox.baseVal.width,
			curves: [...svg.querySelectorAll('path.curve')].filter((path) => path.getTotalLength() > 20).length,
			overlaps: texts.flatMap((a, i) => [
				...texts.slice(i + 1).filter((b) => meet(box(a), box(b))).map((b) => a.textContent + ' / ' + b.textContent),
				...(box(a).left < outer.left - 1 || box(a).right > outer.right + 1 ? [a.textContent + ' / the edge'] : [])]),
		};
	})`)
	var titles []string
	for _, one := range all {
		titles = append(titles, one.Title)
		const textHeight, smallest = 12, 10 // pixels of a text
		if one.Scale*textHeight < smallest || one.Curves == 0 || len(one.Overlaps) > 0 {
			p.t.Errorf("%s: %.2f pixels for a unit, %d curves, overlaps: %q", one.Title, one.Scale, one.Curves, one.Overlaps)
		}
	}
	for _, title := range []string{"Latency by percentile", "Throughput over time", "Processor over time", "Memory over time"} {
		if !slices.Contains(titles, title) {
			p.t.Errorf("no plot %q among %q", title, titles)
		}
	}
	if cut := eval[[]string](p, `[...document.querySelectorAll('.table')].filter((table) => table.scrollWidth > table.clientWidth)
		.map((table) => table.getAttribute('aria-labelledby'))`); len(cut) > 0 {
		p.t.Errorf("tables that are cut off: %q", cut)
	}
	if wide := eval[int](p, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
		p.t.Errorf("the page is %d pixels too wide", wide)
	}
}

// checkFigures compares the page's tables with the JSON file.
func (p *tab) checkFigures(report *benchReport) {
	p.t.Helper()
	const table = `Object.fromEntries([...document.querySelectorAll('section[aria-labelledby="%s"] tbody tr')].map((row) =>
		[row.querySelector('th').firstChild.textContent.trim(), +row.querySelector('data').value]))`
	figures := eval[map[string]float64](p, fmt.Sprintf(table, "figures"))
	if len(figures) != len(report.Summary) || len(figures) < 5 {
		p.t.Errorf("%d figures on the page, %d in the file", len(figures), len(report.Summary))
	}
	for _, s := range report.Summary {
		if got, ok := figures[strings.ReplaceAll(s.Name, "_", " ")]; !ok || got != s.Median {
			p.t.Errorf("%s: %v on the page, %v in the file", s.Name, got, s.Median)
		}
	}
	first := report.Runs[0].Times[0]
	latency := eval[map[string]float64](p, fmt.Sprintf(table, "latency"))
	for name, want := range map[string]float64{"p50": first.P50, "p99": first.P99, "max": first.Max, "count": float64(first.Count)} {
		if latency[name] != want || want == 0 {
			p.t.Errorf("latency %s: %v on the page, %v in the file", name, latency[name], want)
		}
	}
}

// whole saves the whole page, and not only what is in sight.
func (p *tab) whole(file string) {
	picture := run(p, chromedp.FullScreenshot(100))
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		p.t.Error(err)
	}
}
