package main

import (
	_ "embed"
	"html/template"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// page is a report as one HTML file that needs nothing else: no script, and plots that are drawn here. Numbers are in
// <data value>, exact, for programs.
type page struct {
	*report
	Style    template.CSS
	Command  string // that made the report
	Doubts   []string
	Tiles    []tile
	Sections []section // with plots
	Tables   []section // without
}

// tile is a number in large print.
type tile struct {
	Name string
	cell
}

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"quantity": func(v int64, unit string) string { return quantity(float64(v), unit) },
	"date":     func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 MST") },
}).Parse(pageText))

// writePage writes the report as a page.
func (r *report) writePage(w io.Writer) error {
	return pageTemplate.Execute(w, &page{report: r, Style: template.CSS(plotStyle), Command: r.command(), Doubts: r.doubts(),
		Tiles: r.tiles(), Sections: r.sections(), Tables: r.tables()})
}

// Plot draws the section's chart.
func (s section) Plot() template.HTML { return template.HTML(s.chart.svg(false)) }

// Shaded tells whether parts of the plot are.
func (s section) Shaded() bool { return len(s.chart.measured) > 0 }

// command returns the command line that would do it again.
func (r *report) command() string {
	words := []string{"bench", r.Scenario}
	for _, name := range slices.Sorted(maps.Keys(r.Settings)) {
		switch value := r.Settings[name]; value {
		case "", "false":
		case "true":
			words = append(words, "-"+name)
		default:
			words = append(words, "-"+name, value)
		}
	}
	if n := len(r.Runs); n > 1 {
		words = append(words, "-repeat", strconv.Itoa(n))
	}
	return strings.Join(append(words, r.Target), " ")
}

// doubts tells the errors and marks of the runs; what is said of several only once.
func (r *report) doubts() (texts []string) {
	of := map[string][]string{}
	add := func(i int, text string) {
		if of[text] == nil {
			texts = append(texts, text)
		}
		of[text] = append(of[text], strconv.Itoa(i+1))
	}
	for i, one := range r.Runs {
		if one.Error != "" && one.Error != r.Error {
			add(i, one.Error+".")
		}
		for _, m := range one.Marks {
			text := m.Text + "."
			if len(m.Of) > 0 {
				text += " It concerns " + spoken(strings.Join(m.Of, ", ")) + "."
			}
			add(i, text)
		}
	}
	if len(r.Runs) > 1 {
		for i, text := range texts {
			texts[i] = "Run " + strings.Join(of[text], ", ") + ": " + text
		}
	}
	return texts
}

// tiles chooses the numbers that are worth most.
func (r *report) tiles() (tiles []tile) {
	const figures = 3
	for _, s := range r.Summary {
		if s.Better != "" && s.Median != 0 && !strings.Contains(s.Name, " ") && len(tiles) < figures {
			tiles = append(tiles, tile{spoken(s.Name), s.cell()})
		}
	}
	names := r.timesNames()
	if len(names) == 0 {
		return tiles
	}
	for _, s := range r.Summary {
		switch s.Name {
		case names[0] + " p50", names[0] + " p99", names[0] + " max":
			tiles = append(tiles, tile{spoken(s.Name), s.cell()})
		}
	}
	return tiles
}

func (s summary) cell() cell {
	return cell{s.Median, quantity(s.Median, s.Unit), ends(s.Values, s.Unit), s.Marked}
}
