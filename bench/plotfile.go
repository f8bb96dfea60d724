package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// plot draws a report, or what peers/compare measured, into SVG files: `bench plot FILE.json DIR`.
func plot(args []string, w io.Writer) error {
	if len(args) != 2 {
		return usage("what, and where to? as in: bench plot FILE.json DIR")
	}
	pictures, err := drawFile(args[0])
	if err != nil {
		return err
	}
	if len(pictures) == 0 {
		return fmt.Errorf("%s has too little for a plot: measure for longer", args[0])
	}
	if err := os.MkdirAll(args[1], 0o755); err != nil {
		return usageError{err}
	}
	for _, p := range pictures {
		file := filepath.Join(args[1], p.name+".svg")
		if err := os.WriteFile(file, []byte(p.svg), 0o644); err != nil {
			return err
		}
		fmt.Fprintln(w, file)
	}
	return nil
}

// picture is a plot that is drawn.
type picture struct{ name, svg string }

// drawFile draws what the file has, which tells by its names whose it is.
func drawFile(file string) (pictures []picture, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, usageError{err}
	}
	var all rivals
	if json.Unmarshal(text, &all) == nil {
		for _, k := range all.rankings() {
			pictures = append(pictures, picture{"peers-" + k.name, k.svg()})
		}
	}
	if len(pictures) > 0 {
		return pictures, nil
	}
	r, err := readReport(file)
	if err != nil {
		return nil, err
	}
	for _, s := range r.sections() {
		s.chart.title = r.Scenario + ": " + s.Title
		if s.Shaded() {
			s.chart.x.label += "; shaded is what was not measured"
		}
		pictures = append(pictures, picture{r.Scenario + "-" + s.ID, s.chart.svg(true)})
	}
	return pictures, nil
}
