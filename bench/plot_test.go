package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestQuantity(t *testing.T) {
	for _, test := range []struct {
		v          float64
		unit, want string
	}{
		{0, "us", "0"},
		{0.278, "us", "0.278 µs"},
		{42, "us", "42 µs"},
		{3146, "us", "3.15 ms"},
		{999_900, "us", "1 s"},
		{12_000_000, "us", "12 s"},
		{90e6, "us", "1.5 min"},
		{0.25, "s", "250 ms"},
		{30, "s", "30 s"},
		{5400, "s", "1.5 h"},
		{212, "bytes", "212 B"},
		{12_961_792, "bytes", "13 MB"},
		{-1500, "bytes", "-1.5 kB"},
		{298_939.4, "1/s", "299k/s"},
		{4_134_930, "1/s", "4.13M/s"},
		{19_800, "", "19800"},
		{99_900, "", "99900"},
		{324_871, "", "325k"},
		{0.333333, "", "0.333"},
		{0.9876, "cores", "0.988 cores"},
	} {
		if got := quantity(test.v, test.unit); got != test.want {
			t.Errorf("%v %q: %q; want %q", test.v, test.unit, got, test.want)
		}
	}
}

func TestScales(t *testing.T) {
	for name, test := range map[string]struct {
		scale scale
		want  string // the ticks
	}{
		"from 0":             {linear("", "1/s", 0, 298_939), "0 100k/s 200k/s 300k/s"},
		"memory":             {linear("", "bytes", 0, 13e6), "0 5 MB 10 MB 15 MB"},
		"a core":             {linear("", "", 0, 1), "0 0.5 1"},
		"seconds":            {linear("", "s", 0, 7), "0 2 s 4 s 6 s 8 s"},
		"minutes":            {linear("", "s", 0, 110), "0 30 s 1 min 1.5 min 2 min"},
		"hours":              {linear("", "s", 0, 4*3600), "0 1 h 2 h 3 h 4 h"},
		"up to":              {upTo("", "s", 4.5), "0 2 s 4 s"},
		"nothing":            {linear("", "", 0, 0), "0 1"},
		"within a decade":    {logarithmic("", "us", 1200, 8000), "1 ms 2 ms 5 ms 10 ms"},
		"two decades":        {logarithmic("", "us", 100, 10_000), "100 µs 200 µs 500 µs 1 ms 2 ms 5 ms 10 ms"},
		"many decades":       {logarithmic("", "us", 30, 2_500_000), "100 µs 1 ms 10 ms 100 ms 1 s"},
		"one value":          {logarithmic("", "us", 1000, 1000), "1 ms 2 ms"},
		"a ratio":            {logarithmic("", "", 0.97, 14.9), "0.5 1 2 5 10 20"},
		"few times":          {tail("", 200), "50 90 99"},
		"many times":         {tail("", 300_000), "50 90 99 99.9 99.99 99.999"},
		"more than it shows": {tail("", 1e9), "50 90 99 99.9 99.99 99.999"},
	} {
		var labels []string
		before := -1e-9
		for _, tick := range test.scale.ticks {
			labels = append(labels, tick.label)
			place := test.scale.place(tick.at)
			if !(place > before) || place > 1+1e-9 {
				t.Errorf("%s: %s is at %v, behind one at %v", name, tick.label, place, before)
			}
			before = place
		}
		if got := strings.Join(labels, " "); got != test.want {
			t.Errorf("%s: ticks %q; want %q", name, got, test.want)
		}
	}
	if s := tail("", 1000); s.place(0) != 0 || s.place(100) != 1 || math.Abs(s.place(99)-2./3) > 1e-9 || s.place(99.95) > 1 {
		t.Errorf("1,000 times: 0 %% at %v, 99 %% at %v, 100 %% at %v", s.place(0), s.place(99), s.place(100))
	}
}

// parse reads XML, which an SVG file must be, and returns its elements.
func parse(t *testing.T, text string) (elements []xml.StartElement) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return elements
		}
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if start, ok := token.(xml.StartElement); ok {
			elements = append(elements, start.Copy())
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// checkPlot checks that a plot is sound: well-formed, with a title, everything inside the picture.
func checkPlot(t *testing.T, svg string) {
	t.Helper()
	elements := parse(t, svg)
	var wide, high float64
	if _, err := fmt.Sscanf(attribute(elements[0], "viewBox"), "0 0 %f %f", &wide, &high); err != nil {
		t.Fatalf("viewBox: %v", err)
	}
	if i := slices.IndexFunc(elements, func(e xml.StartElement) bool { return e.Name.Local == "title" }); i < 0 ||
		attribute(elements[i], "id") != attribute(elements[0], "aria-labelledby") {
		t.Error("it has no title, or another's")
	}
	inside := func(e xml.StartElement, x, y float64) {
		if !(x >= 0 && x <= wide && y >= 0 && y <= high) { // NaN too
			t.Errorf("%v %v is at %v, %v", e.Name.Local, e.Attr, x, y)
		}
	}
	for _, e := range elements[1:] {
		number := func(name string) float64 {
			v, err := strconv.ParseFloat(attribute(e, name), 64)
			if err != nil {
				t.Errorf("%s %v: %v", e.Name.Local, e.Attr, err)
			}
			return v
		}
		switch e.Name.Local {
		case "text":
			inside(e, number("x"), number("y"))
		case "circle":
			inside(e, number("cx"), number("cy"))
		case "rect":
			if attribute(e, "x") != "" {
				inside(e, number("x"), number("y"))
				inside(e, number("x")+number("width"), number("y")+number("height"))
			}
		case "path":
			for _, pair := range strings.FieldsFunc(attribute(e, "d"), func(r rune) bool { return strings.ContainsRune("MLZ", r) }) {
				var x, y float64
				if n, _ := fmt.Sscanf(pair, "%f %f", &x, &y); n != 2 {
					t.Errorf("path of %q", pair)
				}
				inside(e, x, y)
			}
		}
	}
}

func TestChart(t *testing.T) {
	flat := func(y float64, xs ...float64) (dots []dot) {
		for _, x := range xs {
			dots = append(dots, dot{x, y, y, y})
		}
		return dots
	}
	many := make([]dot, 1000)
	for i := range many {
		y := float64(i % 7)
		many[i] = dot{float64(i), y, y / 2, y}
	}
	seconds, cores := linear("since the start", "s", 0, 1000), linear("cores", "", 0, 7)
	for name, c := range map[string]*chart{
		"one dot":      {x: seconds, y: cores, curves: []curve{{"a", flat(1, 3)}}, tips: []tip{{3, "3 s"}}},
		"zeros":        {x: seconds, y: cores, curves: []curve{{"a", flat(0, 1, 2, 3)}}},
		"gaps":         {x: seconds, y: cores, curves: []curve{{"a", append(flat(math.NaN(), 1, 2), flat(2, 3, 4)...)}}},
		"ranges":       {x: seconds, y: cores, curves: []curve{{"a", many}}},
		"phases":       {x: seconds, y: cores, curves: []curve{{"a", many}}, measured: []stretch{{From: 1, To: 400}, {From: 500, To: 999.9}}},
		"what escapes": {x: seconds, y: cores, title: `<b>&"`, curves: []curve{{"<i>", many}, {"&", many}}, tips: []tip{{3, "a < b"}}},
		"many names": {x: seconds, y: cores, curves: []curve{{"from the command to its answer", many},
			{"from the read to the line", many}, {"how late it was sent", many}, {"handshake", many}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.name = "it"
			for _, alone := range []bool{true, false} {
				checkPlot(t, c.svg(alone))
			}
			if alone := c.svg(true); !strings.HasPrefix(alone, `<svg class="plot" xmlns="http://www.w3.org/2000/svg"`) ||
				!strings.Contains(alone, "prefers-color-scheme: dark") {
				t.Error("it is no file of its own")
			}
		})
	}
	legend := (&chart{name: "it", x: seconds, y: cores, curves: []curve{{"a", many}, {"b", many}, {"a", many}}}).svg(false)
	if n := strings.Count(legend, `class="name"`); n != 2 {
		t.Errorf("%d names in the legend of two", n)
	}
	if n := strings.Count(legend, `class="curve c1"`); n != 3 { // its key and two curves
		t.Errorf("%d lines of the first colour", n)
	}
}
