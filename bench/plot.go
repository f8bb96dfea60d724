package main

import (
	_ "embed"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// plotStyle colours the plots, in light and dark. The page has it once, a file of one plot in itself.
//
//go:embed plot.css
var plotStyle string

// chart is a plot of curves over two axes.
type chart struct {
	name     string // of its elements and its file
	title    string
	about    string // what it shows, for those who can't see it
	x, y     scale
	curves   []curve
	measured []stretch // parts of the x axis that the figures are of: the others are shaded; all when empty
	tips     []tip
}

// curve is a line through dots. Curves of one name are of one colour.
type curve struct {
	name string
	dots []dot // a y that is no number leaves a gap
}

// dot is where a curve passes, and the range of what was merged into it.
type dot struct{ x, y, low, high float64 }

// tip is what is told about the values at x when one points there.
type tip struct {
	x    float64
	text string
}

// The size of a plot in units: about a pixel of a phone each and 1.3 of a desktop, so that its text can be read on both.
const (
	plotWidth, plotHeight = 360., 244.
	plotLeft, plotRight   = 54., 12.
	plotBottom            = 42.
	textHeight            = 16.
)

// textWidth is about how wide a text will be.
func textWidth(s string) float64 { return 6.8 * float64(utf8.RuneCountInString(s)) }

// svg draws the chart. Alone it is a file of its own, with its title on it, else a part of a page that has plotStyle.
func (c *chart) svg(alone bool) string {
	d := &drawing{left: plotLeft, right: plotWidth - plotRight}
	height, label := plotHeight, textHeight
	if alone {
		const head = 26
		height, label = height+head, label+head
	}
	d.bottom = height - plotBottom
	d.open(c.name, c.title, c.about, plotWidth, height, alone)
	d.legend(c, label)
	d.stretches(c)
	d.axes(c)
	for _, one := range c.curves {
		d.curve(c, one)
	}
	d.tips(c)
	d.put(`</svg>`)
	return d.String()
}

// drawing is a plot in the making.
type drawing struct {
	strings.Builder
	left, top, right, bottom float64 // of the area that the axes span
}

func (d *drawing) put(format string, args ...any) {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = html.EscapeString(text)
		}
	}
	fmt.Fprintf(d, format+"\n", args...)
}

// open begins the picture and says what it is (title and desc, as the SVG Accessibility API Mappings have it).
func (d *drawing) open(name, title, about string, width, height float64, alone bool) {
	size := ""
	if alone {
		size = fmt.Sprintf(` xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f"`, 1.4*width, 1.4*height)
	}
	fmt.Fprintf(d, `<svg class="plot"%s viewBox="0 0 %.0f %.0f" role="img" aria-labelledby="%[4]s-title" aria-describedby="%[4]s-about">`,
		size, width, height, name)
	d.put("")
	d.put(`<title id="%s-title">%s</title><desc id="%s-about">%s</desc>`, name, title, name, about)
	if alone {
		fmt.Fprintf(d, "<style>%s</style>\n", plotStyle)
		d.put(`<rect class="panel" width="100%%" height="100%%" rx="10"/><text class="strong" x="12" y="24">%s</text>`, title)
	}
}

// names returns those of the curves, each once; the place of a name is its colour.
func (c *chart) names() (names []string) {
	for _, one := range c.curves {
		if !slices.Contains(names, one.name) {
			names = append(names, one.name)
		}
	}
	return names
}

// legend writes the y axis's label at y and, of several curves, whose colour is whose, above the area.
func (d *drawing) legend(c *chart, y float64) {
	d.put(`<text x="12" y="%.1f">%s</text>`, y, c.y.label)
	d.top = y + 10
	names := c.names()
	if len(names) < 2 {
		return
	}
	y += textHeight + 2
	const key = 22 // the coloured stroke and the space behind it
	x := d.left
	for i, name := range names {
		long := key + textWidth(name)
		if x > d.left && x+long > d.right {
			x, y = d.left, y+textHeight
		}
		d.put(`<path class="curve c%d" d="M%.1f %.1fh16"/><text x="%.1f" y="%.1f" class="name">%s</text>`, i+1, x, y-4, x+key, y, name)
		x += long + 14
	}
	d.top = y + 10
}

func (d *drawing) x(c *chart, v float64) float64 { return d.left + (d.right-d.left)*c.x.place(v) }
func (d *drawing) y(c *chart, v float64) float64 { return d.bottom - (d.bottom-d.top)*c.y.place(v) }

func (d *drawing) stretches(c *chart) {
	if len(c.measured) == 0 {
		return
	}
	d.put(`<rect class="outside" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, d.left, d.top, d.right-d.left, d.bottom-d.top)
	for _, s := range c.measured {
		from, to := d.x(c, s.From), min(d.x(c, s.To), d.right)
		d.put(`<rect class="panel" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, from, d.top, max(to-from, 1), d.bottom-d.top)
	}
}

// axes draws the grid and names it.
func (d *drawing) axes(c *chart) {
	for _, t := range c.y.ticks {
		y := d.y(c, t.at)
		d.put(`<path class="grid" d="M%.1f %.1fH%.1f"/><text class="end" x="%.1f" y="%.1f">%s</text>`, d.left, y, d.right, d.left-6, y+4, t.label)
	}
	d.put(`<path class="axis" d="M%.1f %.1fH%.1f"/>`, d.left, d.bottom, d.right)
	d.below(c.x, func(v float64) float64 { return d.x(c, v) }, plotWidth, d.bottom)
}

// below names an x axis under y, leaving out what would run into the name before.
func (d *drawing) below(x scale, at func(v float64) float64, width, y float64) {
	free := 0.
	for _, t := range x.ticks {
		d.put(`<path class="grid" d="M%.1f %.1fv5"/>`, at(t.at), y)
		half := textWidth(t.label) / 2
		middle := min(at(t.at), width-2-half) // the last may not stick out
		if middle-half < free {
			continue
		}
		free = middle + half + 6
		d.put(`<text class="middle" x="%.1f" y="%.1f">%s</text>`, middle, y+17, t.label)
	}
	d.put(`<text class="middle" x="%.1f" y="%.1f">%s</text>`, (d.left+d.right)/2, y+33, x.label)
}

func (d *drawing) curve(c *chart, one curve) {
	color := slices.Index(c.names(), one.name) + 1
	var upper, lower strings.Builder // the range: along the highs, back along the lows
	var path strings.Builder
	wide, pen := false, "M"
	for _, p := range one.dots {
		if math.IsNaN(p.y) {
			pen = "M"
			continue
		}
		x := d.x(c, p.x)
		fmt.Fprintf(&path, "%s%.1f %.1f", pen, x, d.y(c, p.y))
		pen = "L"
		wide = wide || p.low < p.high
	}
	if wide {
		for _, p := range one.dots {
			fmt.Fprintf(&upper, "%.1f %.1fL", d.x(c, p.x), d.y(c, p.high))
		}
		for _, p := range slices.Backward(one.dots) {
			fmt.Fprintf(&lower, "%.1f %.1fL", d.x(c, p.x), d.y(c, p.low))
		}
		d.put(`<path class="range c%d" d="M%sZ"/>`, color, upper.String()+strings.TrimSuffix(lower.String(), "L"))
	}
	d.put(`<path class="curve c%d" d="%s"/>`, color, path.String())
	const few = 16 // of which it matters where they are
	if len(one.dots) > few {
		return
	}
	for _, p := range one.dots {
		if !math.IsNaN(p.y) {
			d.put(`<circle class="dot c%d" cx="%.1f" cy="%.1f" r="4"/>`, color, d.x(c, p.x), d.y(c, p.y))
		}
	}
}

// tips divides the area among them: what is nearest to the pointer is told.
func (d *drawing) tips(c *chart) {
	for i, t := range c.tips {
		x := d.x(c, t.x)
		from, to := d.left, d.right
		if i > 0 {
			from = (d.x(c, c.tips[i-1].x) + x) / 2
		}
		if i+1 < len(c.tips) {
			to = (x + d.x(c, c.tips[i+1].x)) / 2
		}
		d.put(`<g class="tip"><rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"/><path d="M%.1f %.1fV%.1f"/><title>%s</title></g>`,
			from, d.top, to-from, d.bottom-d.top, x, d.top, d.bottom, t.text)
	}
}
