package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// compare tells how the figures of one report differ from those of another: `bench compare A.json B.json`.
func compare(args []string, w io.Writer) error {
	if len(args) != 2 {
		return usage("which reports? want two files, as in: bench compare A.json B.json")
	}
	a, err := readReport(args[0])
	if err != nil {
		return err
	}
	b, err := readReport(args[1])
	if err != nil {
		return err
	}
	if a.Scenario != b.Scenario {
		return usage("%s is of the scenario %s and %s of %s: give two of the same one", args[0], a.Scenario, args[1], b.Scenario)
	}
	printComparison(w, args, a, b)
	return nil
}

// readReport reads a JSON file with figures that bench has written.
func readReport(file string) (*report, error) {
	const remedy = "give a file that `bench SCENARIO -json FILE URL` wrote"
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usage("%w: %s", err, remedy)
	}
	var head struct { // read first, since other files may have anything under the other names
		Schema   int
		Scenario string
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, usage("%s is not the JSON of a report (%w): %s", file, err, remedy)
	}
	switch {
	case head.Schema == 0 || head.Scenario == "":
		return nil, usage("%s is not a report of bench, which would name its schema and scenario: %s", file, remedy)
	case head.Schema != schema:
		return nil, usage("%s has schema %d, and this bench knows %d: take the bench that wrote it, or measure anew", file, head.Schema, schema)
	}
	r := &report{}
	err = json.Unmarshal(text, r)
	if slices.Contains(r.Runs, nil) {
		err = errors.New("a run is null")
	}
	if err != nil {
		return nil, usage("%s is damaged (%w): measure anew", file, err)
	}
	if len(r.Summary) == 0 {
		return nil, usage("%s has no figures (%s): measure anew", file, cmp.Or(r.Error, "no error is told"))
	}
	return r, nil
}

func printComparison(w io.Writer, files []string, a, b *report) {
	fmt.Fprintf(w, "bench %s, two reports\n", a.Scenario)
	for i, r := range []*report{a, b} {
		version := ""
		if r.Server.Version != "" {
			version = ", roverd " + r.Server.Version
		}
		fmt.Fprintf(w, "  %c: %s: runs: %d, begun %s, %s%s\n", 'A'+i, files[i], len(r.Runs), r.Started.Format(time.RFC3339), r.Target, version)
		if r.Error != "" {
			fmt.Fprintf(w, "     it failed: %s\n", r.Error)
		}
		for _, text := range r.doubts() {
			fmt.Fprintf(w, "     doubtful: %s\n", text)
		}
	}
	for _, text := range differences(a, b) {
		fmt.Fprintf(w, "  not the same: %s\n", text)
	}
	fmt.Fprintln(w)

	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.row("median (range of the runs)", "A", "B", "B/A", "B is", "")
	verdicts := map[string]int{}
	var missing []string
	for _, from := range a.Summary {
		i := slices.IndexFunc(b.Summary, func(s summary) bool { return s.Name == from.Name })
		if i < 0 {
			missing = append(missing, "A: "+from.Name)
			continue
		}
		to := b.Summary[i]
		v := verdict(from, to)
		verdicts[v]++
		better := ""
		if from.Better != "" {
			better = from.Better + " is better"
		}
		t.row(spoken(from.Name), from.text(), to.text(), ratio(from.Median, to.Median), v, better)
	}
	t.Flush()
	for _, s := range b.Summary {
		if !slices.ContainsFunc(a.Summary, func(from summary) bool { return s.Name == from.Name }) {
			missing = append(missing, "B: "+s.Name)
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(w, "\nOnly in %s.\n", strings.Join(missing, ", "))
	}

	n, m := len(a.Runs), len(b.Runs)
	fmt.Fprintln(w)
	if verdicts[cantTell] > 0 {
		fmt.Fprintf(w, "%s: too few runs have the figure (A has %d, B %d) to know what is noise; measure both with -repeat 5.\n", cantTell, n, m)
	}
	if luck(n, m) <= mostLuck {
		fmt.Fprintf(w, "%s: the ranges of the runs overlap. If they do not there is a difference; luck alone makes one in 1 of %.0f figures.\n"+
			"The runs of a file share their minutes: if the machine may have changed since, measure A once more, and compare it with itself.\n",
			noise, 1/luck(n, m))
	}
}

// The verdicts on a figure beside "better" and "worse", "more" and "less".
const (
	same     = "the same"
	noise    = "within the noise"
	cantTell = "can't tell"
)

// mostLuck is how often luck alone may make a difference.
const mostLuck = 0.1 + 1e-9

// verdict tells how B's figure stands to A's. They differ when the ranges of their runs do not overlap; runs are too few
// to tell when luck alone would make them differ too often.
func verdict(a, b summary) string {
	switch {
	case a.Min == b.Min && a.Max == b.Max && a.Median == b.Median:
		return same
	case luck(len(a.Values), len(b.Values)) > mostLuck:
		return cantTell
	case a.Min <= b.Max && b.Min <= a.Max:
		return noise
	}
	more := b.Median > a.Median
	switch {
	case a.Better == "" && more:
		return "more"
	case a.Better == "":
		return "less"
	case more == (a.Better == "more"):
		return "better"
	}
	return "worse"
}

// luck is the chance that the ranges of n and of m runs of the same thing do not overlap: of all the orders in which they
// may come, in two all of the one are before all of the other.
func luck(n, m int) float64 {
	orders := 1. // n+m over n
	for i := 1; i <= n; i++ {
		orders *= float64(m+i) / float64(i)
	}
	return 2 / orders
}

func ratio(a, b float64) string {
	switch {
	case a == b:
		return "1"
	case a == 0:
		return "-"
	}
	return fmt.Sprintf("%.3f", b/a)
}

// text is the median with its range.
func (s summary) text() string {
	text := quantity(s.Median, s.Unit)
	if ends := ends(s.Values, s.Unit); ends != "" {
		text += " (" + ends + ")"
	}
	if s.Marked {
		text += " *"
	}
	return text
}

// differences tells what else than the server differs.
func differences(a, b *report) (texts []string) {
	add := func(name, a, b string) {
		if a != b {
			texts = append(texts, fmt.Sprintf("%s: A %s, B %s", name, cmp.Or(a, "none"), cmp.Or(b, "none")))
		}
	}
	for _, name := range keys(a.Settings, b.Settings) {
		add("-"+name, a.Settings[name], b.Settings[name])
	}
	add("processor", a.Machine.Model, b.Machine.Model)
	add("CPUs", fmt.Sprint(a.Machine.CPUs), fmt.Sprint(b.Machine.CPUs))
	add("GOMAXPROCS", fmt.Sprint(a.Machine.GOMAXPROCS), fmt.Sprint(b.Machine.GOMAXPROCS))
	add("governor", a.Machine.Governor, b.Machine.Governor)
	add("kernel", a.Machine.Kernel, b.Machine.Kernel)
	add("Go", a.Machine.Go, b.Machine.Go)
	for _, name := range keys(a.Machine.Sysctls, b.Machine.Sysctls) {
		add(name, a.Machine.Sysctls[name], b.Machine.Sysctls[name])
	}
	return texts
}

// keys returns those of both, sorted.
func keys(a, b map[string]string) []string {
	all := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(all)
	return slices.Compact(all)
}
