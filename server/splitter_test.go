package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// split returns the lines of what comes in portions, up to the first that is too long, and what is kept in the end.
func split(limit int, portions ...[]byte) (all []string, kept int) {
	var s splitter
	for _, p := range portions {
		for {
			line, rest, found := s.cut(p, limit)
			if !found {
				break
			}
			if len(line) > limit {
				return append(all, "too long"), len(s.part)
			}
			all, p = append(all, string(line)), rest
		}
	}
	return all, len(s.part)
}

func TestSplitter(t *testing.T) {
	const limit = 5
	longest := "xxxxx"
	for _, tt := range []struct {
		in   string
		want []string
		kept int
	}{
		{"", nil, 0},
		{"up", nil, 2},
		{"up\nback\r\n", []string{"up", "back"}, 0},
		{"\n\r\n\n", []string{"", "", ""}, 0},
		{"a\rb\r\r\nc\r", []string{"a\rb\r"}, 2},
		{"123456789\n", []string{"too long"}, 0},
		{longest + "\n" + longest + "\r\nup\n", []string{longest, longest, "up"}, 0},
		{longest + "\r", nil, limit + 1},
		{longest + "x\nup\n", []string{"too long"}, 0},
		{longest + "x\r\nup\n", []string{"too long"}, 0},
		{longest + "xx", []string{"too long"}, 0},
		{longest + longest, []string{"too long"}, 0},
	} {
		got, kept := split(limit, []byte(tt.in))
		if !slices.Equal(got, tt.want) || kept != tt.kept {
			t.Errorf("%.20q: %.100q, %d bytes kept; want %.100q, %d", tt.in, got, kept, tt.want, tt.kept)
		}
	}
}

// FuzzSplitter checks that portions of any sizes make no difference, that the lines are what stands between their ends,
// and that no more is kept than a line.
func FuzzSplitter(f *testing.F) {
	for i, in := range []string{"up\nback\r\nleft", "\n\r\n\r\r\n", "xxxxx\r\nxxxxx", "xxxxxx\n", "xxxxx\rx", "xxxxxxxxxx"} {
		f.Add([]byte(in), uint64(i), uint8(5))
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64, most uint8) {
		limit := int(most)
		var want []string
		for line := range strings.Lines(string(in)) {
			line, whole := strings.CutSuffix(line, "\n")
			if whole {
				line = strings.TrimSuffix(line, "\r")
			}
			if len(line) > limit && whole || len(line) > limit+1 {
				want = append(want, "too long")
				break
			}
			if whole {
				want = append(want, line)
			}
		}
		rnd := rand.New(rand.NewPCG(seed, 0))
		var portions [][]byte
		for rest := in; len(rest) > 0; {
			n := 1 + rnd.IntN(min(len(rest), 1+rnd.IntN(2*limit+1))) // sometimes small, sometimes large
			portions, rest = append(portions, rest[:n:n]), rest[n:]
		}
		whole, kept := split(limit, in)
		got, keptOfPortions := split(limit, portions...)
		if !slices.Equal(whole, want) || !slices.Equal(got, want) || kept != keptOfPortions || kept > limit+1 {
			t.Errorf("%q, %d bytes kept; in portions %q, %d; want %q", whole, kept, got, keptOfPortions, want)
		}
	})
}

func TestIsText(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "up 60": true, "{\t\"op\": \"ping\"}": true, "name Zoë 🚗": true,
		"up\x00": false, "\x1b[A": false, "a\rb": false, "\x7f": false, "\xff\xfb\x01": false, "caf\xe9": false, "\xed\xa0\x80": false,
	} {
		if isText([]byte(text)) != want {
			t.Errorf("%q: want %v", text, want)
		}
	}
}
