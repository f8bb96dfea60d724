package main

import (
	"cmp"
	"math"
	"slices"
)

// rivals is what is read of the JSON file of peers/compare.
type rivals struct {
	Summary []struct {
		Scenario, Server string
		Ratio            spread `json:"cpu_over_raw"`
		Bytes            spread `json:"resident_bytes_per_connection"`
	}
}

// spread is the middle and the ends of the rounds.
type spread struct {
	Median, Min, Max float64
	Count            int
}

// ranking is a plot of servers, the best on top, each with the spread of its rounds.
type ranking struct {
	name, title, about string
	reference          float64 // from which a ratio is measured; 0: the values are no ratios
	places             []place
}

type place struct {
	server string
	spread
}

// rankings are the plots of the comparison, one for each scenario.
func (r *rivals) rankings() (all []*ranking) {
	for _, s := range r.Summary {
		p := place{s.Server, s.Ratio}
		if s.Scenario == "idle" {
			p.spread = s.Bytes
		}
		if p.Count == 0 { // all its rounds failed
			continue
		}
		i := slices.IndexFunc(all, func(k *ranking) bool { return k.name == s.Scenario })
		if i < 0 {
			i = len(all)
			all = append(all, newRanking(s.Scenario))
		}
		all[i].places = append(all[i].places, p)
	}
	for _, k := range all {
		slices.SortStableFunc(k.places, func(a, b place) int { return cmp.Compare(a.Median, b.Median) })
		k.about += " From the best: "
		for i, p := range k.places {
			if i > 0 {
				k.about += ", "
			}
			k.about += p.server + " " + quantity(p.Median, "")
		}
		k.about += "."
	}
	return all
}

func newRanking(scenario string) *ranking {
	if scenario == "idle" {
		return &ranking{name: scenario, title: "idle: resident bytes per connection",
			about: "What an idle connection costs a server: median, least and most of the rounds."}
	}
	return &ranking{name: scenario, title: scenario + ": CPU time per message, raw C epoll = 1", reference: 1,
		about: "The server's CPU time per message over that of raw C epoll in the same round: median, least and most of the rounds."}
}

// svg draws the ranking as a file of its own.
func (k *ranking) svg() string {
	const (
		width       = 480.
		rowHeight   = 26.
		left, right = 116., 332. // between the names and the numbers
		top         = 40.
	)
	bottom := top + rowHeight*float64(len(k.places))
	const least = 0.1 // a few bytes may come out as none, or as fewer
	low, high := math.Inf(1), 1.
	for _, p := range k.places {
		low, high = min(low, max(p.Min, least)), max(high, p.Max)
	}
	x := logarithmic("median, least and most of the rounds; logarithmic", "", low, high)
	at := func(v float64) float64 { return left + (right-left)*x.place(v) }
	spot := func(v float64) float64 { return at(max(v, low)) }

	d := &drawing{left: left, right: right}
	d.open(k.name, k.title, k.about, width, bottom+42, true)
	for _, t := range x.ticks {
		d.put(`<path class="grid" d="M%.1f %.1fV%.1f"/>`, at(t.at), top, bottom)
	}
	d.below(x, at, width, bottom)
	for i, p := range k.places {
		y := top + rowHeight*(float64(i)+0.5)
		class, color := "name", 4
		if p.server == "roverd" {
			class, color = "strong", 1
		}
		d.put(`<text class="end %s" x="%.1f" y="%.1f">%s</text>`, class, left-12, y+4, p.server)
		if k.reference > 0 {
			d.put(`<path class="stem c%d" d="M%.1f %.1fH%.1f"/>`, color, at(k.reference), y, spot(p.Median))
		}
		d.put(`<path class="span c%d" d="M%.1f %.1fH%.1f"/>`, color, spot(p.Min), y, spot(p.Max))
		d.put(`<circle class="dot c%d" cx="%.1f" cy="%.1f" r="5"/>`, color, spot(p.Median), y)
		text := quantity(p.Median, "")
		if p.Min < p.Max {
			text += " (" + quantity(p.Min, "") + "–" + quantity(p.Max, "") + ")"
		}
		d.put(`<text class="%s" x="%.1f" y="%.1f">%s</text>`, class, right+14, y+4, text)
	}
	d.put(`</svg>`)
	return d.String()
}
