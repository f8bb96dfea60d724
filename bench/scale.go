package main

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// scale places the values of an axis between its ends, and names some of them.
type scale struct {
	label string                  // of the axis, with the unit where the ticks do not say it
	place func(v float64) float64 // 0 to 1
	ticks []tick
}

type tick struct {
	at    float64
	label string
}

// linear is a scale from low to high, widened to whole steps. Cores are named by the label alone.
func linear(label, unit string, low, high float64) scale {
	const steps = 4
	if unit == "cores" {
		unit = ""
	}
	step := niceStep((high-low)/steps, unit)
	low, high = math.Floor(low/step)*step, math.Ceil(high/step)*step
	if high <= low {
		high = low + step
	}
	s := scale{label: label, place: func(v float64) float64 { return (v - low) / (high - low) }}
	for i := range int(math.Round((high-low)/step)) + 1 {
		at := low + float64(i)*step
		s.ticks = append(s.ticks, tick{at, quantity(at, unit)})
	}
	return s
}

// upTo is a scale from 0 to high and no further.
func upTo(label, unit string, high float64) scale {
	s := linear(label, unit, 0, high)
	s.place = func(v float64) float64 { return v / high }
	s.ticks = slices.DeleteFunc(s.ticks, func(t tick) bool { return t.at > high })
	return s
}

// niceStep rounds a step up to one that people count in.
func niceStep(step float64, unit string) float64 {
	if !(step > 0) {
		return 1
	}
	if unit == "s" {
		for _, nice := range []float64{10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400} {
			if step > 5 && step <= nice {
				return nice
			}
		}
	}
	decade := math.Pow10(int(math.Floor(math.Log10(step))))
	for _, nice := range []float64{1, 2, 5} {
		if step <= nice*decade*(1+1e-9) {
			return nice * decade
		}
	}
	return 10 * decade
}

// logarithmic is a scale on which equal ratios are equally long, from low to high, which are above 0, widened to 1, 2 or
// 5 of a decade.
func logarithmic(label, unit string, low, high float64) scale {
	down, up := niceBelow(low), niceAbove(high)
	if up <= down {
		up = niceAbove(2 * down)
	}
	s := scale{label: label, place: func(v float64) float64 { return math.Log(v/down) / math.Log(up/down) }}
	for exponent := int(math.Floor(math.Log10(down))); math.Pow10(exponent) <= up; exponent++ {
		for _, nice := range []float64{1, 2, 5} {
			at := nice * math.Pow10(exponent)
			if few := up/down <= 100; at >= down*(1-1e-9) && at <= up*(1+1e-9) && (few || nice == 1) {
				s.ticks = append(s.ticks, tick{at, quantity(at, unit)})
			}
		}
	}
	return s
}

func niceAbove(v float64) float64 { return niceStep(v, "") }

func niceBelow(v float64) float64 {
	decade := math.Pow10(int(math.Floor(math.Log10(v))))
	for _, nice := range []float64{5, 2} {
		if nice*decade <= v*(1+1e-9) {
			return nice * decade
		}
	}
	return decade
}

// tail is the scale of percentiles that HdrHistogram plots: each further nine is as long as the one before, so that the
// rare times, which are the ones that hurt, have most of the room. The curve of count times ends where one of them is.
func tail(label string, count int64) scale {
	const finest = 1e6 // beyond p99.9999 even a long run has too few times to tell
	most := math.Log(min(max(float64(count), 100), finest))
	s := scale{label: label, place: func(percentile float64) float64 {
		rest := 1 - percentile/100
		return min(-math.Log(max(rest, 1/finest)), most) / most
	}}
	for _, label := range []string{"50", "90", "99", "99.9", "99.99", "99.999"} {
		at, _ := strconv.ParseFloat(label, 64)
		if -math.Log(1-at/100) <= most+1e-9 {
			s.ticks = append(s.ticks, tick{at, label})
		}
	}
	return s
}

// prefixes are the steps in which people read a unit, the largest first.
var prefixes = map[string][]prefix{
	"us":    {{3600e6, " h"}, {60e6, " min"}, {1e6, " s"}, {1e3, " ms"}, {1, " µs"}},
	"s":     {{3600, " h"}, {60, " min"}, {1, " s"}, {1e-3, " ms"}},
	"bytes": {{1e9, " GB"}, {1e6, " MB"}, {1e3, " kB"}, {1, " B"}},
	"1/s":   {{1e6, "M/s"}, {1e3, "k/s"}, {1, "/s"}},
	"":      {{1e6, "M"}, {1e3, "k"}, {1, ""}},
}

type prefix struct {
	from   float64
	suffix string
}

// quantity writes a value for people, to three digits; smaller counts are exact.
func quantity(v float64, unit string) string {
	steps, ok := prefixes[unit]
	if !ok {
		return strings.TrimSuffix(digits(v)+" "+unit, " ")
	}
	const exact = 100e3
	if v == 0 || unit == "" && math.Abs(v) < exact && v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	p := steps[len(steps)-1]
	for _, step := range steps {
		if math.Abs(v) >= step.from*(1-5e-4) { // what is rounded up to the step is written in it
			p = step
			break
		}
	}
	return digits(v/p.from) + p.suffix
}

// digits writes a number with three significant digits, without exponent and trailing zeros.
func digits(v float64) string {
	if v == 0 {
		return "0"
	}
	after := max(2-int(math.Floor(math.Log10(math.Abs(v)))), 0)
	s := strconv.FormatFloat(v, 'f', after, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}
