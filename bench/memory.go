package main

import "slices"

// bytesEach plots the connections that are open against what each costs, while they open. It is of the first run: a
// server, and bench, keep memory and use it again in the next.
func (r *report) bytesEach() section {
	s := section{ID: "bytes", Title: "Memory per connection", About: "Connections that are open against the resident bytes of each, above " +
		"what the process had before the first."}
	if len(r.Runs) == 0 {
		return section{}
	}
	one := r.Runs[0]
	open := one.Series.column("connections").Values
	if len(open) == 0 {
		return section{}
	}
	all := slices.Max(open)
	open = open[:slices.Index(open, all)+1] // while they open
	c := s.draw()
	c.x = upTo("connections open", "", all)
	top := 0.
	for _, name := range []string{"server_resident_bytes", "bench_resident_bytes"} {
		resident := one.Series.column(name).Values
		if len(resident) == 0 {
			continue
		}
		before := resident[0] // the first look is before the first connection, or soon after
		if name == "server_resident_bytes" && one.Process != nil {
			before = float64(one.Process.Before.Resident)
		}
		of := curve{name: shortName(name)}
		for i, n := range open {
			const few = 0.05 // of all: the pages that a process takes up are too coarse a measure of them
			if n > few*all {
				each := max(resident[i]-before, 0) / n
				of.dots = append(of.dots, dot{n, each, each, each})
				top = max(top, each)
			}
		}
		c.curves = append(c.curves, of)
		s.Head = append(s.Head, of.name)
	}
	const fewest = 3 // dots that show a course
	if len(c.curves) == 0 || len(c.curves[0].dots) < fewest {
		return section{}
	}
	c.y = linear("bytes of each", "bytes", 0, top)

	dots := c.curves[0].dots
	for i, d := range dots {
		at := row{Name: quantity(d.x, "")}
		text := at.Name + " connections"
		for _, of := range c.curves {
			at.Cells = append(at.Cells, cellOf([]float64{of.dots[i].y}, "bytes"))
			text += "\n" + of.name + " " + quantity(of.dots[i].y, "bytes")
		}
		c.tips = append(c.tips, tip{d.x, text})
		const rows = 5
		if step := max(len(dots)/rows, 1); (len(dots)-1-i)%step == 0 {
			s.Rows = append(s.Rows, at)
		}
	}
	if len(r.Runs) > 1 {
		s.Notes = append(s.Notes, "Of the first run: later ones use again what the processes have kept.")
	}
	return s
}
