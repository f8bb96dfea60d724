package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// column returns the column of that name; it has no values when there is none.
func (s *series) column(name string) column {
	for _, c := range s.Columns {
		if c.Name == name {
			return c
		}
	}
	return column{}
}

// rateColumn returns the name of what the scenario counts.
func (r *report) rateColumn() string {
	for _, one := range r.Runs {
		for _, c := range one.Series.Columns {
			if strings.HasSuffix(c.Name, "_per_s") {
				return c.Name
			}
		}
	}
	return ""
}

// overTime plots columns of the series, the runs one behind the other, from 0. A column of times is plotted by its
// logarithm, without what is 0.
func (r *report) overTime(id, title, about, label string, names ...string) section {
	const mostDots = 240 // of a curve: more would be denser than a phone's pixels
	s := section{ID: id, Title: title, About: about,
		Rows: []row{{Name: "median"}, {Name: "lowest"}, {Name: "highest"}, {Name: "last"}}}
	c := s.draw()
	unit, end, low, top, changes := "", 0., math.Inf(1), 0., false
	for _, name := range names {
		var figures [4][]float64 // a row of the table each
		for _, one := range r.Runs {
			column := one.Series.column(name)
			if len(column.Values) == 0 {
				continue
			}
			unit = column.Unit
			offset := one.Started.Sub(r.Runs[0].Started).Seconds()
			dots := merge(one.Series.regular(), column, max(mostDots/len(r.Runs), 10))
			for i := range dots {
				dots[i].x += offset
				if !math.IsNaN(dots[i].y) {
					low, top = min(low, dots[i].y), max(top, dots[i].high)
				}
			}
			end = max(end, dots[len(dots)-1].x)
			c.curves = append(c.curves, curve{shortName(name), dots})

			measured := one.Series.measured(column)
			if len(measured) == 0 {
				continue
			}
			least, most := slices.Min(measured), slices.Max(measured)
			changes = changes || least < most
			for i, v := range []float64{median(measured), least, most, measured[len(measured)-1]} {
				figures[i] = append(figures[i], v)
			}
		}
		if figures[0] == nil {
			continue
		}
		s.Head = append(s.Head, shortName(name))
		for i, values := range figures {
			s.Rows[i].Cells = append(s.Rows[i].Cells, cellOf(values, unit))
		}
	}
	steady := (id == "connections" || id == "files") && !changes
	if s.Head == nil {
		s.Rows = nil
	}
	if top == 0 || end == 0 || steady { // nothing that a plot would show
		return section{}
	}
	c.x, c.y = upTo("since the start", "s", end), linear(label, unit, 0, top)
	if unit == "us" {
		c.y = logarithmic(label, unit, low, top)
	}
	c.tips = timeTips(c.curves, unit)
	for _, one := range r.Runs {
		if from, to, ok := one.Series.phase("measure"); ok {
			offset := one.Started.Sub(r.Runs[0].Started).Seconds()
			c.measured = append(c.measured, stretch{From: offset + from, To: offset + to})
		}
	}
	return s
}

// shortName is a column's name for people; the axis says the rest.
func shortName(name string) string {
	if name == "worst_us" {
		return "longest"
	}
	for _, suffix := range []string{"_per_s", "_cores", "_resident_bytes", "_open_files"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return spoken(name)
}

// regular returns when the looks were. The last is left out if it came soon after the one before, at the end of the run:
// what is per second in a moment says nothing.
func (s *series) regular() []float64 {
	n := len(s.At)
	if n > 2 && s.At[n-1]-s.At[n-2] < (s.At[n-2]-s.At[n-3])/2 {
		n--
	}
	return s.At[:n]
}

// phase returns when the phase of that name was.
func (s *series) phase(name string) (from, to float64, ok bool) {
	for _, p := range s.Phases {
		if p.Name == name {
			return p.From, p.To, true
		}
	}
	return 0, 0, false
}

// measured returns the values that are of nothing but the measurement; all if it never came to that. They may be of all
// that was since the look before.
func (s *series) measured(c column) (values []float64) {
	from, to, ok := s.phase("measure")
	for i, v := range c.Values {
		within := i > 0 && s.At[i-1] >= from && s.At[i] <= to
		if none := c.Unit == "us" && v == 0; (within || !ok) && !none {
			values = append(values, v)
		}
	}
	return values
}

// merge makes a dot of each value or, if that are more than most, of as many neighbours as it takes: their mean and
// range, or the longest of times, whose 0 is none.
func merge(at []float64, c column, most int) (dots []dot) {
	size := (len(at) + most - 1) / most
	for from := 0; from < len(at); from += size {
		to := min(from+size, len(at))
		values := c.Values[from:to]
		d := dot{x: mean(at[from:to]), y: mean(values), low: slices.Min(values), high: slices.Max(values)}
		if c.Unit == "us" {
			d.y, d.low = d.high, d.high
			if d.high == 0 {
				d.y = math.NaN()
			}
		}
		dots = append(dots, d)
	}
	return dots
}

func mean(values []float64) float64 {
	sum := 0.
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// timeTips tell what all curves are at each dot of the first curve of a run.
func timeTips(curves []curve, unit string) (tips []tip) {
	for _, first := range curves {
		if first.name != curves[0].name {
			continue
		}
		for i, d := range first.dots {
			text := quantity(math.Round(d.x*100)/100, "s")
			for _, other := range curves {
				if i < len(other.dots) && other.dots[i].x == d.x && !math.IsNaN(other.dots[i].y) {
					text += fmt.Sprintf("\n%s %s", other.name, quantity(other.dots[i].y, unit))
				}
			}
			tips = append(tips, tip{d.x, text})
		}
	}
	return tips
}
